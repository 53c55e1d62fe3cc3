"""RandAugment against torchvision's operations, and torchvision's own transforms by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cvtool.data import augment
from cvtool.data.augment import geometry, randaugment, torchvision_v2
from cvtool.errors import UsageError
from cvtool.results import Boxes, Instances, Labels, SemanticMap
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.transforms.v2 import functional as TF

PAPER = {"identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness", "sharpness", "shear-x",
         "shear-y", "translate-x", "translate-y"}  # fmt: skip
NOTHING = Labels(torch.tensor([0]))


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([100 + 80 * np.sin(x / 7), 60 + x + y, 120 + 90 * np.cos(y / 5 + x / 9)], -1).round().astype(np.uint8)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@pytest.mark.system("randaugment")
def test_exactly_two_parameters_and_n_operations_of_strength_m(monkeypatch) -> None:
    assert [f.name for f in dataclasses.fields(randaugment.RandAugment)] == ["n", "m"]
    assert set(randaugment.OPERATIONS) == PAPER
    with pytest.raises(UsageError, match="takes 2 arguments: n, m"):
        augment.parse("randaugment:2,9,0.5")
    with pytest.raises(UsageError, match="whole number"):
        augment.parse("randaugment:1.5,9")
    used: list[tuple[str, float]] = []

    def noting(name):
        return lambda pixels, target, strength: (used.append((name, strength)), (pixels, target))[1]

    monkeypatch.setattr(randaugment, "OPERATIONS", {name: noting(name) for name in PAPER})
    for n in (0, 1, 2, 5):
        for seed in range(300):
            used.clear()
            augment.pipeline(f"randaugment:{n},7")(picture(), NOTHING, np.random.default_rng(seed))
            assert len(used) == n
            assert {abs(strength) for _, strength in used} <= {0.7}
    used.clear()
    for seed in range(700):
        augment.pipeline("randaugment:2,3")(picture(), NOTHING, np.random.default_rng(seed))
    counts = [sum(name == op for name, _ in used) for op in PAPER]
    assert min(counts) > 60  # 100 each
    assert max(counts) < 145
    assert 0.45 < np.mean([strength > 0 for _, strength in used]) < 0.55


@pytest.mark.system("randaugment")
def test_no_operation_is_identity_and_a_seed_repeats_its_sequence() -> None:
    pixels = picture()
    out, same = augment.pipeline("randaugment:0,9")(pixels, NOTHING, np.random.default_rng(0))
    assert out is pixels
    assert same is NOTHING
    pipeline = augment.pipeline("randaugment:2,9")
    seen = set()
    for seed in range(30):
        one, other = (pipeline(pixels, NOTHING, np.random.default_rng((4, seed)))[0] for _ in range(2))
        assert np.array_equal(one, other)
        seen.add(one.tobytes())
    assert len(seen) > 20
    part = randaugment.RandAugment(3, 5)
    assert part.drawn(np.random.default_rng(1)) == part.drawn(np.random.default_rng(1))


@pytest.mark.system("randaugment")
@pytest.mark.parametrize("m", [0, 3, 6, 10])
def test_operations_equal_torchvision(m: int) -> None:
    """Strength m of ten is step 3 m of torchvision's 31."""
    pixels = picture()
    image, share = tensor(pixels), m / 10
    height, width = pixels.shape[:2]
    for sign in (1, -1):
        factor = 1 + 0.9 * share * sign
        expected = {
            "identity": image,
            "autocontrast": TF.autocontrast(image),
            "equalize": TF.equalize(image),
            "solarize": TF.solarize(image, 255 - 255 * share),
            "posterize": TF.posterize(image, 8 - round(4 * share)),
            "color": TF.adjust_saturation(image, factor),
            "contrast": TF.adjust_contrast(image, factor),
            "brightness": TF.adjust_brightness(image, factor),
            "sharpness": TF.adjust_sharpness(image, factor),
            "translate-x": TF.affine(image, 0, [round(150 / 331 * share * sign * width), 0], 1, [0, 0], fill=114),
            "translate-y": TF.affine(image, 0, [0, round(150 / 331 * share * sign * height)], 1, [0, 0], fill=114),
            "rotate": TF.rotate(image, 30 * share * sign, interpolation=TF.InterpolationMode.BILINEAR, fill=114),
            "shear-x": TF.affine(image, 0, [0, 0], 1, [np.degrees(np.arctan(-0.3 * share * sign)), 0], TF.InterpolationMode.BILINEAR, fill=114),
            "shear-y": TF.affine(image, 0, [0, 0], 1, [0, np.degrees(np.arctan(-0.3 * share * sign))], TF.InterpolationMode.BILINEAR, fill=114),
        }
        for name, want in expected.items():
            out, _ = randaugment.OPERATIONS[name](pixels, NOTHING, share * sign)
            off = (tensor(out).int() - want.int()).abs()
            if name in ("rotate", "shear-x", "shear-y"):  # at the border of the picture torchvision blends with what is outside
                assert (off > 4).float().mean() < 0.06, name
                assert off.float().median() <= 1, name
            elif name == "solarize":  # a threshold, which is rounded
                assert (off > 4).float().mean() < 0.02
            elif name == "contrast":  # the mean is of every 8th row and column, of 6 x 8 pixels here
                assert off.max() <= 7 * share
            else:
                assert off.max() <= 2, name


