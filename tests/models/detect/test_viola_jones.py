"""Viola-Jones: the boxes OpenCV finds, window for window; filters that grow over one integral image; and files that are no cascades."""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.errors import ModelError
from cvtool.models.detect import viola_jones as vj
from cvtool.models.detect._cascade_xml import read_cascade
from cvtool.ops.boxes import iou, xywh_to_xyxy
from cvtool.ops.integral import rectangle_sum

INSTALLED = vj.installed_cascade()
ASTRONAUT = np.asarray(Image.open(INSTALLED.parent / "astronaut.png").convert("RGB"))


def detector(path=None, **changes):
    model = vj.build(**changes)
    if path is not None:
        model.read_weights(path)
    return model


def found_by(reference, pixels, **options):
    model, _ = weights.load(reference)
    return model.predict(model.prepare([pixels]), **options)[0]


def opencv(path):
    """OpenCV's classifier of the same file, on one thread."""
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)
    if path != INSTALLED:
        return cv2.CascadeClassifier(str(path))
    storage = cv2.FileStorage(path.read_text().replace("featuhreParams", "featureParams"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    made = cv2.CascadeClassifier()
    assert made.read(storage.getFirstTopLevelNode())  # as it stands, OpenCV refuses it
    return made


def overlap(found, expected):
    return iou(found, xywh_to_xyxy(torch.tensor(expected, dtype=torch.float32).reshape(-1, 4)))


# ---- what it finds ----------------------------------------------------------------------------------------------------


def test_the_installed_cascade_finds_the_astronauts_face_and_nothing_else():
    result = found_by("viola-jones", ASTRONAUT)
    assert len(result) == 1
    assert overlap(result.boxes, [[175, 70, 93, 93]]).item() > 0.8
    assert 0.5 < result.scores.item() < 1
    assert weights.load("viola-jones")[1].categories == [{"id": 1, "name": "face"}]


@pytest.mark.parametrize(
    ("cascade", "name", "expected"),
    [
        ("frontalface_default", "face", [[177, 66, 95, 95]]),
        ("frontalface_alt2", "face", [[176, 65, 98, 98]]),
        ("eye", "eye", [[187, 85, 30, 30], [232, 90, 28, 28]]),
    ],
)
def test_a_cascade_by_path_finds_what_opencv_finds(data, cascade, name, expected):
    path = data / "haarcascades" / f"haarcascade_{cascade}.xml"
    model, info = weights.load(f"viola-jones@{path}")
    assert info.categories == model.categories == [{"id": 1, "name": name}]
    result = model.predict(model.prepare([ASTRONAUT]), max_det=len(expected))[0]
    assert len(result) == len(expected)
    assert (overlap(result.boxes, expected).amax(dim=0) > 0.8).all()


def faces(data):
    """Pictures with faces that are there: three small ones, enlarged portraits, and a sheet of tiny faces."""
    small = data / "checkpoints" / "face" / "blazeface"
    yield from (np.asarray(Image.open(small / f"{n}.png").convert("RGB")) for n in ("1face", "3faces", "4faces"))
    for person in (1, 4, 9, 15):
        portrait = Image.open(data / "faces_orl" / f"s{person}" / "1.pgm")
        yield np.asarray(portrait.resize((184, 224), Image.Resampling.BILINEAR).convert("RGB"))
    crops = np.load(data / "images_misc_skimage" / "lfw_subset.npy")[:12]
    sheet = np.concatenate([np.concatenate([np.pad(c * 255, 6, mode="edge") for c in crops[i : i + 4]], axis=1) for i in (0, 4, 8)])
    yield np.asarray(Image.fromarray(sheet.astype(np.uint8)).resize((444, 333), Image.Resampling.BILINEAR).convert("RGB"))


@pytest.mark.parametrize("cascade", ["haarcascade_frontalface_default.xml", "haarcascade_profileface.xml", None])
def test_same_boxes_and_counts_as_opencv(data, cascade):
    path = INSTALLED if cascade is None else data / "haarcascades" / cascade
    theirs, model = opencv(path), detector(path, pyramid="picture")
    total = 0
    for pixels in [ASTRONAUT, *faces(data)]:
        image = vj.grey(pixels.transpose(2, 0, 1))
        expected, counts = theirs.detectMultiScale2(image, scaleFactor=1.1, minNeighbors=3)
        boxes, own = vj.group(model.windows(image), 3)
        boxes[:, 2:] -= boxes[:, :2]
        ordered = sorted((*b, c) for b, c in zip(boxes.tolist(), own.tolist(), strict=True))
        assert ordered == sorted((*b, c) for b, c in zip(np.reshape(expected, (-1, 4)).tolist(), np.ravel(counts).tolist(), strict=True))
        total += len(boxes)
    assert total >= (1 if cascade == "haarcascade_profileface.xml" else 6)


@pytest.mark.parametrize("cascade", ["haarcascade_frontalface_default.xml", None])
def test_scaled_filters_find_the_faces_that_shrunk_pictures_show(data, cascade):
    """The two walks round differently, so a group at the limit of three windows may come or go; one of six may not."""
    path = INSTALLED if cascade is None else data / "haarcascades" / cascade
    for pixels in [ASTRONAUT, *faces(data)]:
        image = vj.grey(pixels.transpose(2, 0, 1))
        (one, ones), (other, others) = (vj.group(detector(path, pyramid=kind).windows(image), 3) for kind in ("filters", "picture"))
        shared = iou(torch.from_numpy(one), torch.from_numpy(other)) > 0.7
        assert all(shared[i].any() for i in np.flatnonzero(ones > 5))
        assert all(shared[:, j].any() for j in np.flatnonzero(others > 5))


def test_every_cascade_that_opencv_ships_accepts_the_same_windows():
    """Stumps and trees, up to three rectangles, upright and tilted, from 13 x 64 to 36 x 9 cells."""
    cv2 = pytest.importorskip("cv2")
    image = vj.grey(ASTRONAUT[40:240, 120:330].transpose(2, 0, 1))
    tilted = 0
    for path in sorted(Path(cv2.data.haarcascades).glob("*.xml")):
        model = detector(path)
        boxes = model.windows(image)
        boxes[:, 2:] -= boxes[:, :2]
        own = sorted(map(tuple, boxes.tolist()))
        expected = sorted(map(tuple, np.reshape(opencv(path).detectMultiScale(image, scaleFactor=1.1, minNeighbors=0), (-1, 4)).tolist()))
        differ = len(set(own) ^ set(expected))
        assert differ <= 0.02 * len(expected), f"{path.name}: {differ} of {len(expected)}"  # its sums are taken in another order
        tilted += model.cascade.tilted
    assert tilted > 3


def test_without_opencv_and_scikit_image_being_imported():
    code = (
        "import sys, numpy, torch\nfrom cvtool import weights\nmodel, _ = weights.load('viola-jones.tiny')\n"
        "model.predict(model.prepare([numpy.zeros((60, 60, 3), numpy.uint8)]))\n"
        "found = {'cv2', 'skimage', 'scipy', 'torchvision'} & set(sys.modules)\nassert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(Path(vj.__file__).parents[3])})


# ---- how ----------------------------------------------------------------------------------------------------------------


def test_the_filters_grow_and_the_picture_stays(monkeypatch):
    """One integral image of the picture serves all sizes, and a filter takes of each pixel the part that it covers."""
    image = vj.grey(ASTRONAUT[40:160, 160:300].transpose(2, 0, 1))
    summed = []
    monkeypatch.setattr(vj, "integral", lambda *a, **k: summed.append(a[0].shape) or integral_(*a, **k))
    monkeypatch.setattr(vj, "shrunk", lambda *a: pytest.fail("the picture was resized"))
    integral_ = vj.corner_table.__globals__["integral"]
    levels = list(detector().levels(image))
    assert summed == [image.shape]
    assert [round(24 * float(level.scale)) for level in levels][:4] == [24, 26, 29, 32]
    level = levels[6]
    rows, cols = level.sums.shape[0] - 1, level.sums.shape[1] - 1
    down, right = image.shape[0] / rows, image.shape[1] / cols

    def covered(first, last, pixels):
        return np.clip(np.minimum(np.arange(pixels) + 1, last) - np.maximum(np.arange(pixels), first), 0, 1)

    for x, y, w, h in ((0, 0, 5, 7), (13, 9, 3, 3), (cols - 8, rows - 6, 8, 6)):
        part = covered(y * down, (y + h) * down, image.shape[0]) @ image.astype(float) @ covered(x * right, (x + w) * right, image.shape[1])
        mean = rectangle_sum(level.sums, x, y, w, h) / level.unit / (w * h)
        assert mean == pytest.approx(part / (w * h * down * right), abs=0.05)


def test_a_grown_filter_has_no_bias():
    """On an even picture every rectangle sums to its cells times the level, at every size, whatever its corners round to."""
    for level in detector().levels(np.full((100, 131), 77, np.uint8)):
        h, w = level.sums.shape[0] - 1, level.sums.shape[1] - 1
        y, x = np.mgrid[0 : h - 5, 0 : w - 7]
        assert np.abs(rectangle_sum(level.sums, x, y, 7, 5) - 77 * 35 * level.unit).max() <= 2  # of a sixteenth of a grey level


def test_a_picture_shrinks_as_in_opencv():
    cv2 = pytest.importorskip("cv2")
    image = vj.grey(ASTRONAUT.transpose(2, 0, 1))
    assert np.array_equal(image, cv2.cvtColor(ASTRONAUT, cv2.COLOR_RGB2GRAY))
    for rows, cols in ((512, 512), (465, 465), (256, 256), (300, 77), (24, 24)):
        assert np.array_equal(vj.shrunk(image, rows, cols), cv2.resize(image, (cols, rows), interpolation=cv2.INTER_LINEAR_EXACT))


@pytest.mark.parametrize("least", [1, 2, 3, 5])
def test_groups_are_opencvs(least):
    cv2 = pytest.importorskip("cv2")
    for seed in range(30):
        draw = np.random.default_rng(seed)
        side = draw.integers(20, 60, 60)
        windows = np.stack([draw.integers(0, 90, 60), draw.integers(0, 90, 60), side, side], axis=1)
        expected, counts = cv2.groupRectangles(windows.tolist(), least, 0.2)
        corners = windows.copy()
        corners[:, 2:] += corners[:, :2]
        boxes, own = vj.group(corners, least)
        boxes[:, 2:] -= boxes[:, :2]
        assert boxes.tolist() == np.reshape(expected, (-1, 4)).tolist()
        assert own.tolist() == np.ravel(counts).tolist()


def test_the_score_counts_windows_and_conf_asks_for_them():
    model, batch = detector(), None
    batch = model.prepare([ASTRONAUT])
    usual = model.predict(batch)[0]
    assert torch.equal(model.predict(batch, conf=0.5)[0].boxes, usual.boxes)
    everything = model.predict(batch, conf=0.0)[0]
    assert len(everything) > len(usual)
    assert (everything.scores[:-1] >= everything.scores[1:]).all()
    assert len(model.predict(batch, conf=0.0, max_det=2)[0]) == 2
    assert len(model.predict(batch, conf=1.0)[0]) == 0
    assert len(detector(min_size=150).predict(batch)[0]) == 0


def test_padding_is_not_looked_at_and_a_picture_smaller_than_the_window_shows_nothing():
    model = detector()
    alone = model.predict(model.prepare([ASTRONAUT]))[0]
    both = model.predict(model.prepare([ASTRONAUT, np.zeros((600, 20, 3), np.uint8)]))
    assert torch.equal(both[0].boxes, alone.boxes)
    assert len(both[1]) == 0


# ---- files --------------------------------------------------------------------------------------------------------------


def test_both_spellings_of_the_features_tag_are_one(tmp_path):
    text = INSTALLED.read_text()
    assert "featuhreParams" in text
    right = tmp_path / "a.xml"
    right.write_text(text.replace("featuhreParams", "featureParams"))
    assert read_cascade(right).features == read_cascade(INSTALLED).features == 139
    assert vj.category(INSTALLED) == "face"


def older(path, out):
    """The same cascade in the format before: every node holds its feature."""
    old, new = ET.Element("opencv_storage"), ET.parse(path).getroot()[0]
    top = ET.SubElement(old, "a_cascade", type_id="opencv-haar-classifier")
    ET.SubElement(top, "size").text = f"{new.findtext('width')} {new.findtext('height')}"
    stages, features = ET.SubElement(top, "stages"), list(new.find("features"))
    for number, stage in enumerate(new.find("stages")):
        kept = ET.SubElement(stages, "_")
        trees = ET.SubElement(kept, "trees")
        for weak in stage.find("weakClassifiers"):
            words, leaves, tree = weak.findtext("internalNodes").split(), weak.findtext("leafValues").split(), ET.SubElement(trees, "_")
            for i in range(0, len(words), 4):
                node = ET.SubElement(tree, "_")
                feature = ET.SubElement(node, "feature")
                feature.extend(features[int(words[i + 2])])
                ET.SubElement(node, "threshold").text = words[i + 3]
                for side, end in (("left", int(words[i])), ("right", int(words[i + 1]))):
                    tag, value = (f"{side}_node", str(end)) if end > 0 else (f"{side}_val", leaves[-end])
                    ET.SubElement(node, tag).text = value
        ET.SubElement(kept, "stage_threshold").text = stage.findtext("stageThreshold")
        ET.SubElement(kept, "parent").text, ET.SubElement(kept, "next").text = str(number - 1), "-1"
    ET.ElementTree(old).write(out)
    return out


@pytest.mark.parametrize("cascade", ["frontalface_default", "frontalface_alt2"])
def test_the_older_format_says_the_same(data, tmp_path, cascade):
    path = data / "haarcascades" / f"haarcascade_{cascade}.xml"
    image = vj.grey(ASTRONAUT[40:190, 150:300].transpose(2, 0, 1))
    windows = detector(path).windows(image)
    assert len(windows) > 10
    assert np.array_equal(detector(older(path, tmp_path / "old.xml")).windows(image), windows)


def changed(old, new):
    text = INSTALLED.read_text()
    assert old in text
    return text.replace(old, new, 1)


BAD = {
    "not XML": ("JFIF", "not well-formed"),
    "cut off": (INSTALLED.read_text()[:30000], "not well-formed"),
    "another XML": ("<annotation><object/></annotation>", "not an OpenCV cascade"),
    "an empty storage": ("<opencv_storage></opencv_storage>", "not an OpenCV cascade"),
    "another OpenCV file": ("<opencv_storage><svm><kind>1</kind></svm></opencv_storage>", "lacks <featureType>"),
    "entities": ('<!DOCTYPE x [<!ENTITY a "aaaa">]><opencv_storage>&a;</opencv_storage>', "document type"),
    "other features": (changed("LBP", "HOG"), "HOG features are not supported"),
    "a window of no size": (changed("<width>24", "<width>0"), "out of range"),
    "no such feature": (changed("0 -1 46 ", "0 -1 4600 "), "damaged"),
    "a feature before the first": (changed("0 -1 46 ", "0 -1 -2 "), "damaged"),
    "a node that is not there": (changed("0 -1 46 ", "5 -1 46 "), "a node is missing"),
    "a leaf that is not there": (changed("0 -1 46 ", "0 -9 46 "), "a leaf that is not there"),
    "words too few": (changed("-67130709 ", ""), "11 numbers"),
    "no numbers": (changed("-67130709", "x"), "damaged"),
    "not finite": (changed("-0.6543210148811340", "nan"), "not finite"),
    "no stages": (INSTALLED.read_text().split("<stages>")[0] + "<stages/><features/></cascade></opencv_storage>", "no stages"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_cascade_is_refused_with_its_reason(tmp_path, text):
    path = tmp_path / "bad.xml"
    path.write_text(BAD[text][0])
    with pytest.raises(ModelError, match=BAD[text][1]) as caught:
        weights.load(f"viola-jones@{path}")
    assert caught.value.exit_code == 4
    assert caught.value.where == str(path)


def test_a_feature_that_leaves_its_window_is_refused(tmp_path):
    top = ET.parse(INSTALLED)
    top.getroot()[0].find("features")[46].find("rect").text = "20 0 3 3"
    top.write(tmp_path / "bad.xml")
    with pytest.raises(ModelError, match="leaves its window of 24 x 24"):
        read_cascade(tmp_path / "bad.xml")


def test_missing_files_and_other_files(tmp_path):
    with pytest.raises(ModelError, match="cannot read the cascade"):
        detector(tmp_path / "none.xml")
    with pytest.raises(ModelError, match=r"end in \.xml"):
        detector(tmp_path / "a.pth")
    huge = tmp_path / "huge.xml"
    with huge.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ModelError, match="more than 64 MB"):
        detector(huge)


@pytest.mark.parametrize("wrong", [{"scale_factor": 1.0}, {"pyramid": "anchors"}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="scale_factor must exceed 1"):
        vj.build(**wrong)


@pytest.mark.parametrize(("name", "expected"), [("haarcascade_frontalface_alt2", "face"), ("haarcascade_eye", "eye"),
                                                ("haarcascade_frontalcatface", "frontalcatface"), ("my-logo", "my-logo")])  # fmt: skip
def test_the_category_is_named_after_the_file(name, expected):
    assert vj.category(Path(f"/x/{name}.xml")) == expected


def test_the_cascade_is_found_without_importing_its_package():
    assert importlib.util.find_spec("skimage") is not None
    assert INSTALLED.is_file()
