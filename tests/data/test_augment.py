"""Augmentations against brute force: objects are painted into the pixels, and found there again after the change."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.categories import COCO_KEYPOINTS
from cvtool.data import augment
from cvtool.errors import UsageError
from cvtool.results import Boxes, Instances, Labels, SemanticMap

HEIGHT, WIDTH = 40, 56


def painted(seed: int, count: int = 4) -> tuple[np.ndarray, Instances]:
    """Object n is a rectangle of value n in the red channel (they may not overlap), with one keypoint: green n at its first pixel."""
    draw = np.random.default_rng(seed)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    boxes, points = [], []
    for n in range(1, count + 1):
        for _ in range(50):
            w, h = draw.integers(3, 16, 2)
            x, y = draw.integers(0, WIDTH - w), draw.integers(0, HEIGHT - h)
            if not pixels[y : y + h, x : x + w].any():
                break
        else:
            continue
        pixels[y : y + h, x : x + w, 0] = n
        pixels[y, x, 1] = n
        boxes.append([x, y, x + w, y + h])
        points.append([[x, y, 2], [0, 0, 0]])
    values = [int(pixels[y, x, 0]) for x, y, _, _ in boxes]
    masks = torch.from_numpy(np.stack([pixels[..., 0] == v for v in values]))
    labels = torch.tensor(values)
    return pixels, Instances(torch.tensor(boxes, dtype=torch.float32), labels, masks=masks, keypoints=torch.tensor(points, dtype=torch.float32))


def check(pixels: np.ndarray, target: Instances) -> None:
    """Every object is where the pixels say."""
    for box, label, mask, points in zip(target.boxes, target.labels, target.masks, target.keypoints, strict=True):
        there = pixels[..., 0] == int(label)
        assert np.array_equal(mask.numpy(), there)
        ys, xs = np.nonzero(there)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        ys, xs = np.nonzero(pixels[..., 1] == int(label))
        assert points[0].tolist() == ([xs[0], ys[0], 2] if len(xs) else [0, 0, 0])
        assert points[1].tolist() == [0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), names=st.sampled_from(["flip", "flips", "crop", "flips,crop", "scale", "flips,crop,scale"]))
def test_truth_stays_on_its_pixels(seed: int, names: str) -> None:
    pixels, target = painted(seed)
    before = pixels.copy()
    out, moved = augment.pipeline(names)(pixels, target, np.random.default_rng(seed))
    assert out.flags.c_contiguous
    assert out.dtype == np.uint8
    check(out, moved)
    assert np.array_equal(pixels, before)  # the cached picture is not touched
    if "crop" not in names:
        assert len(moved) == len(target)
    boxes_only, plain = augment.pipeline(names)(pixels, Boxes(target.boxes, target.labels), np.random.default_rng(seed))
    assert np.array_equal(out, boxes_only)  # the truth never changes the draw
    assert torch.equal(plain.boxes, moved.boxes)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), names=st.sampled_from(["flips,crop,scale", "crop", "flip"]))
def test_semantic_maps_follow(seed: int, names: str) -> None:
    pixels, target = painted(seed)
    labels = torch.from_numpy(pixels[..., 0].astype(np.int64))
    out, moved = augment.pipeline(names)(pixels, SemanticMap(labels), np.random.default_rng(seed))
    inside = moved.labels != augment.IGNORE
    assert np.array_equal(out[..., 0][inside.numpy()], moved.labels[inside].numpy())
    assert (out[..., 0][~inside.numpy()] == augment.FILL).all()
    assert target is not None


def test_window_keeps_what_has_its_centre_inside() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [8, 8, 20, 20], [30, 30, 40, 40]])
    _, kept = augment.window(np.zeros((50, 50, 3), np.uint8), Boxes(boxes, torch.arange(3)), 6, 6, 36, 36)
    assert kept.labels.tolist() == [1, 2]
    assert kept.boxes.tolist() == [[2, 2, 14, 14], [24, 24, 30, 30]]


def test_crop_never_loses_the_last_object() -> None:
    target = Boxes(torch.tensor([[0.0, 0, 2, 2]]), torch.zeros(1, dtype=torch.int64))
    for seed in range(60):
        pixels, kept = augment.AUGMENTATIONS["crop"]()(np.zeros((30, 30, 3), np.uint8), target, np.random.default_rng(seed))
        assert len(kept) == 1
        assert min(pixels.shape[:2]) >= 18


def test_left_and_right_change_places() -> None:
    swap = augment.swapped(COCO_KEYPOINTS)
    name = {i: COCO_KEYPOINTS[k] for i, k in enumerate(swap)}
    assert name[COCO_KEYPOINTS.index("left_eye")] == "right_eye"
    assert name[COCO_KEYPOINTS.index("nose")] == "nose"
    assert sorted(swap) == list(range(17))
    assert [swap[k] for k in swap] == list(range(17))
    keypoints = torch.zeros(1, 17, 3)
    keypoints[0, COCO_KEYPOINTS.index("left_wrist")] = torch.tensor([3.0, 5, 2])
    person = Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0]), keypoints=keypoints)
    _, flipped = augment.mirror(np.zeros((10, 20, 3), np.uint8), person, swap)
    assert flipped.keypoints[0, COCO_KEYPOINTS.index("right_wrist")].tolist() == [16, 5, 2]
    assert (flipped.keypoints[0].abs().sum(1) > 0).sum() == 1  # what is not labelled stays at zero
    _, back = augment.mirror(np.zeros((10, 20, 3), np.uint8), flipped, swap)
    assert torch.equal(back.keypoints, keypoints)
    assert torch.equal(back.boxes, person.boxes)


def test_recolour() -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(30, 200, (24, 32, 3), dtype=np.uint8)
    assert np.abs(augment.recolour(pixels, 1, 1, 1, (1, 1, 1)).astype(int) - pixels).max() <= 1
    bright = augment.recolour(pixels, 1.2, 1, 1, (1, 1, 1)).astype(float)
    assert np.abs(bright - (pixels * 1.2).clip(0, 255)).max() <= 1
    grey = augment.recolour(pixels, 1, 1, 0, (1, 1, 1)).astype(float)
    assert np.abs(grey - (pixels @ [0.299, 0.587, 0.114])[..., None]).max() <= 1
    mean = pixels[::8, ::8].reshape(-1, 3).mean(0) @ [0.299, 0.587, 0.114]
    strong = augment.recolour(pixels, 1, 1.3, 1, (1, 1, 1)).astype(float)
    assert np.abs(strong - (mean + 1.3 * (pixels - mean)).clip(0, 255)).max() <= 1


def test_names() -> None:
    pixels, target = painted(3)
    out, same = augment.pipeline("none")(pixels, target, np.random.default_rng(0))
    assert out is pixels
    assert same is target
    for text, said in (("flops", "flip"), ("flip,mosaic", "none, flip, flips, vflip, crop"), ("colour", "color"), ("none:1", "no argument")):
        with pytest.raises(UsageError, match=said):
            augment.pipeline(text)
    for text, said in (
        ("rotate:400", "rotate: degrees is from 0 to 180, not 400"),
        ("erasing:0.5,fill=red", "fill is black or grey or noise"),
        ("erasing:low=0.5,high=0.1", "empty"),
        ("shift:0", "at least 1"),
        ("shift:4,mode=wrap", "zero or reflect or grey"),
        ("resized-crop:0.9,0.1", "empty"),
        ("randaugment:2,9,1", "takes 2 arguments: n, m"),
        ("flip:swap=1", "no argument 'swap'"),
        ("repeated:1", "at least 2"),
        ("repeated:2,repeated:3", "twice"),
        ("mixup:0", "alpha"),
    ):
        with pytest.raises(UsageError, match=said):
            augment.parse(text)
    with pytest.raises(UsageError, match="single pictures"):
        augment.pipeline("flip,mixup")
    assert augment.parse("Scale_Crop_Flip").sample == augment.parse("scale-crop-flip:0.5,2").sample
    labels = Labels(torch.tensor([1]))
    assert augment.pipeline("flips,crop,scale,color")(pixels, labels, np.random.default_rng(1))[1] is labels


def test_the_same_draw_gives_the_same_picture() -> None:
    pixels, target = painted(5)
    pipeline = augment.pipeline("flips,crop,scale,color")
    a, b = (pipeline(pixels, target, np.random.default_rng((1, 2, 3)))[0] for _ in range(2))
    assert np.array_equal(a, b)
    shapes = {pipeline(pixels, target, np.random.default_rng((1, 2, i)))[0].shape for i in range(20)}
    assert len(shapes) > 5


@pytest.mark.slow
def test_it_is_quick_enough_to_run_beside_training() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    target = Boxes(torch.rand(20, 4) * 200 + torch.tensor([0.0, 0, 200, 200]), torch.zeros(20, dtype=torch.int64))
    pipeline = augment.pipeline("flips,crop,scale,color")
    begun = time.process_time()
    for i in range(40):
        pipeline(pixels, target, np.random.default_rng(i))
    print(f"{(time.process_time() - begun) / 40 * 1000:.2f} ms a picture")
