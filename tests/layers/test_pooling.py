"""Down and up by name: sizes, equality with torch, unpooling, and that networks run with each."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvtool import categories, weights
from cvtool.errors import UsageError
from cvtool.layers import pooling, upsample
from cvtool.layers.pooling import Down
from cvtool.layers.unpool import unpool
from cvtool.layers.upsample import Up, interpolate
from cvtool.models.segment import unet


@pytest.mark.system("pooling")
@pytest.mark.parametrize("name", pooling.NAMES)
def test_each_halves_height_and_width(name):
    down = Down(name, 4)
    assert down(torch.randn(2, 4, 12, 20)).shape == (2, 4, 6, 10)
    assert down(torch.randn(2, 4, 13, 21)).shape == (2, 4, 6, 10)
    stack = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), Down(name, 4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), Down(name, 4))
    assert stack(torch.randn(1, 3, 32, 48)).shape == (1, 4, 8, 12)


@pytest.mark.system("pooling")
def test_maximum_mean_and_convolution_are_torchs():
    x = torch.randn(2, 4, 9, 12)
    assert torch.equal(Down("max", 4)(x), F.max_pool2d(x, 2))
    assert torch.equal(Down("avg", 4)(x), F.avg_pool2d(x, 2))
    stride = Down("stride", 4)
    torch.testing.assert_close(stride(x), F.conv2d(x, stride.conv.weight, stride.conv.bias, stride=2))
    assert not list(Down("max", 4).parameters())
    assert not list(Down("avg", 4).parameters())


@pytest.mark.system("pooling")
@pytest.mark.parametrize("name", pooling.NAMES)
def test_unet_runs_and_learns_with_each(name):
    model = weights.build("unet.tiny", categories=categories.numbered(3), down=name).eval()
    maps = model.backbone(torch.randn(1, 3, 32, 48))
    assert [tuple(m.shape[-2:]) for m in maps] == [(32, 48), (16, 24), (8, 12)]
    model.classifier(maps).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if name == "stride":
        assert all(down.conv.weight.grad.abs().sum() > 0 for down in model.backbone.downs)


@pytest.mark.system("pooling")
@pytest.mark.parametrize("name", pooling.NAMES)
def test_dcgans_discriminator_halves_by_each(name):
    model = weights.build("dcgan.tiny", categories=categories.numbered(3), down=name)
    sides, x = [], torch.randn(2, 3, 16, 16)
    for layer in model.discriminator:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            sides.append(x.shape[-1])
    assert sides == [8, 4]
    assert model.judge(torch.randn(2, 3, 16, 16)).shape == (2,)
    assert any(isinstance(layer, Down) for layer in model.discriminator) == (name != "stride")


@pytest.mark.system("unpool")
@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_values_go_back_to_where_they_were_the_largest(rows, columns, seed):
    x = torch.rand(2, 3, 2 * rows + seed % 2, 2 * columns, generator=torch.Generator().manual_seed(seed))
    pooled, switches = Down("max", 3, switches=True)(x)
    back = unpool(pooled, switches, x.shape[-2:])
    assert back.shape == x.shape
    there = back != 0
    assert torch.equal(back[there], x[there])  # values at their recorded places, zeros elsewhere
    assert int(there.sum()) == int((pooled != 0).sum())
    assert torch.equal(Down("max", 3)(back), pooled)  # pool(unpool(pool(x))) = pool(x) for x >= 0
    torch.testing.assert_close(back, F.max_unpool2d(pooled, switches, 2, output_size=x.shape[-2:]))


@pytest.mark.system("unpool")
def test_other_values_take_the_same_places_and_the_gradient_finds_them():
    x = torch.tensor([[[[1.0, 5, 2, 0], [3, 4, 8, 6]]]])
    pooled, switches = Down("max", 1, switches=True)(x)
    assert pooled.flatten().tolist() == [5, 8]
    assert switches.flatten().tolist() == [1, 6]
    other = torch.tensor([[[[7.0, 9]]]], requires_grad=True)
    back = unpool(other, switches, (2, 4))
    assert back.tolist() == [[[[0, 7, 0, 0], [0, 0, 9, 0]]]]
    (back * torch.arange(8.0).view(1, 1, 2, 4)).sum().backward()
    assert other.grad.flatten().tolist() == [1, 6]


@pytest.mark.system("unpool")
def test_an_encoder_and_decoder_learn_through_unpooling():
    torch.manual_seed(0)
    first, down, up, last = nn.Conv2d(1, 6, 3, padding=1), Down("max", 6, switches=True), Up("unpool", 6, 6), nn.Conv2d(6, 1, 3, padding=1)
    parameters = [p for m in (first, up, last) for p in m.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.02)
    x = torch.rand(4, 1, 12, 12)

    def lost():
        y, switches = down(first(x).relu())
        return F.mse_loss(last(up(y, switches, (12, 12))), x)

    before = float(lost())
    for _ in range(40):
        optimizer.zero_grad()
        lost().backward()
        optimizer.step()
    assert float(lost()) < 0.5 * before


@pytest.mark.system("interp-upsample")
@pytest.mark.parametrize("name", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(10, 14), (15, 21), (7, 9), (5, 7)])
def test_interpolation_is_torchs(name, size):
    x = torch.randn(2, 3, 5, 7)
    expected = F.interpolate(x, size=size, mode=name, **({"align_corners": False} if name == "bilinear" else {}))
    assert torch.equal(interpolate(x, size, name), expected)
    assert "align_corners=False" in interpolate.__doc__


@pytest.mark.system("interp-upsample")
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_linear_ramp_stays_one_in_the_interior(factor):
    y, x = torch.meshgrid(torch.arange(8, dtype=torch.float64), torch.arange(11, dtype=torch.float64), indexing="ij")
    ramp = 3 + 2 * x - 5 * y
    large = interpolate(ramp[None, None], (8 * factor, 11 * factor))[0, 0]
    at_y, at_x = ((torch.arange(n * factor, dtype=torch.float64) + 0.5) / factor - 0.5 for n in (8, 11))  # centres in cells of the small map
    exact = 3 + 2 * at_x[None, :] - 5 * at_y[:, None]
    inside_y, inside_x = (slice((factor + 1) // 2, n * factor - (factor + 1) // 2) for n in (8, 11))
    torch.testing.assert_close(large[inside_y, inside_x], exact[inside_y, inside_x], atol=1e-12, rtol=0)
    assert not torch.allclose(large[0], exact[0])  # outside of the outermost centres values repeat


@pytest.mark.system("interp-upsample")
def test_nearest_repeats_every_pixel():
    x = torch.randn(1, 2, 3, 4)
    assert torch.equal(interpolate(x, (6, 8), "nearest"), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.system("interp-upsample")
@pytest.mark.system("transposed-conv")
@pytest.mark.parametrize("name", upsample.NAMES)
def test_each_way_up_doubles_and_meets_odd_sizes(name):
    up = Up(name, 6, 4)
    switches = torch.zeros(2, 4, 5, 7, dtype=torch.int64)
    assert up(torch.randn(2, 6, 5, 7), switches).shape == (2, 4, 10, 14)
    assert up(torch.randn(2, 6, 5, 7), switches, (11, 15)).shape == (2, 4, 11, 15)


@pytest.mark.system("interp-upsample")
@pytest.mark.system("transposed-conv")
@pytest.mark.parametrize("name", unet.TRIM)
def test_unet_enlarges_by_each(name):
    model = weights.build("unet.tiny", categories=categories.numbered(3), up=name).eval()
    (answer,) = model.predict(model.prepare([torch.full((33, 50, 3), 9, dtype=torch.uint8)]))
    assert answer.labels.shape == (33, 50)


def test_the_transposed_convolution_of_a_level_has_no_checkerboard():
    up = Up("transpose", 1, 1)
    nn.init.ones_(up.conv.weight)
    nn.init.zeros_(up.conv.bias)
    assert torch.equal(up(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 8, 8))


def test_wrong_names_list_the_right_ones():
    for make, hint in ((lambda: Down("maks", 3), "max"), (lambda: Up("bilinea", 3, 3), "bilinear"), (lambda: Down("zzz", 3), "stride")):
        with pytest.raises(UsageError) as caught:
            make()
        assert hint in caught.value.hint
    with pytest.raises(UsageError, match="unpooling needs"):
        Down("avg", 3, switches=True)
    with pytest.raises(ValueError, match="switches"):
        Up("unpool", 3, 3)(torch.zeros(1, 3, 2, 2))
