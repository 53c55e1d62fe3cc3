"""EAST: maps at a quarter of the picture's size, 32 channels, 1 + 5 or 8 of them told; perfect maps give the words back; it learns eight pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cvtool import weights
from cvtool.batch import Batch
from cvtool.data.augment.geometry import window
from cvtool.data.dataset import SPARED
from cvtool.errors import UsageError
from cvtool.images import decode
from cvtool.metrics import icdar
from cvtool.models.ocr.east import EAST, Join, enlarged, mean_inside, resnet50
from cvtool.ops import quads as shapes
from cvtool.ops.text_geometry import UNCOUNTED, encode_quad, encode_rbox, middles
from cvtool.results import Quads

pytestmark = pytest.mark.system("east")
WORDS = np.concatenate([
    shapes.of_boxes([[12, 10, 92, 34], [110, 12, 150, 30], [12, 60, 44, 120]]),
    [[[70.0, 60], [150, 90], [141, 114], [61, 84]]],
])  # fmt: skip

STEPS = 100  # of the overfitting


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    return weights.build(f"east.{variant}", categories=[{"id": 1, "name": "text"}], **changes).eval()


def batch_of(model, words=WORDS, spared=None, size=(130, 168)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    target = Quads(torch.tensor(words, dtype=torch.float32), spared=torch.zeros(len(words), dtype=torch.bool) if spared is None else spared)
    return model.prepare([pixels], [target])


@pytest.mark.parametrize(("geometry", "channels"), [("rbox", 5), ("quad", 8)])
@pytest.mark.parametrize("variant", ["small", "tiny"])
def test_maps_are_a_quarter_of_the_picture_and_told_by_32_channels(variant, geometry, channels):
    model = built(variant, geometry=geometry)
    seen = {}
    model.merge.register_forward_hook(lambda module, inputs, output: seen.update(merged=output))
    with torch.no_grad():
        raw = model(batch_of(model))
    assert seen["merged"].shape == (1, 32, 160 // 4, 192 // 4)
    assert raw["score"].shape == (1, 40, 48)
    assert raw["geometry"].shape == (1, 40, 48, channels)
    assert (model.score.weight.shape, model.geometry.weight.shape) == ((1, 32, 1, 1), (channels, 32, 1, 1))
    assert {key: value.dtype for key, value in raw.items()} == {"score": torch.float32, "geometry": torch.float32}
    if geometry == "rbox":
        assert (raw["geometry"][..., :4] > 0).all()
        assert (raw["geometry"][..., 4].abs() <= np.pi / 4).all()


def test_the_sizes():
    assert sum(p.numel() for p in built("small").parameters()) < 4e6
    with torch.device("meta"):
        base = built("base")
        published = set(resnet50().state_dict())
    keys = {key.removeprefix("backbone.body.") for key in base.state_dict() if key.startswith("backbone")}
    assert published - keys == {"fc.weight", "fc.bias"}  # its published weights fit
    assert [join.mix[0].out_channels for join in base.merge.joins] == [128, 64, 32]


def test_joining_before_enlarging_is_the_1x1_convolution_of_both_maps_side_by_side():
    torch.manual_seed(0)
    join = Join(6, 4, 5).eval()
    coarse, fine = torch.randn(2, 6, 3, 5), torch.randn(2, 4, 6, 10)
    both = torch.cat([F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False), fine], 1)
    wanted = F.conv2d(both, torch.cat([join.coarse.weight, join.fine.weight], 1))
    torch.testing.assert_close(join(coarse, fine), join.mix(F.relu(join.norm(wanted))))


class Perfect(EAST):
    """Its maps are the truth of the batch that it was given."""

    def forward(self, batch: Batch):
        owner, regions = self.truth(batch)
        rows, columns = (axis.flatten() for axis in torch.meshgrid(*(torch.arange(side) for side in owner.shape[1:]), indexing="ij"))
        encode = encode_rbox if self.kind == "rbox" else encode_quad
        values = encode(middles(rows, columns), regions[owner.clamp(min=0)].flatten(0, 2))
        return {"score": torch.where(owner >= 0, 8.0, -8.0), "geometry": values.unflatten(0, owner.shape)}


@pytest.mark.parametrize("geometry", ["rbox", "quad"])
def test_perfect_maps_give_the_words_back_and_cost_nothing(geometry):
    model = built(geometry=geometry)
    model.__class__ = Perfect
    batch = batch_of(model)
    (found,) = model.predict(batch)
    assert len(found) == len(WORDS)
    overlap = shapes.iou(np.repeat(found.quads.numpy(), 4, 0), np.tile(WORDS, (4, 1, 1))).reshape(4, 4)
    best = overlap.argmax(1)
    assert sorted(best) == [0, 1, 2, 3]
    np.testing.assert_allclose(found.quads.numpy(), WORDS[best], atol=1e-2)
    assert (found.scores > 0.95).all()
    losses = model.losses(batch)
    assert all(value < 0.01 for value in losses.values()), losses


@pytest.mark.parametrize("score_loss", ["ce", "dice"])
@pytest.mark.parametrize(("geometry", "names"), [("rbox", {"score", "geometry", "angle"}), ("quad", {"score", "geometry"})])
def test_every_form_trains(geometry, names, score_loss):
    model = built(geometry=geometry, score_loss=score_loss).train()
    batch = batch_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sums = []
    for _ in range(12):
        losses = model.losses(batch)
        assert set(losses) == names
        sums.append(sum(losses.values()))
        optimizer.zero_grad()
        sums[-1].backward()
        optimizer.step()
    assert sums[-1] < 0.8 * sums[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_answers_are_in_the_pictures_own_pixels_surest_first_and_as_many_as_asked_for():
    model = built(image_size=320)
    model.__class__ = Perfect
    batch = batch_of(model)
    assert batch.places[0].inner_width == 320
    (found,) = model.predict(batch, max_det=3)
    assert len(found) == 3
    assert (np.diff(found.scores) <= 0).all()
    overlap = shapes.iou(np.repeat(found.quads.numpy(), 4, 0), np.tile(WORDS, (3, 1, 1))).reshape(3, 4)
    assert (overlap.max(1) > 0.98).all()
    assert len(model.predict(batch, conf=0.9999)[0]) == 0  # sigmoid(8) = 0.9997


def test_small_pictures_are_looked_at_enlarged_and_answered_in_their_own_pixels():
    model = built(enlarge=1.5)
    model.__class__ = Perfect
    batch = batch_of(model)  # 160 x 192 with its padding
    large, scale = enlarged(batch, 1.5)
    assert large.images.shape[-2:] == (256, 288)
    np.testing.assert_allclose(scale, [288 / 192, 256 / 160])
    assert large.padding[0, 210:].all()
    assert not large.padding[0, :200, :250].any()
    truth = replace(batch.targets[0], quads=batch.targets[0].quads * torch.tensor(scale, dtype=torch.float32))
    model.forward = lambda seen: Perfect.forward(model, replace(seen, targets=[truth]))
    (found,) = model.predict(batch)
    overlap = shapes.iou(np.repeat(found.quads.numpy(), 4, 0), np.tile(WORDS, (4, 1, 1))).reshape(4, 4)
    assert (overlap.max(0) > 0.97).all()
    pages = Batch(torch.zeros(1, 3, 1536, 1024), torch.zeros(1, 1536, 1024, dtype=torch.bool), batch.places)
    assert enlarged(pages, 1.5)[0].images.shape[-2:] == (2048, 1376)
    assert enlarged(enlarged(pages, 1.5)[0], 1.5)[0].images.shape[-2:] == (2048, 1376)


def test_regions_of_a_few_sure_pixels_are_dropped():
    model = built()
    score, geometry = torch.full((1, 40, 48), -8.0), torch.zeros(1, 40, 48, 5)
    geometry[..., :4] = torch.tensor([12.0, 40, 12, 40])
    score[0, 20, 20] = 8  # one cell, which tells of a region of 24 x 80 pixels
    model.forward = lambda batch: {"score": score, "geometry": geometry}
    assert len(model.predict(batch_of(model))[0]) == 0
    (found,) = model.predict(batch_of(model), conf=0.0, max_det=1)
    assert 0 < found.scores[0] < 0.2


def test_what_need_not_be_found_and_what_is_no_picture_is_not_counted():
    model = built()
    owner, _ = model.truth(batch_of(model, spared=torch.tensor([True, False, False, False])))
    assert (owner[0, 3:8, 3:23] == UNCOUNTED).all()
    assert (owner[0, 33:] == UNCOUNTED).all()  # the picture is 130 pixels high, its batch 160
    assert (owner[0, :32, 42:] == UNCOUNTED).all()
    assert (owner[0, :32, :42] != UNCOUNTED).any()
    two = replace(batch_of(model), targets=None)
    with torch.inference_mode():
        assert len(model.predict(two, conf=0.0)[0]) > 0
    nothing = model.losses(batch_of(model, words=np.zeros((0, 4, 2))))
    assert all(value.isfinite() for value in nothing.values())
    assert nothing["geometry"] == 0


def test_the_score_of_a_region_is_the_mean_over_its_inner_part():
    score = np.zeros((20, 20), np.float32)
    score[4:8, :10] = 0.8
    found = mean_inside(score, shapes.of_boxes([[0, 8, 80, 40], [0, 60, 80, 80]]))  # inner part: 9.6 to 70.4, of which 0.8 up to 40
    assert found[0] == pytest.approx(0.8 * 0.5, abs=0.06)
    assert found[1] == 0
    assert mean_inside(score, np.zeros((0, 4, 2))).shape == (0,)


def test_wrong_names_are_refused_with_the_right_ones():
    for change in ({"geometry": "box"}, {"score_loss": "bce"}, {"backbone": "vgg"}):
        with pytest.raises(UsageError, match=next(iter(change))) as caught:
            built(**change)
        assert caught.value.hint


def parts_of(folder, count, size):
    """`count` parts of ICDAR 2015's pictures, `size` pixels a side, each around a word that fits in, and their truth."""
    out = []
    for path in sorted((folder / "images").glob("*.jpg")):
        lines = [line.split(",", 8) for line in (folder / "gt" / f"gt_{path.stem}.txt").read_text("utf-8-sig").splitlines() if line.strip()]
        corners = np.array([line[:8] for line in lines], np.float32).reshape(-1, 4, 2)
        wide, high = shapes.sides(corners)
        read = (high >= 14) & np.array([line[8] != SPARED for line in lines])
        if len(fits := np.flatnonzero(read & (wide < size - 20))):
            pixels = decode(path)
            left, top = (corners[fits[0]].mean(0) - size / 2).clip(0, np.array(pixels.shape[1::-1]) - size).astype(int).tolist()
            out.append(window(pixels, Quads(torch.tensor(corners), spared=torch.tensor(~read)), left, top, left + size, top + size))
        if len(out) == count:
            return out
    raise AssertionError("too few pictures")


def test_it_learns_eight_pictures(data):
    """F1 above 0.9 by the protocol of ICDAR 2015, on parts of its pictures; what the cut left of a word, and words below 14 pixels, are spared."""
    pairs = parts_of(data / "ocr_detect_ic15", 8, 128)
    model = built().train()
    batch = model.prepare([pixels for pixels, _ in pairs], [target for _, target in pairs])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    turns = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(model.losses(batch).values()).backward()
        optimizer.step()
        turns.step()
    sums = np.zeros(4)
    with torch.inference_mode():
        for (_, target), found in zip(pairs, model.eval().predict(batch), strict=True):
            true = icdar.Regions([*target.quads.numpy()], [None] * len(target), target.spared.tolist())
            said = icdar.Regions([*found.quads.numpy()], [None] * len(found), [False] * len(found), found.scores.tolist())
            sums += icdar.counts(true, said)[0]
    assert sums[0] >= 8
    assert icdar.figures(sums[None], read=False)["hmean"][0] > 0.9
