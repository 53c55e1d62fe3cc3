"""What the tests of the wrapped one-stage detectors share."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cvtool.results import Boxes

BOXES = [torch.tensor([[10.0, 12, 60, 70], [40, 30, 95, 62], [5, 50, 30, 75]]), torch.tensor([[20.0, 8, 90, 110]])]
LABELS = [torch.tensor([0, 2, 1]), torch.tensor([3])]


def pictures():
    """Two pictures of different sizes, so that one is padded."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (80, 100, 3), dtype=np.uint8), rng.integers(0, 255, (120, 96, 3), dtype=np.uint8)]


@pytest.fixture
def against_torchvision():
    """compare(ours, theirs, shift): torchvision's whole model, its own resizing included, and ours say the same of the same pictures."""

    def compare(ours, theirs, *, shift, conf, atol=1e-3):
        theirs.load_state_dict(ours.state_dict(), strict=True)
        ours.eval(), theirs.eval()
        images = [torch.from_numpy(p).permute(2, 0, 1) / 255 for p in pictures()]
        theirs.score_thresh = conf
        with torch.no_grad():
            expected, found = theirs(images), ours.predict(ours.prepare(pictures()), conf=conf)
        for one, other in zip(expected, found, strict=True):
            assert len(one["boxes"]) > 3
            torch.testing.assert_close(other.boxes, one["boxes"], atol=atol, rtol=1e-4)
            torch.testing.assert_close(other.scores, one["scores"], atol=1e-5, rtol=1e-4)
            assert torch.equal(other.labels, one["labels"] - shift)
        ours.train(), theirs.train()
        truth = [{"boxes": b, "labels": k + shift} for b, k in zip(BOXES, LABELS, strict=True)]
        with torch.no_grad():
            wanted = theirs(images, truth)
            losses = ours.losses(ours.prepare(pictures(), [Boxes(b, k) for b, k in zip(BOXES, LABELS, strict=True)]))
        return {name: float(v) for name, v in wanted.items()}, {name: float(v) for name, v in losses.items()}

    return compare


@pytest.fixture
def batch_of():
    """batch_of(model): the two pictures with their truth."""
    return lambda model: model.prepare(pictures(), [Boxes(b, k.clamp(max=2)) for b, k in zip(BOXES, LABELS, strict=True)])


@pytest.fixture
def thresholds_pass_through():
    """check(model): conf, iou and max_det act on one call and leave nothing behind, whatever other threads ask for meanwhile."""

    def check(model, *, conf):
        from concurrent.futures import ThreadPoolExecutor

        model.eval()
        batch = model.prepare(pictures())

        def ask(settings):
            with torch.no_grad():
                return model.predict(batch, **settings)

        before = ask({"conf": conf})
        assert all(len(r) > 3 for r in before)
        scores = torch.cat([r.scores for r in before])
        higher = float(scores.median())
        kinds = [{"conf": conf}, {"conf": higher}, {"conf": conf, "max_det": 2}, {"conf": conf, "iou": 0.05}]
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(ask, kinds * 3))
        for settings, answer in zip(kinds * 3, answers, strict=True):
            for result, first in zip(answer, before, strict=True):
                if "max_det" in settings:
                    assert torch.equal(result.scores, first.scores[:2])
                elif "iou" in settings:
                    assert len(result) <= len(first)
                else:
                    assert (result.scores > settings["conf"]).all()
                    if settings["conf"] == conf:
                        assert torch.equal(result.boxes, first.boxes)
        assert any(len(a) < len(b) for a, b in zip(answers[3], before, strict=True))

    return check


@pytest.fixture
def smaller():
    """smaller(model, size): the same model with another size of its pictures; keeps a published model's test within seconds."""

    def change(model, size, max_size):
        model.prepare = replace(model.prepare, size=size, max_size=max_size)
        return model

    return change


@pytest.fixture
def published_facts():
    """check(module, classes): every WEIGHTS entry is what the installed torchvision states of the file of the same address."""

    def check(module, *, classes, enums):
        known = {w.url: w for enum in enums for w in enum}
        for key, facts in module.WEIGHTS.items():
            theirs = known.pop(facts["url"])
            assert f"-{facts['sha256']}.pth" in theirs.url
            assert facts["metrics"]["AP"] == pytest.approx(theirs.meta["_metrics"]["COCO-val2017"]["box_map"] / 100)
            with torch.device("meta"):
                model = module.build(classes=classes, **module.VARIANTS[key.partition("@")[0]])
            assert sum(p.numel() for p in model.parameters()) == theirs.meta["num_params"]
        assert not known

    return check
