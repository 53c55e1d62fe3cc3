"""Inception-ResNet: the blocks' branches, the scaled sum, timm's tensors and logits."""

import pytest
import torch

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.models.classify import inception_resnet
from cvtool.runtime.torchvision import cheap_import


def kernels(branch):
    convolutions = [branch] if isinstance(branch, inception_resnet.Conv) else list(branch)
    return [conv.conv.kernel_size for conv in convolutions]


@pytest.mark.system("inception-resnet")
def test_block_a_and_b_have_the_papers_branches():
    a, b = inception_resnet.block_a(320, 1), inception_resnet.block_b(1088, 1)
    assert [kernels(a.get_submodule(f"branch{i}")) for i in range(3)] == [[(1, 1)], [(1, 1), (3, 3)], [(1, 1), (3, 3), (3, 3)]]
    assert [kernels(b.get_submodule(f"branch{i}")) for i in range(2)] == [[(1, 1)], [(1, 1), (1, 7), (7, 1)]]
    assert (a.conv2d.weight.shape, b.conv2d.weight.shape) == ((320, 128, 1, 1), (1088, 384, 1, 1))


@pytest.mark.system("inception-resnet")
def test_branches_are_concatenated_brought_to_width_and_added():
    torch.manual_seed(0)
    block = inception_resnet.block_a(40, 8).eval()
    x = torch.randn(2, 40, 7, 7)
    together = torch.cat([block.get_submodule(f"branch{i}")(x) for i in range(3)], 1)
    assert torch.allclose(block(x), torch.relu(x + 0.17 * block.conv2d(together)), atol=1e-6)
    torch.nn.init.zeros_(block.conv2d.weight)
    torch.nn.init.zeros_(block.conv2d.bias)
    assert torch.equal(block(x), torch.relu(x))


@pytest.mark.system("inception-resnet")
def test_version_2_is_timms():
    with cheap_import():
        import timm
    with torch.device("meta"):
        other = timm.create_model("inception_resnet_v2")
        own = weights.build(registry.parse("inception-resnet.v2"), categories=numbered(1000))
    assert sum(p.numel() for p in own.parameters()) == 55_843_464
    wanted = inception_resnet.rename(other.state_dict())
    assert {key: value.shape for key, value in own.state_dict().items()} == {key: value.shape for key, value in wanted.items()}


@pytest.mark.slow
@pytest.mark.system("inception-resnet")
def test_copied_weights_give_timms_logits():
    with cheap_import():
        import timm
    torch.manual_seed(0)
    other = timm.create_model("inception_resnet_v2", num_classes=5).eval()
    own = inception_resnet.build(classes=5).eval()
    own.load_state_dict(inception_resnet.rename(other.state_dict()))
    images = torch.randn(1, 3, 139, 139)
    with torch.no_grad():
        assert torch.allclose(own(images), other(images), atol=1e-5)
