"""What the tests of the wrapped semantic networks share."""

import numpy as np
import pytest
import torch


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (60, 84, 3), dtype=np.uint8), rng.integers(0, 255, (60, 84, 3), dtype=np.uint8)]


@pytest.fixture
def published_facts():
    """check(module, enums): every WEIGHTS entry is what the installed torchvision states of the file of the same address."""

    def check(module, *, enums):
        known = {w.url: w for enum in enums for w in enum}
        seen = set()
        for key, facts in module.WEIGHTS.items():
            theirs = known[facts["url"]]
            seen.add(facts["url"])
            assert f"-{facts['sha256']}.pth" in theirs.url
            metrics = theirs.meta["_metrics"]["COCO-val2017-VOC-labels"]
            own = {"mIoU": metrics["miou"] / 100, "pixel_accuracy": metrics["pixel_acc"] / 100}
            assert facts["metrics"] == ({} if "-s16" in key else pytest.approx(own))
            with torch.device("meta"):
                model = module.build(classes=21, **module.VARIANTS[key.partition("@")[0]])
            assert sum(p.numel() for p in model.parameters()) == theirs.meta["num_params"]
            assert model.prepare.size == theirs.transforms.keywords["resize_size"]
        assert seen == set(known)

    return check


@pytest.fixture
def against_torchvision(pictures):
    """compare(ours, theirs): the same keys, the publisher's own resizing, the same map."""

    def compare(ours, theirs, *, size=64):
        from dataclasses import replace

        from torchvision.transforms._presets import SemanticSegmentation

        assert list(ours.state_dict()) == list(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict(), strict=True)
        ours.eval(), theirs.eval()
        ours.prepare = replace(ours.prepare, size=size)
        batch = ours.prepare(pictures)
        images = torch.stack([SemanticSegmentation(resize_size=size)(torch.from_numpy(p).permute(2, 0, 1)) for p in pictures])
        torch.testing.assert_close(batch.images, images, atol=1 / 255 / 0.224 + 1e-5, rtol=0)  # a grey level of rounding: we resize bytes
        images = batch.images
        with torch.no_grad():
            expected = theirs(images)
            found = ours(batch)
            maps = ours.predict(batch)
        for name, logits in found.items():
            enlarged = torch.nn.functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
            torch.testing.assert_close(enlarged, expected[name], atol=1e-4, rtol=1e-4)
        resized = torch.nn.functional.interpolate(expected["out"], size=pictures[0].shape[:2], mode="bilinear", align_corners=False)
        for one, other in zip(maps, resized, strict=True):
            scores, labels = other.softmax(dim=0).max(dim=0)
            assert (one.labels == labels).float().mean() > 0.999
            torch.testing.assert_close(one.scores, scores, atol=1e-4, rtol=1e-4)

    return compare
