"""DeepLab v3: dilation instead of stride, one set of weights for output strides 16 and 8; and torchvision's numbers through our cut."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50, segmentation

from cvtool.errors import UsageError
from cvtool.layers.resnet import NarrowResNet
from cvtool.models.segment import deeplab_v3
from cvtool.models.segment._semantic import dilate
from cvtool.results import SemanticMap

pytestmark = pytest.mark.system("deeplab-v3")


def build(variant, classes=5, **changes):
    torch.manual_seed(0)
    return deeplab_v3.build(classes=classes, **deeplab_v3.VARIANTS[variant] | changes)


def test_the_published_facts_are_torchvisions_own(published_facts):
    enums = (segmentation.DeepLabV3_ResNet50_Weights, segmentation.DeepLabV3_ResNet101_Weights, segmentation.DeepLabV3_MobileNet_V3_Large_Weights)
    published_facts(deeplab_v3, enums=enums)


def test_parameters_without_the_auxiliary_classifier():
    with torch.device("meta"):
        assert sum(p.numel() for p in build("resnet50", 21, aux=False).parameters()) == 39_638_869


@pytest.mark.parametrize(("variant", "name"), [("resnet50", "deeplabv3_resnet50"), ("mobilenet", "deeplabv3_mobilenet_v3_large")])
def test_maps_equal_torchvisions(variant, name, against_torchvision):
    against_torchvision(build(variant), getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, aux_loss=True))


def convolutions(stage):
    return [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in stage.children()]


@pytest.mark.parametrize("rate", [2, 4])
@pytest.mark.parametrize("make", [lambda: resnet50(weights=None).layer4, lambda: NarrowResNet((8, 8, 8, 8)).stages[3]])
def test_a_dilated_stage_begins_at_half_its_rate_and_has_no_stride(make, rate):
    first, *rest = convolutions(dilate(make(), rate))
    for blocks, expected in ((([first]), rate // 2), (rest, rate)):
        for conv in (c for block in blocks for c in block):
            assert conv.stride == (1, 1)
            if conv.kernel_size == (3, 3):
                assert conv.dilation == conv.padding == (expected, expected)


def test_it_is_torchvisions_way_of_dilating():
    torch.manual_seed(0)
    ours = resnet50(weights=None).eval()
    theirs = resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    theirs.load_state_dict(ours.state_dict())
    dilate(ours.layer3, 2), dilate(ours.layer4, 4)
    x = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("variant", "coarse"), [("resnet50", "resnet50-s16"), ("tiny", "tiny-s16")])
def test_one_set_of_weights_serves_both_output_strides(variant, coarse):
    """Names and shapes are the same, the map is twice as dense, and the pyramid's rates double so that they span the same pixels."""
    fine, wide = build(variant).eval(), build(coarse).eval()
    fine.load_state_dict(wide.state_dict(), strict=True)
    batch = fine.prepare([torch.randint(0, 255, (64, 96, 3), dtype=torch.uint8)])
    batch.images = batch.images[..., :64, :96].contiguous()
    with torch.no_grad():
        assert fine(batch)["out"].shape[-2:] == (8, 12)
        assert wide(batch)["out"].shape[-2:] == (4, 6)
    rates = [[m.dilation[0] for m in model.classifier[0].modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)] for model in (fine, wide)]
    assert rates[0] == [2 * r for r in rates[1]]
    assert rates[0] == ([12, 24, 36] if variant == "resnet50" else [2, 4, 6])


def quarters():
    """Four pictures whose brightness in each quarter tells its class."""
    generator = torch.Generator().manual_seed(0)
    pictures, truths = [], []
    for _ in range(4):
        labels = torch.randint(0, 3, (2, 2), generator=generator).repeat_interleave(32, 0).repeat_interleave(32, 1)
        noise = torch.randint(-20, 20, (64, 64, 3), generator=generator)
        pictures.append(((labels * 90 + 30)[..., None] + noise).clamp(0, 255).to(torch.uint8).numpy())
        truths.append(SemanticMap(labels))
    return pictures, truths


def test_the_curriculum_learns_at_16_and_goes_on_at_8():
    """What was learnt at output stride 16 is worth as much at 8, where training goes on."""

    def learn(model, turns):
        model.train()
        batch = model.prepare(*quarters())
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        values = []
        for _ in range(turns):
            losses = model.losses(batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            values.append(float(losses["pixels"].detach()))
        return values

    coarse, fine = build("tiny-s16", 3, image_size=64), build("tiny", 3, image_size=64)
    before = learn(coarse, 25)
    fresh = learn(build("tiny", 3, image_size=64), 1)[0]
    fine.load_state_dict(coarse.state_dict(), strict=True)
    after = learn(fine, 10)
    assert before[-1] < 0.5 * before[0]
    assert after[0] < 0.7 * fresh
    assert after[-1] < after[0]


def test_a_batch_of_one_can_be_trained():
    """The pyramid's image mean is one value a channel, of which torch's own normalisation takes no deviation."""
    model = build("tiny", 3).train()
    pictures, truths = quarters()
    losses = model.losses(model.prepare(pictures[:1], truths[:1]))
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())


@pytest.mark.parametrize(("variant", "stride"), [("resnet50", 4), ("mobilenet", 8)])
def test_an_output_stride_that_cannot_be(variant, stride):
    with pytest.raises(UsageError, match=r"output.stride"):
        build(variant, output_stride=stride)
