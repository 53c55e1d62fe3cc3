"""`evaluate` of pictures, depth maps and motion fields: files on both sides, pairing, and published figures on real data."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from cvtool.data import fields
from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluate import evaluate, measure
from cvtool.tasks.evaluation import Options


@pytest.fixture
def folders(png, tmp_path):
    """Three true pictures, and the same with a constant error of 0, 1 and 2."""
    for number in range(3):
        path = png(f"hr/p{number}.png", 24, 20, seed=number)
        pixels = np.asarray(Image.open(path)).clip(0, 250)
        Image.fromarray(pixels).save(path)
        (tmp_path / "sr").mkdir(exist_ok=True)
        Image.fromarray((pixels + number).astype(np.uint8)).save(tmp_path / "sr" / f"p{number}.png")
    return tmp_path / "hr", tmp_path / "sr"


# ---- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.system("psnr")
def test_psnr_is_reported_with_a_perceptual_distance(folders):
    report = evaluate(*folders, metrics="psnr,gmsd,ssim")
    assert set(report["metrics"]) == {"PSNR", "GMSD", "SSIM"}
    assert report["metrics"]["PSNR"] is None  # infinite for the equal one, which JSON cannot hold
    assert any("PSNR is infinite for 1 of 3 (p0.png)" in line for line in report["warnings"])
    measured = measure(*folders, metrics="psnr", options=Options())
    values = measured.per_unit["PSNR"]
    assert values[0] == math.inf
    assert values[1] == pytest.approx(48.1308, abs=5e-5)
    assert measured.metrics["PSNR"] == math.inf
    assert measured.statistic(np.array([0, 1, 1]))["PSNR"] == pytest.approx(values[1:].mean())
    assert measured.weighted(np.array([[0, 2, 1.0], [1, 0, 0]]))["PSNR"][0] == pytest.approx((2 * values[1] + values[2]) / 3)


@pytest.mark.system("psnr")
def test_unasked_the_kind_measures_psnr_beside_perceptual_distances(folders):
    from cvtool.tasks.evaluation import pictures

    measured = pictures.score(*folders, metrics=[], options=Options())
    assert list(measured.metrics) == ["PSNR", "SSIM", "GMSD"]
    assert measured.lower == ("GMSD",)
    assert any("LPIPS is not measured" in line for line in measured.warnings)  # no weights in a test's own cache
    ones = np.ones(3)
    assert measured.statistic(ones) == pytest.approx(measured.metrics)


def test_pictures_that_lack_a_counterpart_or_have_another_size(folders, tmp_path):
    (folders[1] / "p2.png").unlink()
    report = evaluate(*folders, metrics="psnr:border=2,y=true")
    assert report["counts"] == {"images": 3, "images_matched": 2, "unanswered": 1, "matched_by": "file name"}
    assert report["warnings"] == ["1 ground-truth picture without a counterpart, not measured: p2.png", *report["warnings"][1:]]
    assert report["params"]["psnr.border"] == 2
    Image.new("RGB", (22, 20)).save(folders[1] / "p1.png")
    with pytest.raises(InputError, match=r"22 x 20, the true one 24 x 20") as caught:
        evaluate(*folders, metrics="psnr")
    assert "--crop" in caught.value.hint
    assert evaluate(*folders, metrics="psnr", crop=True)["counts"]["images_matched"] == 2
    (tmp_path / "empty").mkdir()
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    Image.new("RGB", (24, 20)).save(lonely / "other.png")
    with pytest.raises(InputError, match="no detected image is in the ground truth"):
        evaluate(folders[0], lonely, metrics="psnr")
    assert evaluate(folders[0] / "p0.png", lonely / "other.png", metrics="psnr")["counts"]["images_matched"] == 1
    with pytest.raises(InputError, match="no pictures in this folder"):
        evaluate(folders[0], tmp_path / "empty", metrics="psnr")
    with pytest.raises(UsageError, match="no argument 'z'"):
        evaluate(*folders, metrics="psnr:z=1")


@pytest.mark.system("psnr")
@pytest.mark.parametrize(("scale", "wanted"), [(2, 33.68), (4, 28.43)])
def test_bicubic_enlargement_of_set5_has_the_published_psnr(data, tmp_path, scale, wanted):
    """The enlargement is Pillow's bicubic, a = -0.5."""
    folder = data / "sr_denoise" / "set5"
    for low in sorted((folder / "LR_bicubic" / f"X{scale}").glob("*.png")):
        small = Image.open(low)
        large = small.resize((small.width * scale, small.height * scale), Image.Resampling.BICUBIC)
        (tmp_path / "sr").mkdir(exist_ok=True)
        large.save(tmp_path / "sr" / low.name.replace(f"x{scale}", ""))
    report = evaluate(folder / "HR", tmp_path / "sr", metrics=f"psnr:y=true,border={scale}", crop=True)
    assert report["counts"]["images_matched"] == 5
    assert report["metrics"]["PSNR"] == pytest.approx(wanted, abs=0.02)


