"""What moves with a picture, against brute force: a shape is drawn, picture and truth are changed, and the shape is looked for again."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.batch import Prepare
from cvtool.data import augment
from cvtool.data.augment import geometry
from cvtool.results import Boxes, Instances, Labels, SemanticMap

MOVES = ["rotate:40", "translate:0.3", "shear:25", "shift:9", "shift:9,mode=grey", "resized-crop:0.4,1", "scale-crop-flip:0.7,1.6",
         "flip,rotate:20,shear:10,vflip", "randaugment:2,8", "crop:0.5,1", "scale:1.5,1"]  # fmt: skip


def scene(seed: int, height: int = 60, width: int = 76) -> tuple[np.ndarray, Instances]:
    """Red: an ellipse at 255, all of it one object. Green: a dot of 5 x 5 about its keypoint. What is neither is 0."""
    draw = np.random.default_rng(seed)
    rx, ry = draw.uniform(7, 16, 2)
    cx, cy = draw.uniform(rx, width - rx), draw.uniform(ry, height - ry)
    y, x = np.mgrid[:height, :width] + 0.5
    mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
    kx, ky = int(cx + draw.uniform(-0.4, 0.4) * rx), int(cy + draw.uniform(-0.4, 0.4) * ry)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[mask, 0] = 255
    pixels[ky - 2 : ky + 3, kx - 2 : kx + 3, 1] = 255
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = torch.tensor([[cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]], dtype=torch.float32)
    points = torch.tensor([[[kx, ky, 2], [0, 0, 0]]], dtype=torch.float32)
    return pixels, Instances(box, torch.tensor([0]), masks=torch.from_numpy(mask)[None], keypoints=points)


def bounds(mask: np.ndarray) -> list[int]:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]


def grown(mask: np.ndarray, by: int = 1) -> np.ndarray:
    """With its neighbours, `by` pixels far."""
    wide = np.pad(mask, by)
    height, width = mask.shape
    return np.any([wide[y : y + height, x : x + width] for y in range(2 * by + 1) for x in range(2 * by + 1)], 0)


def red(pixels: np.ndarray) -> np.ndarray:
    """Where the object is seen: grey from outside is 114, tones stay below half."""
    return pixels[..., 0] > 127


def check(pixels: np.ndarray, moved: Instances) -> None:
    """The object's truth is what is seen, to a pixel at its edge."""
    seen, mask = red(pixels), moved.masks[0].numpy()
    assert mask.shape == seen.shape
    assert not (seen & ~grown(mask)).any()
    assert not (mask & ~grown(seen)).any()
    assert np.abs(moved.boxes[0].numpy() - bounds(seen)).max() <= 1.01
    x, y, v = moved.keypoints[0, 0].tolist()
    assert moved.keypoints[0, 1].tolist() == [0, 0, 0]
    inner = (pixels[..., 1] > 127) & (pixels[..., 1] != augment.FILL)
    if v and 4 < x < pixels.shape[1] - 5 and 4 < y < pixels.shape[0] - 5:
        ys, xs = np.nonzero(inner)
        assert abs(xs.mean() - x) < 0.75
        assert abs(ys.mean() - y) < 0.75


