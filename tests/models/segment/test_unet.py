"""U-Net: the paper's count and sizes, what is joined with what, and windows that give the very map of the whole picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvtool import registry, weights
from cvtool.data import inputs
from cvtool.data.dataset import mask_of
from cvtool.data.formats import instances
from cvtool.errors import UsageError
from cvtool.metrics.mean_iou import MeanIoU
from cvtool.models.segment import unet
from cvtool.records import Record
from cvtool.tasks import segment, train

pytestmark = pytest.mark.system("unet")
SMALL = {"widths": (4, 6, 8), "norm": "batch"}


def build(**arguments):
    torch.manual_seed(0)
    return unet.build(**{"classes": 3} | arguments).eval()


def undecided(net):
    """The same with the statistics of a picture and logits that are alike on average, so that all classes occur."""
    with torch.no_grad():
        for _ in range(30):
            net.train().forward(net.prepare([pixels()]))
        logits = net.eval().forward(net.prepare([pixels()]))["out"].transpose(0, 1).flatten(1)  # K pixels
        deviation = logits.std(1)
        net.classifier.out.bias.copy_((net.classifier.out.bias - logits.mean(1)) / deviation)
        net.classifier.out.weight.div_(deviation.view(-1, 1, 1, 1))
    return net


def pixels(height=70, width=93, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def predict(net, picture):
    with torch.inference_mode():
        return net.predict(net.prepare([picture]))[0].numpy()


# --- the paper's figures -------------------------------------------------------------------------------------------------------------------------


def test_the_papers_network_has_31_030_658_parameters_and_makes_388_of_572():
    with torch.device("meta"):
        net = unet.build(classes=2, in_channels=1, padding="valid", **unet.VARIANTS["full"])
        maps = net.backbone(torch.zeros(1, 1, 572, 572))
        assert sum(p.numel() for p in net.parameters()) == 31_030_658
        assert [(m.shape[1], m.shape[2]) for m in maps] == [(64, 568), (128, 280), (256, 136), (512, 64), (1024, 28)]  # figure 1
        assert net.classifier(maps).shape == (1, 2, 388, 388)
        assert net.margin == (572 - 388) // 2
        assert net.entering(388) == 572
        assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
        convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert len(convolutions) == 23  # "in total the network has 23 convolutional layers"


def test_the_small_one_has_few_parameters_and_reads_color():
    net = build(classes=11, **unet.VARIANTS["small"])
    assert sum(p.numel() for p in net.parameters()) < 2_000_000
    assert next(net.parameters()).shape[1] == 3


def test_convolutions_begin_with_a_deviation_of_root_two_over_n():
    net = build(widths=(64, 96))
    for conv, inputs_ in ((net.backbone.levels[1][3], 96 * 9), (net.classifier.ups[0].conv, 96), (net.classifier.levels[0][0], 128 * 9)):
        assert float(conv.weight.std()) == pytest.approx((2 / inputs_) ** 0.5, rel=0.05)
        assert not conv.bias.any()


# --- the skips -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["skip", "deep"])
def test_the_way_down_comes_first_in_the_concatenation(side):
    net = build(widths=(4, 6))
    first = net.classifier.levels[0][0]
    skip, deep = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)
    with torch.no_grad():
        first.weight[:, slice(4, None) if side == "skip" else slice(None, 4)] = 0  # leaves one half of what is joined
        before = net.classifier([skip, deep])
        assert torch.equal(net.classifier([skip, deep + 1]), before) == (side == "skip")
        assert torch.equal(net.classifier([skip + 1, deep]), before) == (side == "deep")


def test_it_is_the_printed_network():
    """Spelled out: pool, convolve twice; enlarge, crop, join, convolve twice; no padding anywhere."""
    net, x = build(widths=(4, 6, 8), padding="valid"), torch.randn(2, 3, 64, 52)

    def twice(x, block):
        return block[3](x := block[0](x).relu()).relu() if isinstance(block, nn.Sequential) else x

    skips = []
    for i, level in enumerate(net.backbone.levels):
        x = twice(x if i == 0 else nn.functional.max_pool2d(x, 2), level)
        skips.append(x)
    for skip, up, level in zip(reversed(skips[:-1]), net.classifier.ups, net.classifier.levels, strict=True):
        x = nn.functional.conv_transpose2d(x, up.conv.weight, up.conv.bias, stride=2)
        top, left = ((a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:], strict=True))
        x = twice(torch.cat([skip[:, :, top : top + x.shape[2], left : left + x.shape[3]], x], 1), level)
    assert x.shape[-2:] == (64 - 2 * net.margin, 52 - 2 * net.margin)
    expected = net.classifier.out(x)
    torch.manual_seed(0)
    assert torch.equal(net.classifier(net.backbone(_again())), expected)


def _again():
    build(widths=(4, 6, 8), padding="valid")  # draws what came before the picture
    return torch.randn(2, 3, 64, 52)


# --- borders and windows -------------------------------------------------------------------------------------------------------------------------


def test_the_border_is_mirrored_for_each_picture_of_a_batch_on_its_own():
    net = build(padding="valid", **SMALL)
    one, other = pixels(41, 37), pixels(64, 61, seed=1)
    batch = net.prepare([one, other])
    wide = unet.mirrored(batch.images, batch.places, 20, 110, 120)
    for image, picture in zip(wide, (one, other), strict=True):
        height, width = picture.shape[:2]
        expected = np.pad(picture, ((20, 90 - height), (20, 100 - width), (0, 0)), mode="reflect")
        torch.testing.assert_close(image, net.prepare([expected]).images[0, :, :110, :120])
    together = predict_all(net, batch)
    for picture, found in zip((one, other), together, strict=True):
        alone = predict(net, picture)
        assert (found.labels == alone.labels).all()
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)


def predict_all(net, batch):
    with torch.inference_mode():
        return [result.numpy() for result in net.predict(batch)]


def test_without_padding_the_inside_of_a_picture_knows_nothing_of_its_border():
    """The two ways differ at the border only, where one sees zeros and the other the picture in a mirror."""
    same, valid = build(padding="same", **SMALL), build(padding="valid", **SMALL)
    valid.load_state_dict(same.state_dict())
    picture = pixels(96, 96)
    one, other = predict(same, picture), predict(valid, picture)
    assert one.labels.shape == other.labels.shape == (96, 96)
    assert np.abs(one.scores - other.scores)[:4].max() > 1e-3
    down = {"down": "avg", "widths": (4,) * 2, "norm": "batch"}  # grids of both ways agree where the margin is even in cells
    assert build(padding="valid", **down).margin % 2 == 0


WAYS = [
    {"padding": padding, "up": up, "down": down, "stem": stem}
    for padding in ("same", "valid")
    for up, down, stem in (("transpose", "max", 1), ("bilinear", "avg", 1), ("nearest", "stride", 2), ("bilinear", "max", 2))
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_windows_give_the_map_of_the_whole_picture(way, tmp_path):
    """Through the verb: `segment --tile`, on a picture that no window holds."""
    net = undecided(build(**SMALL, **way))
    step = net.prepare.multiple_of
    tile = 2 * net.context + 2 * step
    picture = pixels(tile + 3 * step + 5, tile + step + 1)
    Image.fromarray(picture).save(tmp_path / "a.png")
    path = save(net, tmp_path, SMALL | way)
    whole, tiled = (labels_of(segment.segment(records(tmp_path), path, tile=size)) for size in (None, tile))
    assert np.bincount(whole.ravel(), minlength=3).min() > 50
    assert (whole == tiled).mean() > 0.9999  # float rounding may turn a tie
    assert (whole == predict(net, picture).labels).all()


def test_windows_that_are_too_small_may_have_seams_and_it_is_said(tmp_path):
    net = build(**SMALL)
    Image.fromarray(pixels(90, 150)).save(tmp_path / "a.png")
    path, said = save(net, tmp_path, SMALL), []
    list(segment.segment(records(tmp_path), path, tile=48, report=said.append))
    assert len(said) == 1
    assert f"--tile {2 * net.context + net.prepare.multiple_of}" in said[0]
    list(segment.segment(records(tmp_path), path, tile=48, overlap=0.5, report=said.append))
    assert len(said) == 1


def test_a_norm_over_the_whole_picture_has_no_windows_without_seams():
    assert build(widths=(4, 8), norm="instance").context is None
    assert build(widths=(4, 8), norm="batch").context == 10


def save(net, folder, arguments):
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    net.categories = [{"id": i, "name": f"class{i}"} for i in range(3)]
    info = weights.Info(reference="unet.tiny", arguments=arguments, categories=net.categories, prepare=net.prepare)
    return str(weights.save(net, folder / "net.safetensors", info))


def records(folder):
    return [Record(file_name=str(folder / "a.png"))]


def labels_of(found):
    (record,) = found
    labels = np.full((record["height"], record["width"]), 255)
    for a in record["annotations"]:
        labels[mask_of(a["segmentation"], *labels.shape)] = a["category_id"]
    return labels


# --- choices -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{"padding": "full"}, {"up": "unpool"}, {"down": "min"}, {"norm": "bach"}, {"in_channels": 4}, {"widths": (8,)}]
)
def test_what_there_is_no_such_thing_of_is_refused(arguments):
    with pytest.raises(UsageError) as caught:
        build(**{"widths": (4, 6)} | arguments)
    assert caught.value.hint or "widths" in str(caught.value)


@pytest.mark.parametrize(("depth", "widths"), [(1, (4, 6)), (2, (4, 6, 8)), (4, (4, 6, 8, 16, 32))])
def test_depth_takes_the_first_widths_and_doubles_the_last(depth, widths):
    net = build(widths=(4, 6, 8), depth=depth)
    assert tuple(level[0].out_channels for level in net.backbone.levels) == widths
    assert net.prepare.multiple_of == 2**depth
    assert [(up.conv.in_channels, up.conv.out_channels) for up in net.classifier.ups] == list(pairwise(reversed(widths)))


def test_one_channel_is_the_pictures_luma():
    net = undecided(build(in_channels=1, **SMALL))
    picture = pixels()
    luma = np.asarray(Image.fromarray(picture).convert("L"))
    gray = np.repeat(luma[..., None], 3, 2)
    assert next(net.parameters()).shape[1] == 1
    apart = [np.abs(predict(net, picture).scores - predict(net, other).scores).mean() for other in (gray, pixels(seed=3))]
    assert apart[0] < 0.01  # luma is rounded to whole numbers
    assert apart[1] > 0.1


def test_dropout_stands_at_the_end_of_the_way_down():
    net = build(widths=(4, 6, 8), dropout=0.5)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5]
    shallow, middle, deep = net.backbone.train()(torch.rand(1, 3, 16, 16))
    first, _, _ = net.backbone.eval()(torch.rand(1, 3, 16, 16))
    assert shallow.shape == first.shape
    assert torch.equal(net.backbone.train()(x := torch.rand(1, 3, 16, 16))[0], net.backbone(x)[0])
    assert not torch.equal(net.backbone(x)[2], net.backbone(x)[2])
    assert middle.shape[1] == 6
    assert deep.shape[1] == 8


# --- real pictures -------------------------------------------------------------------------------------------------------------------------------


def scenes(data: Path, folder: Path, count: int = 8) -> Path:
    """Crops of CamVid, where a street begins, as folders of pictures and maps."""
    folder.mkdir()
    (folder / "classes.txt").write_bytes((data / "camvid" / "classes.txt").read_bytes())
    for line in (data / "camvid" / "train.txt").read_text().splitlines()[: 40 * count : 40]:
        for kind, name in zip(("images", "masks"), line.split(), strict=True):
            (folder / kind).mkdir(exist_ok=True)
            Image.open(data / "camvid" / name).crop((160, 150, 288, 246)).save(folder / kind / f"{Path(name).stem}.png")
    return folder


@pytest.mark.slow
def test_it_learns_eight_street_scenes_by_heart(data, tmp_path):
    folder = scenes(data, tmp_path / "scenes")
    settings = {"augment": "none", "epochs": 240, "batch_size": 8, "ema": 0.9, "loss": "dice+ce", "lr": 1e-2, "save_every": 240}
    run = train.train("unet.small", folder, output=tmp_path / "runs", layers=[settings], split_val="none")
    metric = MeanIoU(11)
    for record in segment.segment(inputs.read([str(folder / "images")]), str(run)):
        truth = np.asarray(Image.open(folder / "masks" / Path(record["file_name"]).name))
        found = np.full(truth.shape, 255)
        for a in record["annotations"]:
            found[mask_of(a["segmentation"], *truth.shape)] = a["category_id"]
        metric.update(np.where(found == 255, 0, found), np.where(truth == 11, 255, truth))
    assert metric.compute()["mIoU"] > 0.9


def test_the_shipped_one_finds_nuclei(data):
    """Dice of the nuclei against everything else, over all pictures of val."""
    truth = list(instances.read(data / "nuclei", split="val"))
    both = either = 0
    for true, record in zip(truth, segment.segment(truth, registry.parse("unet.small@nuclei")), strict=True):
        maps = []
        for objects in (true["annotations"], record["annotations"]):
            maps.append(np.zeros((true["height"], true["width"]), bool))
            for a in objects:
                maps[-1] |= mask_of(a["segmentation"], *maps[-1].shape)
        both += (maps[0] & maps[1]).sum()
        either += maps[0].sum() + maps[1].sum()
    assert 2 * both / either > 0.85