# ---- depth ---------------------------------------------------------------------------------------------------------


def write_depth(folder, name, metres):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.rint(np.asarray(metres) * 1000).astype(np.uint16)).save(folder / name)


def test_depth_against_plain_loops(tmp_path):
    draw = np.random.default_rng(0)
    rows = []
    for number in range(2):
        true = draw.uniform(0.7, 4, (5, 6)).round(3)
        true[0, :2] = 0  # unknown
        found = (true * draw.uniform(0.7, 1.5, true.shape)).round(3)
        write_depth(tmp_path / "gt", f"{number}.png", true)
        write_depth(tmp_path / "dt", f"{number}.png", found)
        pairs = [(a, b) for a, b in zip(true.ravel(), np.maximum(found.ravel(), 0.001), strict=True) if a]
        n = len(pairs)
        rows.append({
            "abs_rel": sum(abs(b - a) / a for a, b in pairs) / n, "sq_rel": sum((b - a) ** 2 / a for a, b in pairs) / n,
            "RMSE": math.sqrt(sum((b - a) ** 2 for a, b in pairs) / n),
            "RMSE_log": math.sqrt(sum((math.log(b) - math.log(a)) ** 2 for a, b in pairs) / n),
            "RMSE_log_scale_invariant": float(np.std([math.log(b / a) for a, b in pairs])),
            **{f"delta{k}": sum(max(a / b, b / a) < 1.25**k for a, b in pairs) / n for k in (1, 2, 3)},
        })  # fmt: skip
    report = evaluate(tmp_path / "gt", tmp_path / "dt", metrics="abs-rel,rmse,rmse_log,delta")
    assert report["metrics"] == pytest.approx({key: (rows[0][key] + rows[1][key]) / 2 for key in rows[0]}, abs=1e-9)
    assert report["counts"]["pixels"] == 2 * 28