@pytest.mark.system("aug-basic")
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 100_000), text=st.sampled_from([m for m in MOVES if "randaugment" not in m]))
def test_boxes_masks_and_keypoints_stay_on_what_was_drawn(seed: int, text: str) -> None:
    pixels, target = scene(seed)
    before = pixels.copy()
    pipeline = augment.pipeline(text)
    out, moved = pipeline(pixels, target, np.random.default_rng(seed))
    assert np.array_equal(pixels, before)
    assert out.flags.c_contiguous
    if len(moved):
        check(out, moved)
    else:
        assert red(out).sum() < 0.75 * red(pixels).sum() * (out.size / pixels.size)
    for other in (Boxes(target.boxes, target.labels), Labels(torch.tensor([3])), SemanticMap(target.masks[0].long())):
        again, truth = pipeline(pixels, other, np.random.default_rng(seed))
        if "crop" not in text:  # those may refuse a window that loses the last object
            assert np.array_equal(again, out)  # what is known never changes the draw
        if isinstance(other, Labels):
            assert truth is other
        if isinstance(truth, SemanticMap):
            seen = red(again)
            assert truth.labels.shape == seen.shape
            assert not (seen & ~grown((truth.labels == 1).numpy())).any()
            assert not ((truth.labels == 1).numpy() & ~grown(seen)).any()
            assert not (seen & ~grown((truth.labels != augment.IGNORE).numpy())).any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    linear=st.tuples(st.floats(0.6, 1.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.6, 1.5)),
    offset=st.tuples(st.floats(-30, 30), st.floats(-25, 25)),
)
def test_a_warp_looks_up_every_pixel_where_it_came_from(seed: int, linear: tuple, offset: tuple) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 7, (30, 38))
    weights = draw.uniform(0.5, 2, (30, 38)).astype(np.float32)
    matrix = np.array([[linear[0], linear[1], offset[0]], [linear[2], linear[3], offset[1]]])
    target = SemanticMap(torch.from_numpy(labels), weights=torch.from_numpy(weights))
    out, moved = geometry.warp(np.full((30, 38, 3), 255, np.uint8), target, matrix)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    for y in range(30):
        for x in range(38):
            sx, sy, _ = back @ [x + 0.5, y + 0.5, 1]
            if min(abs(sx - round(sx)), abs(sy - round(sy))) < 2e-3:  # at the edge of two pixels rounding decides
                continue
            inside = 0 <= sx < 38 and 0 <= sy < 30
            assert moved.labels[y, x] == (labels[int(sy), int(sx)] if inside else augment.IGNORE)
            assert moved.weights[y, x] == (weights[int(sy), int(sx)] if inside else 0)
            assert out[y, x, 0] == (255 if inside else augment.FILL)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), degrees=st.floats(-90, 90), dx=st.floats(-60, 60), dy=st.floats(-60, 60))
def test_boxes_without_masks_hold_their_corners_and_lost_objects_go(seed: int, degrees: float, dx: float, dy: float) -> None:
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 30, 2)
    box = np.concatenate([low, low + draw.uniform(10, 30, 2)])
    turn = math.radians(degrees)
    matrix = np.array([[math.cos(turn), math.sin(turn), dx], [-math.sin(turn), math.cos(turn), dy]])
    _, moved = geometry.warp(np.zeros((60, 60, 3), np.uint8), Boxes(torch.tensor(box[None], dtype=torch.float32), torch.tensor([5])), matrix)
    corners = np.array([matrix @ [x, y, 1] for x in box[::2] for y in box[1::2]])
    hull = np.array([*corners.min(0), *corners.max(0)])
    inside = hull.clip(0, 60)
    part = np.prod(inside[2:] - inside[:2]) / np.prod(hull[2:] - hull[:2])
    if abs(part - geometry.LEAST) > 1e-4:
        assert len(moved) == (part >= geometry.LEAST)
    if len(moved):
        assert moved.labels.tolist() == [5]
        assert np.abs(moved.boxes[0].numpy() - inside).max() < 1e-3


def test_the_part_of_a_mask_that_is_left_decides() -> None:
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 10:20, 0:10] = True  # 10 x 10; moved by 7 to the left 30 of 100 stay, by 8 only 20
    masks[1, 10:20, 20:30] = True
    boxes = torch.tensor([[0.0, 10, 10, 20], [20, 10, 30, 20]])
    target = Instances(boxes, torch.arange(2), masks=masks)
    for left, kept in ((7, [0, 1]), (8, [1])):
        _, moved = geometry.warp(np.zeros((40, 40, 3), np.uint8), target, np.array([[1.0, 0, -left], [0, 1, 0]]))
        assert moved.labels.tolist() == kept
        assert moved.boxes[-1].tolist() == [20 - left, 10, 30 - left, 20]
        assert moved.masks[-1].sum() == 100
    assert moved.keypoints is None


