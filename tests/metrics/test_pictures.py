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
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio

    assert psnr.compute(true, made)["PSNR"] == pytest.approx(peak_signal_noise_ratio(true, made), abs=1e-9)
    y, z = (rgb2ycbcr(one)[..., 0] for one in (true, made))
    np.testing.assert_allclose(psnr.luma(true), y, atol=1e-9)
    wanted = peak_signal_noise_ratio(y[4:-4, 4:-4], z[4:-4, 4:-4], data_range=255)
    assert psnr.compute(true, made, y=True, border=4)["PSNR"] == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(UsageError, match="leaves nothing"):
        psnr.compute(true, made, border=16)


def test_ssim_is_wangs_by_torchmetrics(two):
    image = pytest.importorskip("torchmetrics.image")
    true, made = two
    tensors = [torch.from_numpy(one.copy()).permute(2, 0, 1)[None].double() for one in two]
    theirs = image.StructuralSimilarityIndexMeasure(data_range=255.0, sigma=1.5, kernel_size=11)(tensors[1], tensors[0])
    assert ssim.compute(true, made)["SSIM"] == pytest.approx(float(theirs), abs=1e-6)
    assert ssim.compute(true, true)["SSIM"] == pytest.approx(1, abs=1e-12)
    with pytest.raises(InputError, match="window of 11 x 11"):
        ssim.compute(true[:10], made[:10])


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


# ---- LPIPS ------------------------------------------------------------------------------------------------------------------------------------------


def trunk(tmp_path, monkeypatch):
    """A random AlexNet, narrow enough to be quick, in place of the published one, and heads to it."""
    from cvtool import weights
    from cvtool.categories import numbered

    torch.manual_seed(0)
    model = weights.build("alexnet.tiny", categories=numbered(3))
    path = tmp_path / "trunk.safetensors"
    weights.save(model, path, weights.Info(reference="alexnet.tiny", categories=numbered(3)))
    widths = [m.out_channels for m in model.net.features if isinstance(m, torch.nn.Conv2d)]
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(widths)}
    torch.save(heads, tmp_path / "heads.pth")
    return model, heads, str(path), str(tmp_path / "heads.pth")


def test_lpips_is_torchmetrics_with_the_same_weights(tmp_path, monkeypatch, two):
    functional = pytest.importorskip("torchmetrics.functional.image.lpips")
    model, heads, path, head_path = trunk(tmp_path, monkeypatch)

    class Theirs(functional._LPIPS):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.scaling_layer = functional.ScalingLayer()
            self.L, self.spatial, self.lpips = 5, False, True
            chain = model.net.features.eval()

            def net(x):
                found = []
                for number, layer in enumerate(chain):
                    x = layer(x)
                    if number in lpips.NETS["alex"]["layers"]:
                        found.append(x)
                return found

            self.net = net
            self.lins = [torch.nn.Conv2d(w.shape[1], 1, 1, bias=False) for w in heads.values()]
            for lin, weight in zip(self.lins, heads.values(), strict=True):
                lin.weight.data = weight
            self.resize = None

    pair = [torch.from_numpy(np.repeat(np.repeat(one, 3, 0), 3, 1)).permute(2, 0, 1)[None].float() / 127.5 - 1 for one in two]
    with torch.no_grad():
        wanted = float(Theirs()(*pair, normalize=False).squeeze())
    big = [np.repeat(np.repeat(one, 3, 0), 3, 1) for one in two]
    mine = lpips.compute(*big, trunk=path, heads=head_path)["LPIPS"]
    assert mine == pytest.approx(wanted, rel=1e-5)
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


def test_lpips_tells_what_is_wrong(tmp_path, monkeypatch):
    _, _, path, head_path = trunk(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="unknown net 'resnet'"):
        lpips.make(net="resnet")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no heads"):
        lpips.make(trunk=path, heads=str(tmp_path / "other.pth"))
    with pytest.raises(ModelError, match="7 layers"):
        lpips.make(net="squeeze", trunk=path, heads=head_path)
