"""What the tests of classifiers share: counting without memory, equality with another library's module, and real pictures."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvtool import registry, weights
from cvtool.categories import numbered


@pytest.fixture
def parameters():
    """`parameters("resnet.50", classes=10, se_ratio=16)`: how many the model has, counted on the meta device."""

    def count(reference, classes=1000, **changes):
        with torch.device("meta"):
            model = weights.build(reference, categories=numbered(classes), **changes)
        return sum(p.numel() for p in model.parameters())

    return count


@pytest.fixture
def same_as():
    """compare(reference, theirs, size): our module has their tensors by name and shape, and their logits with their weights in it."""

    def compare(reference, theirs, *, size=64, classes=1000, **changes):
        torch.manual_seed(0)
        ours = weights.build(reference, categories=numbered(classes), **changes)
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):  # fresh statistics of 0 and 1 would hide a norm that is not asked
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        state = theirs.state_dict()
        assert {key: value.shape for key, value in ours.net.state_dict().items()} == {key: value.shape for key, value in state.items()}
        ours.net.load_state_dict(state)
        images = torch.randn(1, 3, size, size)
        with torch.no_grad():
            expected, found = theirs.eval()(images), ours.eval()(images)
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)
        return ours

    return compare


@pytest.fixture
def torchvisions():
    """check("resnet", {"18": resnet18}): weights of those variants are torchvision's: address, hash, figures, and how pictures enter."""
    from torchvision.models import get_model_weights

    def check(name, builders):
        entry = registry.find(name)
        for variant, builder in builders.items():
            theirs = {w.url: w for w in get_model_weights(builder)}
            mine = {key: facts for key, facts in entry.weights.items() if key.startswith(f"{variant}@")}
            assert mine
            for key, facts in mine.items():
                other = theirs[facts["url"]]
                assert facts["url"].rpartition("-")[2].partition(".")[0] == facts["sha256"]
                metrics = other.meta["_metrics"]["ImageNet-1K"]
                assert facts["metrics"] == pytest.approx({"top1": metrics["acc@1"] / 100, "top5": metrics["acc@5"] / 100})
                preset = other.transforms()
                with torch.device("meta"):
                    prepare = weights.build(f"{name}.{variant}", categories=numbered(2), **facts.get("arguments", {})).prepare
                assert prepare.size == preset.crop_size[0], key
                assert round(prepare.size / prepare.crop_fraction) == preset.resize_size[0], key
                assert prepare.interpolation == preset.interpolation.value, key
                assert (list(prepare.mean), list(prepare.std)) == (preset.mean, preset.std)

    return check


@pytest.fixture
def maps():
    """`maps(model, type, size)`: the shapes that every module of a type is given and gives, in order, of a picture on the meta device."""

    def trace(model, kind, size):
        seen = []
        handles = [m.register_forward_hook(lambda m, i, o: seen.append((m, i[0].shape, o.shape))) for m in model.modules() if isinstance(m, kind)]
        model.eval()(torch.empty(1, 3, size, size, device="meta"))
        for handle in handles:
            handle.remove()
        return seen

    return trace


@pytest.fixture
def macs(maps):
    """`macs(model, size)`: multiplications of the convolutions and linear layers for one picture; the model lies on the meta device."""

    def count(model, size):
        total = 0
        for module, _, out in maps(model, (nn.Conv2d, nn.Linear), size):
            per = module.weight[0].numel()  # multiplications an output
            total += per * out.numel()
        return total

    return count


@pytest.fixture(scope="session")
def cifar10_files(data):
    """(class, bytes of the JPEG file) of the 10,000 pictures of CIFAR-10's test set."""
    with tarfile.open(data / "cifar10" / "cifar10_jpg_test.tar.gz") as tar:
        return [(member.name.split("/")[1], tar.extractfile(member).read()) for member in tar if member.isfile()]


@pytest.fixture(scope="session")
def cifar10_fifth(cifar10_files):
    """Every fifth of them: pixels, 2,000 32 32 3 uint8, and class names."""
    chosen = cifar10_files[::5]
    return np.stack([np.asarray(Image.open(io.BytesIO(content))) for _, content in chosen]), np.array([name for name, _ in chosen])


@pytest.fixture
def eight(cifar10_files, tmp_path):
    """A folder of four class folders of two photographs."""
    for name in ("airplane", "cat", "frog", "ship"):
        contents = [content for other, content in cifar10_files if other == name][:2]
        (tmp_path / "eight" / name).mkdir(parents=True)
        for i, content in enumerate(contents):
            (tmp_path / "eight" / name / f"{i}.jpg").write_bytes(content)
    return tmp_path / "eight"