@pytest.mark.system("aug-basic")
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(["flip", "vflip", "flips"]))
def test_flip_twice_is_identity_on_all(seed: int, name: str) -> None:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (*tuple(draw.integers(5, 160, 2)), 3), dtype=np.uint8)
    height, width = pixels.shape[:2]
    low = torch.from_numpy(draw.uniform(0, 1, (3, 2))) * torch.tensor([width - 2, height - 2])
    boxes = torch.cat([low, low + 1], 1).float().round()
    points = torch.from_numpy(draw.integers(0, 3, (3, 4, 3))).float()
    points[..., :2] = (points[..., :2] * 2).clamp(max=min(height, width) - 1)
    points[points[..., 2] == 0] = 0
    target = Instances(boxes, torch.arange(3), masks=torch.from_numpy(draw.random((3, height, width)) < 0.5), keypoints=points)
    labels = torch.from_numpy(draw.integers(0, 9, (height, width)))
    semantic = SemanticMap(labels, weights=torch.rand(height, width))
    once = augment.parse(f"{name}:1", swap=[1, 0, 2, 3]).sample
    flipped, moved = once(pixels, target, draw)
    back, same = once(flipped, moved, draw)
    turned = pixels[:, ::-1] if name == "flip" else pixels[::-1] if name == "vflip" else pixels[::-1, ::-1]
    assert np.array_equal(flipped, turned)
    assert np.array_equal(back, pixels)
    for field in ("boxes", "labels", "masks", "keypoints"):
        assert torch.equal(getattr(same, field), getattr(target, field)), field
    again = once(flipped, once(pixels, semantic, draw)[1], draw)[1]
    assert torch.equal(again.labels, labels)
    assert torch.equal(again.weights, semantic.weights)


STRENGTHS = {  # name -> nothing, weak, strong
    "flip": ("flip:0", "flip:0.2", "flip:0.9"),
    "crop": ("crop:1", "crop:0.9,1", "crop:0.3,1"),
    "rotate": ("rotate:0", "rotate:3", "rotate:60"),
    "translate": ("translate:0", "translate:0.02", "translate:0.4"),
    "sharpness": ("sharpness:0", "sharpness:0.3", "sharpness:4"),
    "contrast": ("contrast:0", "contrast:0.1", "contrast:0.9"),
    "solarize": ("solarize:256", "solarize:200,1", "solarize:60,1"),
    "equalize": ("equalize:0", "equalize:0.2", "equalize:0.9"),
    "color": ("color:0", "color:0.1", "color:0.9"),
    "brightness": ("brightness:0", "brightness:0.1", "brightness:0.9"),
}


@pytest.mark.system("aug-basic")
@pytest.mark.parametrize("name", STRENGTHS)
def test_all_ten_by_name_with_a_strength(name: str) -> None:
    """Strength nothing changes no pixel, more of it changes more; what does not move leaves the truth alone."""
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([100 + 80 * np.sin(x / 7), 60 + 1.5 * x + y, 120 + 90 * np.cos(y / 5 + x / 9)], -1).round().astype(np.uint8)
    _, target = scene(1, 48, 64)
    changes = []
    for text in STRENGTHS[name]:
        pipeline = augment.pipeline(text)
        total = 0.0
        for seed in range(30):
            out, moved = pipeline(pixels, target, np.random.default_rng(seed))
            cut = pixels[: out.shape[0], : out.shape[1]]
            total += np.abs(out.astype(int) - cut).mean() + abs(pixels.size - out.size) / pixels.size
            if name in ("sharpness", "contrast", "solarize", "equalize", "color", "brightness"):
                assert moved is target
        changes.append(total / 30)
    assert changes[0] < 0.01
    assert changes[0] < changes[1] < changes[2]


def test_shift_is_padding_and_cropping() -> None:
    """The CIFAR recipe, against numpy's padding; every offset comes, none more often than another."""
    pixels = np.random.default_rng(0).integers(1, 256, (9, 7, 3), dtype=np.uint8)
    for mode, padded in (
        ("zero", np.pad(pixels, ((2, 2), (2, 2), (0, 0)))),
        ("grey", np.pad(pixels, ((2, 2), (2, 2), (0, 0)), constant_values=augment.FILL)),
        ("reflect", np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="reflect")),
    ):
        views = {padded[y : y + 9, x : x + 7].tobytes(): (y, x) for y in range(5) for x in range(5)}
        pipeline = augment.pipeline(f"shift:2,mode={mode}")
        found = [views[pipeline(pixels, Labels(torch.tensor([0])), np.random.default_rng(i))[0].tobytes()] for i in range(600)]
        counts = np.array([found.count((y, x)) for y in range(5) for x in range(5)])
        assert counts.min() > 8
        assert counts.max() < 48
    far = augment.pipeline("shift:30")
    for seed in range(20):
        out, kept = far(pixels, Boxes(torch.tensor([[1.0, 1, 5, 6]]), torch.tensor([0])), np.random.default_rng(seed))
        assert out.shape == pixels.shape
        assert len(kept) == 1 or not kept.boxes.numel()


