"""GoogLeNet: table 1, the four branches, heads that only train, torchvision's tensors."""

import pytest
import torch

from cvtool import registry, weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.models.classify import googlenet
from cvtool.results import Labels
from cvtool.runtime.torchvision import cheap_import


def on_meta(reference):
    with torch.device("meta"):
        return weights.build(registry.parse(reference), categories=numbered(1000))


@pytest.mark.system("googlenet")
@pytest.mark.parametrize(("variant", "count"), [("paper", 6_998_552), ("batch-norm@none", 6_624_904)])
def test_parameters_without_the_side_heads(variant, count):
    model = on_meta(f"googlenet.{variant}")
    assert sum(p.numel() for name, p in model.named_parameters() if ".aux" not in name) == count


@pytest.mark.system("googlenet")
def test_sizes_of_the_table():
    net = on_meta("googlenet.paper").net
    images = torch.empty(1, 3, 224, 224, device="meta")
    stem = net.maxpool2(net.conv3(net.conv2(net.maxpool1(net.conv1(images)))))
    assert stem.shape == (1, 192, 28, 28)
    last, a, d = net.maps(images)
    assert (last.shape, a.shape, d.shape) == ((1, 1024, 7, 7), (1, 512, 14, 14), (1, 528, 14, 14))


@pytest.mark.system("googlenet")
def test_a_module_is_four_branches_side_by_side():
    torch.manual_seed(0)
    module = googlenet.Inception(12, 4, 6, 8, 2, 4, 3, large=5, batch_norm=False)
    x = torch.randn(2, 12, 9, 9)
    out = module(x)
    assert out.shape == (2, 4 + 8 + 4 + 3, 9, 9)

    def run(conv, y):
        return torch.relu(torch.nn.functional.conv2d(y, conv.conv.weight, conv.conv.bias, padding=conv.conv.kernel_size[0] // 2))

    pooled = torch.nn.functional.max_pool2d(x, 3, 1, 1)  # pooled first, then projected
    by_hand = [run(module.branch1, x), run(module.branch2[1], run(module.branch2[0], x)), run(module.branch3[1], run(module.branch3[0], x)),
               run(module.branch4[1], pooled)]  # fmt: skip
    assert torch.allclose(out, torch.cat(by_hand, 1), atol=1e-6)
    assert [c.conv.kernel_size[0] for c in (module.branch1, *module.branch2, *module.branch3, module.branch4[1])] == [1, 1, 3, 1, 5, 1]


@pytest.mark.system("googlenet")
def test_side_heads_only_train():
    torch.manual_seed(0)
    model = googlenet.build(classes=4, **googlenet.VARIANTS["tiny"])
    batch = model.prepare([torch.randint(0, 255, (70, 80, 3), dtype=torch.uint8)] * 2, [Labels(torch.tensor([i])) for i in range(2)])
    assert isinstance(batch, Batch)
    model.train()
    losses = model.losses(batch)
    assert list(losses) == ["cross_entropy", "aux1", "aux2"]
    assert 0 < float(losses["aux1"]) < 0.3 * 10
    model.eval()
    assert list(model.losses(batch)) == ["cross_entropy"]
    with torch.no_grad():
        before = model(batch.images)
        for p in [*model.net.aux1.parameters(), *model.net.aux2.parameters()]:
            p.fill_(float("nan"))
        assert torch.equal(model(batch.images), before)


@pytest.mark.system("googlenet")
def test_copied_weights_give_torchvisions_logits():
    with cheap_import():
        from torchvision.models import GoogLeNet
    torch.manual_seed(0)
    other = GoogLeNet(num_classes=6, init_weights=False, transform_input=False).eval()
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    own = googlenet.build(classes=6).eval()
    own.load_state_dict(googlenet.rename(other.state_dict()))
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(own(images), other(images), atol=1e-5)