def test_the_range_goes_on_above_ten() -> None:
    pixels = picture()
    for name, operation in randaugment.OPERATIONS.items():
        for strength in (-3.0, 3.0):
            out, _ = operation(pixels, NOTHING, strength)
            assert out.shape == pixels.shape, name
            assert out.dtype == np.uint8, name
    with pytest.raises(UsageError, match="m is from 0 to 30"):
        augment.parse("randaugment:2,31")


@pytest.mark.system("randaugment")
def test_objects_move_along() -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40, 30:55] = 255
    masks = torch.from_numpy(pixels[None, ..., 0] == 255)
    target = Instances(torch.tensor([[30.0, 20, 55, 40]]), torch.tensor([0]), masks=masks)
    moves = [name for name in PAPER if name.startswith(("rotate", "shear", "translate"))]
    for name in moves:
        for strength in (-0.5, 0.5):
            out, moved = randaugment.OPERATIONS[name](pixels, target, strength)
            seen = out[..., 0] > 180
            assert (seen != moved.masks[0].numpy()).mean() < 0.03
            ys, xs = np.nonzero(seen)
            assert np.abs(moved.boxes[0].numpy() - [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).max() <= 1
            assert not torch.equal(moved.boxes, target.boxes)


def test_torchvision_by_name_moves_the_truth() -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[10:20, 5:25] = 255
    masks = torch.from_numpy(pixels[None, ..., 0] == 255)
    target = Instances(torch.tensor([[5.0, 10, 25, 20]]), torch.tensor([7]), masks=masks)
    out, moved = augment.pipeline("v2:RandomHorizontalFlip:1")(pixels, target, np.random.default_rng(0))
    mirrored, wanted = geometry.mirror(pixels, target)
    assert np.array_equal(out, mirrored)
    assert torch.equal(moved.boxes, wanted.boxes)
    assert torch.equal(moved.masks, wanted.masks)
    for seed in range(6):
        out, moved = augment.pipeline("v2:RandomAffine:30,translate=0.1/0.1")(pixels, target, np.random.default_rng(seed))
        seen = out[..., 0] > 180
        assert (seen != moved.masks[0].numpy()).mean() < 0.02
        assert (out == 114).any()
        out, turned = augment.pipeline("v2:RandomRotation:40")(pixels, SemanticMap(masks[0].long()), np.random.default_rng(seed))
        assert np.array_equal((turned.labels == 1).numpy(), out[..., 0] == 255)
        assert np.array_equal((turned.labels == 255).numpy(), out[..., 0] == 114)
        cut, left = augment.pipeline("v2:RandomCrop:16")(pixels, Boxes(target.boxes, target.labels), np.random.default_rng(seed))
        assert cut.shape == (16, 16, 3)
        white = cut[..., 0] == 255
        assert bool(len(left)) == bool(white.any())
        if len(left):
            ys, xs = np.nonzero(white)
            assert left.boxes[0].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_torchvision_draws_from_the_sample_alone() -> None:
    pixels = picture()
    state = torch.get_rng_state()
    for text in ("v2:ColorJitter:0.4,0.4,0.4,0.1", "v2:RandomPerspective:0.5,1", "v2:RandomResizedCrop:32", "v2:TrivialAugmentWide",
                 "v2:RandomErasing:1", "v2:AutoAugment:policy=cifar10", "v2:ElasticTransform", "v2:RandomPhotometricDistort"):  # fmt: skip
        pipeline = augment.pipeline(text)
        outs = []
        for seed in range(6):
            torch.manual_seed(99 + seed)
            one, _ = pipeline(pixels, NOTHING, np.random.default_rng(seed))
            torch.manual_seed(7)
            before = torch.get_rng_state()
            other, _ = pipeline(pixels, NOTHING, np.random.default_rng(seed))
            assert torch.equal(torch.get_rng_state(), before), text
            assert np.array_equal(one, other), text
            outs.append(one.tobytes())
        assert len(set(outs)) > 1, text
    torch.set_rng_state(state)


def test_torchvision_names_and_arguments() -> None:
    for text, said in (
        ("v2:RandomPerspectiv", "did you mean RandomPerspective"),
        ("v2:HorizontalFlip", "RandomHorizontalFlip"),
        ("v2:zzz", "there are .*RandomAffine"),
        ("v2:Normalize", "torchvision has no"),
        ("v2:RandomCrop", "it takes size"),
        ("v2:RandomRotation:5,interpolation=cubic", "interpolation is one of"),
    ):
        with pytest.raises(UsageError, match=said):
            augment.parse(text)
    keypoints = Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0]), keypoints=torch.tensor([[[4.0, 5, 2], [0, 0, 0]]]))
    with pytest.raises(UsageError, match="cannot move keypoints"):
        augment.pipeline("v2:RandomHorizontalFlip:1")(picture(), keypoints, np.random.default_rng(0))
    with pytest.raises(UsageError, match="leaves no picture"):
        augment.pipeline("v2:Grayscale")(picture(), NOTHING, np.random.default_rng(0))
    with pytest.raises(UsageError, match="cannot be used on this data"):
        augment.pipeline("v2:RandomIoUCrop")(picture(), NOTHING, np.random.default_rng(0))
    assert "RandomAffine" in torchvision_v2.names()


