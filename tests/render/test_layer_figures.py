"""The figures that explain layers: their numbers are those of the operations, and the pictures show them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cvtool.errors import ModelError, UsageError
from cvtool.render import figures
from cvtool.render.figures import attention, checkerboard, conv, patches, positional_encoding, receptive_field, unpool
from cvtool.render.figures._heat import cells, heat, signed
from cvtool.render.figures._page import GROUND


@pytest.fixture
def photo(picture):
    return picture(160, 120, seed=3)


def shown(name, options, image=None):
    """The figure's pixels: something is drawn on the page."""
    out = np.asarray(figures.draw(name, image, options))
    assert out.ndim == 3
    assert (out != GROUND).any(axis=2).mean() > 0.25
    return out


@pytest.mark.system("conv2d")
def test_fixed_kernels_are_selected_and_shown(photo):
    one, three = shown("conv", {"filter": "sobel"}, photo), shown("conv", {"filter": "gaussian,laplacian,scharr-y"}, photo)
    assert three.shape[1] > 1.5 * one.shape[1]  # a panel a kernel
    flat = np.full((50, 60, 3), 90, np.uint8)
    assert conv._shown("gaussian", np.full((4, 4), 90.0)).tolist() == np.full((4, 4, 3), 90).tolist()
    assert not np.array_equal(shown("conv", {"filter": "sobel"}, flat), one[: 10**6])
    lines = [words for words, _ in conv._lines("gaussian", np.zeros((2, 2)))]
    assert lines[2].split() == ["6", "24", "36", "24", "6"]
    assert lines[4].endswith("/ 256")


@pytest.mark.system("unpool")
@pytest.mark.parametrize("window", [2, 3, 4])
def test_switches_are_torchs(window):
    values = np.random.default_rng(window).random((25, 31))
    low, places = unpool.switches(values, window)
    pooled, indices = F.max_pool2d(torch.from_numpy(values)[None, None], window, return_indices=True)
    assert np.array_equal(low, pooled[0, 0].numpy())
    assert np.array_equal(places, indices[0, 0].numpy())
    back = unpool.unpooled(low, places, values.shape)
    assert np.array_equal(back, F.max_unpool2d(pooled, indices, window, output_size=values.shape)[0, 0].numpy())
    assert np.array_equal(unpool.switches(back, window)[0], low)


@pytest.mark.system("unpool")
def test_unpooling_is_drawn(photo):
    out = shown("unpool", {"window": 4}, photo)
    quarter = out.shape[1] // 4
    lit = [(out[110:420, i * quarter + 40 : (i + 1) * quarter - 20].max(axis=2) > 60).mean() for i in range(4)]
    assert lit[2] < 0.5 * lit[1]  # one cell of sixteen is left


@pytest.mark.system("transposed-conv")
@pytest.mark.parametrize(("count", "kernel", "stride"), [(8, 3, 2), (5, 4, 2), (4, 5, 3), (3, 2, 2), (6, 1, 1)])
def test_the_checkerboard_is_that_of_a_transposed_convolution(count, kernel, stride):
    made = F.conv_transpose2d(torch.ones(1, 1, count, count), torch.ones(1, 1, kernel, kernel), stride=stride)
    assert np.array_equal(checkerboard.overlaps(count, kernel, stride), made[0, 0].int().numpy())


@pytest.mark.system("transposed-conv")
def test_kernel_3_stride_2_is_uneven_and_4_is_not():
    uneven, even = checkerboard.overlaps(8, 3, 2), checkerboard.overlaps(8, 4, 2)
    assert set(uneven[2:-2, 2:-2].ravel()) == {1, 2, 4}
    assert set(even[3:-3, 3:-3].ravel()) == {4}
    both = shown("checkerboard", {"kernel": 3, "stride": 2, "count": 8})
    alone = shown("checkerboard", {"kernel": 4, "stride": 2, "count": 8})
    assert both.shape[1] > 1.7 * alone.shape[1]
    shades = {tuple(v) for v in heat(np.array([1, 2, 4]), 0, 4)}
    assert shades <= {tuple(v) for v in both[100:640, 30:540].reshape(-1, 3)}


