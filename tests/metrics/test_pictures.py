"""PSNR, SSIM, GMSD and LPIPS of pictures."""

import math

import numpy as np
import pytest
import torch

from cvtool.errors import InputError, ModelError, UsageError
from cvtool.metrics import gmsd, lpips, psnr, ssim


@pytest.fixture
def two(picture):
    """A picture and the same with noise."""
    true = picture(40, 32)
    noise = np.random.default_rng(0).normal(0, 12, true.shape)
    return true, np.clip(np.rint(true + noise), 0, 255).astype(np.uint8)


@pytest.mark.system("psnr")
def test_an_error_of_one_is_48_13_db_and_equal_pictures_are_infinite(picture):
    true = np.full((8, 8, 3), 100, np.uint8)
    assert psnr.psnr(true, true + 1) == pytest.approx(48.1308, abs=5e-5)
    assert psnr.psnr(true, true) == math.inf
    assert psnr.psnr(true / 255, (true + 1) / 255, peak=1.0) == pytest.approx(48.1308, abs=5e-5)


@pytest.mark.system("psnr")
def test_luma_and_border(two):
    true, made = two
    plain = lambda one: 16 + (65.481 * one[..., 0] + 128.553 * one[..., 1] + 24.966 * one[..., 2]) / 255  # noqa: E731
    y, z = (plain(one.astype(float)) for one in (true, made))
    np.testing.assert_allclose(psnr.luma(true), y, atol=1e-9)
    assert psnr.luma(np.array([[[0, 0, 0], [255, 255, 255]]])) == pytest.approx(np.array([[16, 235]]))
    wanted = 10 * math.log10(255**2 / np.mean((y - z)[4:-4, 4:-4] ** 2))
    assert psnr.compute(true, made, y=True, border=4)["PSNR"] == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(UsageError, match="leaves nothing"):
        psnr.compute(true, made, border=16)


def test_ssim_is_wangs_formula(two):
    """Window by window: the Gaussian of deviation 1.5 on 11 x 11 pixels, of each place where it lies inside."""
    true, made = (one.astype(float) for one in two)
    row = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2
    c, d = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for i in range(true.shape[0] - 10):
            for j in range(true.shape[1] - 10):
                x, y = (one[i : i + 11, j : j + 11, channel] for one in (true, made))
                m, n = (window * x).sum(), (window * y).sum()
                v, w, cov = (window * x * x).sum() - m * m, (window * y * y).sum() - n * n, (window * x * y).sum() - m * n
                values.append((2 * m * n + c) * (2 * cov + d) / ((m * m + n * n + c) * (v + w + d)))
    assert ssim.compute(*two)["SSIM"] == pytest.approx(np.mean(values), abs=1e-9)
    assert ssim.compute(two[0], two[0])["SSIM"] == pytest.approx(1, abs=1e-12)
    with pytest.raises(InputError, match="window of 11 x 11"):
        ssim.compute(two[0][:10], two[1][:10])


def test_gmsd_against_plain_loops(two):
    def gradients(y):
        height, width = y.shape
        at = lambda i, j: y[i, j] if 0 <= i < height and 0 <= j < width else 0.0  # noqa: E731
        out = np.zeros_like(y)
        for i in range(height):
            for j in range(width):
                across = sum(at(i + k, j - 1) - at(i + k, j + 1) for k in (-1, 0, 1)) / 3
                down = sum(at(i - 1, j + k) - at(i + 1, j + k) for k in (-1, 0, 1)) / 3
                out[i, j] = math.hypot(across, down)
        return out

    maps = []
    for one in two:
        y = psnr.luma(one)
        small = np.array([[y[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(y.shape[1] // 2)] for i in range(y.shape[0] // 2)])
        maps.append(gradients(small))
    m, n = maps
    assert gmsd.compute(*two)["GMSD"] == pytest.approx(((2 * m * n + 170) / (m**2 + n**2 + 170)).std(), abs=1e-12)
    assert gmsd.compute(two[0], two[0])["GMSD"] == 0


# ---- LPIPS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def net(tmp_path):
    """A random, narrow AlexNet in place of the published one, heads to it, and the files of both."""
    from cvtool import weights
    from cvtool.categories import numbered

    torch.manual_seed(0)
    model = weights.build("alexnet.tiny", categories=numbered(3)).eval()
    path = tmp_path / "trunk.safetensors"
    weights.save(model, path, weights.Info(reference="alexnet.tiny", categories=numbered(3)))
    widths = [m.out_channels for m in model.net.features if isinstance(m, torch.nn.Conv2d)]
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(widths)}
    torch.save(heads, tmp_path / "heads.pth")
    return model.net.features, list(heads.values()), str(path), str(tmp_path / "heads.pth")


def test_lpips_is_the_papers_equation(net, two):
    chain, heads, path, head_path = net
    big = [np.repeat(np.repeat(one, 3, 0), 3, 1) for one in two]
    x, y = (torch.from_numpy(one).permute(2, 0, 1)[None].double() / 127.5 - 1 for one in big)
    shift, scale = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    x, y, wanted, stage = (x - shift) / scale, (y - shift) / scale, 0.0, 0
    with torch.no_grad():
        for layer in chain.double():
            x, y = layer(x), layer(y)
            if isinstance(layer, torch.nn.ReLU):
                a, b = (one / one.norm(dim=1, keepdim=True).clamp(min=1e-10) for one in (x, y))
                _, c, h, w = a.shape
                wanted += sum(float(heads[stage][0, k, 0, 0]) * float(((a - b)[0, k] ** 2).sum()) for k in range(c)) / (h * w)
                stage += 1
    assert lpips.compute(*big, trunk=path, heads=head_path)["LPIPS"] == pytest.approx(wanted, rel=1e-5)
    assert lpips.compute(big[0], big[0], trunk=path, heads=head_path)["LPIPS"] == 0


def test_lpips_published_heads_have_the_shapes_of_their_trunks(data):
    folder = data / "checkpoints" / "metrics"
    widths = {"alex": [64, 192, 384, 256, 256], "vgg": [64, 128, 256, 512, 512], "squeeze": [64, 128, 256, 384, 384, 512, 512]}
    for net, channels in widths.items():
        found = lpips.heads_of(folder / f"lpips_v0.1_{net}_lin.pth")
        assert [len(head) for head in found] == channels
        assert all((head >= 0).all() for head in found)
        from cvtool.download import sha256

        assert sha256(folder / f"lpips_v0.1_{net}_lin.pth") == lpips.NETS[net]["heads"]["sha256"]


def test_lpips_tells_what_is_wrong(tmp_path, net):
    _, _, path, head_path = net
    with pytest.raises(UsageError, match="unknown net 'resnet'"):
        lpips.make(net="resnet")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no heads"):
        lpips.make(trunk=path, heads=str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match="cannot look at 3 x 3 pixels"):
        lpips.compute(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3), np.uint8), trunk=path, heads=head_path)
    with pytest.raises(ModelError, match="7 layers"):
        lpips.make(net="squeeze", trunk=path, heads=head_path)