def test_torchvision_moves_keypoints() -> None:
    if not hasattr(torchvision_v2.library()[1], "KeyPoints"):
        pytest.skip("this torchvision has no keypoints")
    for seed in range(12):
        pixels = np.zeros((40, 60, 3), np.uint8)
        x, y = np.random.default_rng(seed).integers(15, 25, 2).tolist()
        pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
        target = Instances(torch.tensor([[0.0, 0, 60, 40]]), torch.tensor([0]), keypoints=torch.tensor([[[x, y, 2.0], [0, 0, 0]]]))
        for text in (
            "v2:RandomAffine:170,interpolation=bilinear",
            "v2:RandomCrop:30",
            "v2:RandomPerspective:0.3,1",
            "v2:Resize:80",
            "v2:CenterCrop:24",
        ):
            out, moved = augment.pipeline(text)(pixels, target, np.random.default_rng(seed))
            ys, xs = np.nonzero(out[..., 0] > 170)
            kx, ky, known = moved.keypoints[0, 0].tolist()
            assert moved.keypoints[0, 1].tolist() == [0, 0, 0]
            if known and 3 < kx < out.shape[1] - 4 and 3 < ky < out.shape[0] - 4:
                assert abs(xs.mean() - kx) < 0.8, text
                assert abs(ys.mean() - ky) < 0.8, text
            elif not known:
                assert len(xs) < 9, text