def test_a_resized_crop_is_resized_once() -> None:
    """A model that takes one size gets the window itself, in the shape that it will have there."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    target = Labels(torch.tensor([0]))
    plain = augment.parse("resized-crop:0.1,0.5")
    assert plain.prepare is None
    fitted = augment.parse("resized-crop:0.1,0.5", prepare=Prepare(resize="crop", size=32, crop_fraction=0.875))
    assert fitted.prepare == Prepare(resize="stretch", size=32, crop_fraction=0.875)
    wide = augment.parse("resized-crop:0.1,0.5", prepare=Prepare(resize="stretch", size=(20, 40))).sample
    for seed in range(40):
        rng = np.random.default_rng
        assert plain.sample(pixels, target, rng(seed))[0].shape == pixels.shape
        for pipeline, shape in ((fitted.sample, 1.0), (wide, 2.0)):
            height, width = pipeline(pixels, target, rng(seed))[0].shape[:2]
            assert 0.09 < height * width / (60 * 90) < 0.52
            assert 0.7 < width / height / shape < 1.42
    assert augment.parse("flip", prepare=Prepare(resize="crop", size=32)).prepare is None


def test_scale_crop_flip_makes_the_size_it_is_asked_for() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    target = SemanticMap(torch.ones(40, 60, dtype=torch.int64))
    shares = []
    for seed in range(60):
        out, moved = augment.pipeline("scale-crop-flip:0.5,2")(pixels, target, np.random.default_rng(seed))
        assert out.shape == pixels.shape
        assert np.array_equal(out[..., 0] == 200, (moved.labels == 1).numpy())
        shares.append((moved.labels == 1).float().mean().item())
        out, moved = augment.pipeline("scale-crop-flip:0.5,2,size=48")(pixels, target, np.random.default_rng(seed))
        assert out.shape == (48, 48, 3)
        assert moved.labels.shape == (48, 48)
    assert min(shares) < 0.4  # half the size is a quarter of the area
    assert max(shares) == 1


def test_left_and_right_swap_in_every_flip() -> None:
    pixels, target = scene(3)
    points = torch.tensor([[[20.0, 20, 2], [40, 20, 2]]])
    target = replace(target, keypoints=points)
    for text in ("flip:1", "scale-crop-flip:1,1"):
        for seed in range(4):
            _, moved = augment.parse(text, swap=[1, 0]).sample(pixels, target, np.random.default_rng(seed))
            assert moved.keypoints[0, 0, 0] < moved.keypoints[0, 1, 0]  # the left one stays left


def test_noise_blur_and_jpeg_do_what_they_say() -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:, 32:] = 60
    target = Labels(torch.tensor([0]))
    noisy = [augment.pipeline("noise:20")(pixels, target, np.random.default_rng(s))[0].astype(float) - pixels for s in range(40)]
    assert 17 < max(n.std() for n in noisy) < 21
    assert abs(np.mean(noisy)) < 0.2
    worst = max(noisy, key=lambda n: n.std())
    assert 0.60 < (np.abs(worst) <= worst.std()).mean() < 0.76  # 68 % of a normal
    blurred = augment.pipeline("blur:3,1")(pixels, target, np.random.default_rng(1))[0]
    assert len(np.unique(blurred[30, :, 0])) > 4
    assert abs(blurred.mean() - pixels.mean()) < 1
    stored = augment.pipeline("jpeg:5,1")(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), target, np.random.default_rng(0))[0]
    assert stored.shape == (64, 64, 3)
    grey = augment.pipeline("grayscale:1")(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), target, np.random.default_rng(0))[0]
    assert np.array_equal(grey[..., 0], grey[..., 1])
    assert np.array_equal(augment.pipeline("invert:1,invert:1")(stored, target, np.random.default_rng(0))[0], stored)
    black = augment.pipeline("posterize:1,1")(stored, target, np.random.default_rng(0))[0]
    assert set(np.unique(black)) == {0, 128}