@pytest.mark.system("dilated-conv")
@pytest.mark.parametrize("rates", [[1], [1, 2], [1, 2, 4], [2, 2], [1, 2, 4, 8]])
def test_the_ways_are_the_gradient_of_kernels_of_ones(rates):
    line = receptive_field.paths(rates)
    size = len(line)
    x = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    y = x
    for rate in rates:
        y = F.conv2d(y, torch.ones(1, 1, 3, 3, dtype=torch.float64), padding=rate, dilation=rate)
    (gradient,) = torch.autograd.grad(y[0, 0, size // 2, size // 2], x)
    assert np.array_equal(np.outer(line, line), gradient[0, 0].numpy())


@pytest.mark.system("dilated-conv")
def test_the_field_is_drawn():
    assert len(receptive_field.paths([1, 2, 4])) == 15
    out = shown("receptive-field", {"rates": "1,2,4"})
    assert (out == receptive_field.FRAME).all(axis=2).sum() > 2000
    shown("receptive-field", {"rates": "3,3"})  # with holes


@pytest.mark.system("positional-encoding")
@pytest.mark.parametrize(("length", "channels"), [(64, 128), (10, 7), (1, 1), (300, 16)])
def test_the_code_of_positions_is_drawn(length, channels):
    shown("positional-encoding", {"length": length, "channels": channels})
    assert positional_encoding.SIDE > 500


@pytest.mark.system("patch-embed")
def test_patches_are_drawn_apart(photo):
    out = shown("patches", {"patch": 16, "side": 224}, photo)
    assert out.shape[1] > 700
    assert patches._bytes(2 * (224 * 224) ** 2) == "5.04 GB"
    assert patches._bytes(96 * 2 * (224 * 224) ** 2) == "483.4 GB"
    shown("patches", {"patch": 50, "side": 224}, photo)


@pytest.mark.system("attention")
@pytest.mark.parametrize("query", ["class", "mean", "80,60"])
@pytest.mark.parametrize("layer", [0, -1])
def test_where_a_vision_transformer_looks(photo, query, layer):
    out = shown("attention", {"model": "vit.tiny@none", "layer": layer, "query": query}, photo)
    assert bool((out == attention.MARK).all(axis=2).sum() > 200) == (query == "80,60")


@pytest.mark.system("attention")
def test_the_weights_that_are_drawn_are_the_networks(photo):
    from cvtool import weights

    model, _ = weights.load("vit.tiny@none")
    batch = model.prepare([photo])
    every = attention.looked(model, batch)
    assert len(every) == 4
    with torch.no_grad():
        x, _ = model.net.patch_embed(batch.images)
        x = model.net.positions(torch.cat([model.net.class_token, x], 1), (8, 8))
        first = model.net.encoder.layers[0]
        torch.testing.assert_close(every[0], first.attention.weights(first.norm1(x))[0])


def test_a_grid_is_found_in_the_tokens():
    assert attention.grid_of(197, 224, 224) == (1, 14, 14)
    assert attention.grid_of(196, 224, 224) == (0, 14, 14)
    assert attention.grid_of(201, 224, 224) == (5, 14, 14)
    assert attention.grid_of(1 + 8 * 12, 64, 96) == (1, 8, 12)
    with pytest.raises(ModelError, match="no grid"):
        attention.grid_of(120, 224, 224)


@pytest.mark.system("rnn-attention")
def test_attention_over_a_sequence_is_drawn():
    out = shown("rnn-attention", {"tokens": 4, "turns": 20})
    assert out.shape[1] > 1200


ATTENTION = {"model": "vit.tiny@none", "layer": -1, "query": "class"}


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("conv", {"filter": "sobol"}, UsageError),
        ("conv", {"filter": ","}, UsageError),
        ("unpool", {"window": 0}, UsageError),
        ("checkerboard", {"kernel": 2, "stride": 3, "count": 8}, UsageError),
        ("receptive-field", {"rates": "1.5"}, UsageError),
        ("receptive-field", {"rates": "64,64"}, UsageError),
        ("positional-encoding", {"length": 0, "channels": 4}, UsageError),
        ("patches", {"patch": 1, "side": 224}, UsageError),
        ("patches", {"patch": 300, "side": 224}, UsageError),
        ("rnn-attention", {"tokens": 99, "turns": 1}, UsageError),
        ("attention", ATTENTION | {"layer": 4}, UsageError),
        ("attention", ATTENTION | {"query": "a,b"}, UsageError),
        ("attention", ATTENTION | {"query": "1000,5"}, UsageError),
        ("attention", ATTENTION | {"model": "resnet.tiny@none"}, ModelError),
    ],
)
def test_options_that_make_no_sense_are_errors(name, options, error, photo):
    with pytest.raises(error):
        figures.draw(name, photo if figures.pictured(name) else None, options)


def test_colours_of_values():
    assert heat(np.array([0.0, 1.0])).tolist()[0] == [8, 8, 20]
    light = heat(np.linspace(0, 1, 20)).astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(light) > 0).all()  # more is lighter
    below, nought, above = signed(np.array([-2.0, 0, 2]))
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert nought.max() < 40
    assert heat(np.zeros((2, 2))).shape == (2, 2, 3)
    assert cells(heat(np.eye(3)), 90, [["1", "", ""]] * 3, gap=1).size == (90, 90)