@pytest.mark.parametrize("way", ["median", "scale", "affine"])
def test_depth_of_an_unknown_scale_is_aligned(tmp_path, way):
    true = np.random.default_rng(0).uniform(1, 4, (8, 9))
    np.save(tmp_path / "gt.npy", true)
    np.save(tmp_path / "dt.npy", true * 7 + (2 if way == "affine" else 0))
    assert evaluate(tmp_path / "gt.npy", tmp_path / "dt.npy", metrics="abs-rel")["metrics"]["abs_rel"] > 1
    assert evaluate(tmp_path / "gt.npy", tmp_path / "dt.npy", metrics="abs-rel", align=way)["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-9)
    with pytest.raises(UsageError, match="no such way"):
        evaluate(tmp_path / "gt.npy", tmp_path / "dt.npy", metrics="abs-rel", align="mean")


def test_depth_that_cannot_be_measured(tmp_path):
    np.save(tmp_path / "gt.npy", np.zeros((4, 4)))
    np.save(tmp_path / "dt.npy", np.ones((4, 4)))
    with pytest.raises(InputError, match="no true depth is valid"):
        evaluate(tmp_path / "gt.npy", tmp_path / "dt.npy", metrics="rmse")
    np.save(tmp_path / "gt.npy", np.ones((4, 4)))
    np.save(tmp_path / "dt.npy", np.full((4, 4), np.nan))
    with pytest.raises(InputError, match="16 depths are no numbers"):
        evaluate(tmp_path / "gt.npy", tmp_path / "dt.npy", metrics="rmse")


def test_a_constant_depth_of_the_living_room_has_the_measured_floor(data, tmp_path):
    """Constant median depth 1.749 m: AbsRel 0.175, RMSE 0.371 m, 75.3 % within 1.25 (all pixels of all frames; here every tenth frame)."""
    names = sorted((data / "depth_icl_nuim" / "depth").glob("*.png"))[::10]
    with (tmp_path / "gt.jsonl").open("w") as gt, (tmp_path / "dt.jsonl").open("w") as dt:
        for path in names:
            gt.write(json.dumps({"file_name": path.name, "depth": str(path)}) + "\n")
            dt.write(json.dumps({"file_name": path.name, "depth": str(tmp_path / "flat.npy")}) + "\n")
    np.save(tmp_path / "flat.npy", np.full((480, 640), 1.749))
    found = evaluate(tmp_path / "gt.jsonl", tmp_path / "dt.jsonl", metrics="abs-rel,rmse,delta")["metrics"]
    assert found["abs_rel"] == pytest.approx(0.175, abs=0.02)
    assert found["RMSE"] == pytest.approx(0.371, abs=0.05)
    assert found["delta1"] == pytest.approx(0.753, abs=0.05)


# ---- flow ----------------------------------------------------------------------------------------------------------


def write_kitti(path, motion, valid):
    """16-bit RGB PNG by hand, since Pillow writes none."""
    import struct
    import zlib

    words = np.concatenate([np.rint(motion * 64 + 32768), valid[..., None]], -1).astype(">u2")
    height, width = valid.shape
    raw = b"".join(b"\0" + row.tobytes() for row in words)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def test_flow_over_all_known_pixels(tmp_path):
    draw = np.random.default_rng(0)
    for side in ("gt", "dt"):
        (tmp_path / side).mkdir()
    far, outliers, count = [], 0, 0
    for number, shape in enumerate([(6, 5), (3, 4)]):
        true = (draw.normal(0, 60, (*shape, 2)) * 64).round() / 64
        valid = draw.random(shape) < 0.7
        found = true + draw.normal(0, 4, true.shape)
        write_kitti(tmp_path / "gt" / f"{number}.png", true, valid.astype(int))
        fields.write_flo(tmp_path / "dt" / f"{number}.flo", found)
        for t, f in zip(true[valid], found[valid].astype(np.float32), strict=True):
            off = math.hypot(*(t - f))
            far.append(off)
            outliers += off > 3 and off > 0.05 * math.hypot(*t)
            count += 1
    report = evaluate(tmp_path / "gt", tmp_path / "dt", metrics="epe,fl")
    assert report["metrics"]["EPE"] == pytest.approx(np.mean(far), rel=1e-9)
    assert report["metrics"]["EPE_3px"] == pytest.approx(np.mean(np.array(far) > 3))
    assert report["metrics"]["Fl"] == pytest.approx(outliers / count)
    assert report["counts"]["pixels"] == count
    measured = measure(tmp_path / "gt", tmp_path / "dt", metrics="epe", options=Options())
    assert measured.statistic(np.array([1, 0]))["EPE"] == pytest.approx(measured.per_unit["EPE"][0])


def test_zero_flow_of_the_kitti_pair_has_the_measured_error(data, tmp_path):
    true, known = fields.flow(data / "stereo_flow" / "kitti" / "flow.png")
    assert known.mean() == pytest.approx(0.162, abs=5e-4)
    assert (true[known][:, 0].min(), true[known][:, 0].max()) == pytest.approx((-184, 75), abs=1)
    fields.write_flo(tmp_path / "zero.flo", np.zeros_like(true))
    found = evaluate(data / "stereo_flow" / "kitti" / "flow.png", tmp_path / "zero.flo", metrics="epe")["metrics"]
    assert found["EPE"] == pytest.approx(51.0, abs=0.05)
    motion, there = fields.flow(data / "stereo_flow" / "middlebury" / "flow.flo")
    assert np.hypot(*motion[there].T).mean() == pytest.approx(1.256, abs=5e-4)
    assert 1 - there.mean() == pytest.approx(0.016, abs=5e-4)


def test_broken_fields_are_named(tmp_path, png):
    path = tmp_path / "a.flo"
    fields.write_flo(path, np.zeros((2, 3, 2)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="3 x 2 motions are 48 bytes, and the file has 47"):
        fields.flow(path)
    with pytest.raises(InputError, match="not KITTI's 16-bit RGB"):
        fields.flow(png("b.png"))
    gap = np.zeros((2, 3, 2))
    fields.write_flo(tmp_path / "gt.flo", gap)
    gap[0, 0] = np.nan
    fields.write_flo(tmp_path / "dt.flo", gap)
    with pytest.raises(InputError, match="no motion for 1 of 6 pixels"):
        evaluate(tmp_path / "gt.flo", tmp_path / "dt.flo", metrics="epe")
