"""AlexNet: the counts of its three layouts, the work of the original, torchvision's tensors."""

import pytest
import torch

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.models.classify import alexnet
from cvtool.runtime.torchvision import cheap_import


def on_meta(reference):
    with torch.device("meta"):
        return weights.build(registry.parse(reference), categories=numbered(1000))


@pytest.mark.system("alexnet")
@pytest.mark.parametrize(("variant", "count"), [("original", 62_378_344), ("original-grouped", 60_965_224), ("one-tower@none", 61_100_840)])
def test_parameters(variant, count):
    assert sum(p.numel() for p in on_meta(f"alexnet.{variant}").parameters()) == count


@pytest.mark.system("alexnet")
def test_work_of_the_original_on_227_pixels():
    """Multiplications of convolutions and of full layers, as R-CNN's table counts them: twice 1077 M, and 117 M."""
    net = on_meta("alexnet.original").net
    x = torch.empty(1, 3, 227, 227, device="meta")
    convolutions = 0
    for module in net.features:
        x = module(x)
        if isinstance(module, torch.nn.Conv2d):
            convolutions += x[0, 0].numel() * module.weight.numel()
    full = sum(module.weight.numel() for module in net.classifier if isinstance(module, torch.nn.Linear))
    assert x.shape[-2:] == (6, 6)
    assert (round(convolutions / 1e6), round(2 * convolutions / 1e6), round(2 * full / 1e6)) == (1077, 2153, 117)


@pytest.mark.system("alexnet")
def test_copied_weights_give_torchvisions_logits():
    with cheap_import():
        from torchvision.models import alexnet as theirs
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in alexnet.rename(theirs(weights=None).state_dict()).items()}
    assert {key: value.shape for key, value in on_meta("alexnet@none").state_dict().items()} == shapes
    torch.manual_seed(0)
    other = theirs(weights=None, num_classes=5).eval()
    own = alexnet.build(classes=5).eval()
    own.load_state_dict(alexnet.rename(other.state_dict()))
    images = torch.randn(2, 3, 127, 95)
    with torch.no_grad():
        assert torch.equal(own(images), other(images))


def test_groups_that_do_not_divide_are_refused():
    from cvtool.errors import UsageError

    with pytest.raises(UsageError, match="groups=5"):
        alexnet.build(classes=5, groups=5)
