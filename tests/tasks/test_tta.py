"""Test-time augmentation: what is equivariant stays as it is, averages are those worked out by hand, boxes come back to their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from cvtool import weights
from cvtool.batch import Batch, Prepare
from cvtool.checkpoint import Info
from cvtool.errors import UsageError
from cvtool.records import Record
from cvtool.registry import Reference, parse
from cvtool.results import Boxes, Instances, Labels, SemanticMap
from cvtool.runtime.pool import Loaded
from cvtool.tasks import _runner, _views
from cvtool.tasks._predictor import Settings
from cvtool.tasks._views import View

PLAIN = Prepare(mean=(0, 0, 0), std=(1, 1, 1))


class Held(Record):
    held: Any = None

    def pixels(self) -> np.ndarray:
        return self.held


def shown(
    monkeypatch: pytest.MonkeyPatch, model: Any, pictures: list[np.ndarray], verb: str, categories: list | None = None, **settings: Any
) -> list:
    """The records that `verb` makes of pictures."""
    info = Info(reference="toy", categories=categories or model.categories)

    @contextmanager
    def lease(reference: Any, **options: Any) -> Iterator[Loaded]:
        yield Loaded(model, info, reference, torch.device("cpu"), "fp32")

    monkeypatch.setattr(_runner.shared_pool, "lease", lease)
    records = []
    for i, picture in enumerate(pictures):
        records.append(Held(file_name=f"{i}.png"))
        records[-1].held = picture
    done = list(_runner.run(records, Reference("toy"), verb, Settings(**settings)))
    assert not [record["error"] for record in done if "error" in record]
    return done


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


class White(torch.nn.Module):
    """A detector of the one white rectangle, with a score that falls from left to right unless `fair`."""

    result: type = Boxes
    categories = [{"id": 1, "name": "spot", "keypoints": ["left_end", "right_end"]}]
    prepare = PLAIN

    def __init__(self, *, fair: bool = True, points: bool = False) -> None:
        super().__init__()
        self.fair, self.points = fair, points
        self.sizes: list[tuple[int, ...]] = []

    def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None) -> list[Boxes]:
        found: list[Boxes] = []
        for image, place in zip(batch.images, batch.places, strict=True):
            self.sizes.append(tuple(image.shape[1:]))
            rows, columns = (image.amin(0) > 0.5).nonzero(as_tuple=True)
            box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=torch.float32)
            score = torch.tensor([0.75 if self.fair else 1 - columns.float().mean().item() / image.shape[2]])
            keep = score >= (conf or 0)
            boxes, labels, score = place.boxes_back(box)[keep], torch.zeros(1, dtype=torch.int64)[keep], score[keep]
            if not self.points:
                found.append(Boxes(boxes, labels, score))
                continue
            middle = (boxes[:, 1] + boxes[:, 3]) / 2
            ends = torch.stack([torch.stack([boxes[:, 0], middle, middle * 0 + 2], 1), torch.stack([boxes[:, 2] - 1, middle, middle * 0 + 2], 1)], 1)
            found.append(Instances(boxes, labels, score, keypoints=ends))
        return found


def white(width: int = 40, height: int = 30, box: tuple[int, int, int, int] = (4, 6, 12, 20)) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return pixels


@pytest.mark.parametrize("tta", ["hflip", "vflip", "hflip,vflip", "scale:2", "hflip,vflip,scale:0.5,2"])
def test_boxes_come_back_to_the_pixel(monkeypatch, tta: str) -> None:
    model = White(points=True)
    plain, looked = (shown(monkeypatch, model, [white(), white(44, 30)], "detect", tta=how) for how in (None, tta))
    for one, other in zip(plain, looked, strict=True):
        (a,), (b,) = one["annotations"], other["annotations"]
        assert b["bbox"] == a["bbox"] == [4, 6, 8, 14]
        assert b["score"] == a["score"] == 0.75
        assert b["keypoints"] == a["keypoints"]  # ends keep their names: what is left in the mirror is right
    if "scale:2" in tta:
        assert (60, 80) in model.sizes


def test_scores_are_those_of_the_fusion_and_conf_is_asked_of_it(monkeypatch) -> None:
    model, picture = White(fair=False), white()
    scores = []
    for one in (picture, np.ascontiguousarray(picture[:, ::-1])):
        ((found,),) = [record["annotations"] for record in shown(monkeypatch, model, [one], "detect")]
        scores.append(found["score"])
    assert scores[0] != scores[1]
    (record,) = shown(monkeypatch, model, [picture], "detect", tta="hflip")
    assert record["annotations"][0]["score"] == pytest.approx(sum(scores) / 2, abs=1e-3)
    middle = sum(scores) / 2
    for conf, count in ((middle - 0.01, 1), (middle + 0.01, 0)):  # the surer look alone would pass both
        assert len(shown(monkeypatch, model, [picture], "detect", tta="hflip", conf=conf)[0]["annotations"]) == count


def test_in_windows_too(monkeypatch) -> None:
    picture = white(100, 90, (60, 50, 70, 62))

    class Sometimes(White):
        def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None) -> list[Boxes]:
            none = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
            return [super(Sometimes, self).predict(self.one(batch, i))[0] if batch.images[i].amax() > 0.9 else none for i in range(len(batch))]

        def one(self, batch: Batch, i: int) -> Batch:
            return Batch(batch.images[i : i + 1], batch.padding[i : i + 1], batch.places[i : i + 1])

    (record,) = shown(monkeypatch, Sometimes(), [picture], "detect", tta="hflip", tile=48, overlap=0.5)
    assert [entry["bbox"] for entry in record["annotations"]] == [[60, 50, 10, 12]]


def test_the_mean_of_the_probabilities_of_classes(monkeypatch) -> None:
    torch.manual_seed(0)
    model = weights.build(parse("simple-cnn.tiny"), categories=[{"id": i, "name": f"c{i}"} for i in range(7)]).eval()
    torch.nn.init.normal_(model.net.fc.weight, 0, 3)
    picture = noise(32, 32)
    views = [picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]]
    with torch.no_grad():
        mean = sum(model(model.prepare([np.ascontiguousarray(view)]).images).softmax(1)[0].double() for view in views) / 4
    (record,) = shown(monkeypatch, model, [picture], "classify", tta="hflip,vflip", top=None)
    found = {entry["category"]: entry["score"] for entry in record["labels"]}
    assert found == pytest.approx({f"c{i}": float(share) for i, share in enumerate(mean)}, abs=1e-5)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    (few,) = shown(monkeypatch, model, [picture], "classify", tta="hflip,vflip", top=2)
    assert few["labels"] == record["labels"][:2]
    (sure,) = shown(monkeypatch, model, [picture], "classify", tta="hflip,vflip", top=None, conf=0.2)
    assert sure["labels"] == [entry for entry in record["labels"] if entry["score"] >= 0.2]


def test_a_scale_is_the_size_at_which_the_model_sees_the_same_part(monkeypatch) -> None:
    seen = []

    class Sees(torch.nn.Module):
        categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        prepare = Prepare(resize="crop", size=32, crop_fraction=0.5)

        def predict(self, batch: Batch, *, max_det: int | None = None) -> list[Labels]:
            seen.append((tuple(batch.images.shape[2:]), batch.places[0]))
            return [Labels(torch.tensor([0, 1]), torch.tensor([0.6, 0.4])) for _ in batch.places]

    shown(monkeypatch, Sees(), [noise(100, 80)], "classify", tta="scale:0.75,2")
    assert [size for size, _ in seen] == [(32, 32), (24, 24), (64, 64)]
    assert {round(place.top / place.inner_height, 2) for _, place in seen} == {-0.25}


@pytest.mark.parametrize("name", ["unet.tiny", "fcn.tiny"])
def test_the_mean_of_the_probabilities_of_pixels(name: str) -> None:
    torch.manual_seed(0)
    model = weights.build(parse(name), categories=[{"id": i, "name": f"c{i}"} for i in range(3)]).eval()
    list(model.parameters())[-2].data.div_(list(model.parameters())[-2].data.abs().max() * 20)  # probabilities that are not 0 or 1
    picture = noise(50, 38)

    def shares(pixels: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return next(iter(model.probabilities(model.prepare([np.ascontiguousarray(pixels)]))))

    plain = model.predict(model.prepare([picture]))[0]
    best, labels = shares(picture).max(0)
    assert torch.equal(labels, plain.labels)
    assert torch.allclose(best, plain.scores, atol=1e-5)
    mean = (shares(picture) + shares(picture[:, ::-1]).flip(-1)) / 2
    assert mean.max() < 0.999
    got = _answers(model, picture, tta="hflip")
    assert torch.equal(got.labels, mean.max(0).indices)
    assert torch.allclose(got.scores, mean.max(0).values, atol=1e-6)
    assert got.labels.shape == (38, 50)
    scaled = _answers(model, picture, tta="scale:0.5,1.5,hflip")
    assert scaled.labels.shape == (38, 50)


def _answers(model: Any, picture: np.ndarray, **settings: Any) -> SemanticMap:
    from cvtool.tasks._predictor import Predictor

    loaded = Loaded(model, Info(reference="toy", categories=model.categories), Reference("toy"), torch.device("cpu"), "fp32")
    (answer,) = Predictor(loaded, Settings(**settings), print, verb="segment")([picture])
    assert isinstance(answer, SemanticMap)
    return answer


def test_a_network_that_mirrors_says_the_same_of_the_mirror() -> None:
    """Pixel by pixel: nothing to gain, nothing to lose."""

    class Bright(torch.nn.Module):
        result = SemanticMap
        categories = [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}]
        prepare = PLAIN

        def probabilities(self, batch: Batch) -> Iterator[torch.Tensor]:
            for image, place in zip(batch.images, batch.places, strict=True):
                share = place.map_back(image.mean(0, keepdim=True))
                yield torch.cat([1 - share, share])

        def predict(self, batch: Batch) -> list[SemanticMap]:
            found = [shares.max(0) for shares in self.probabilities(batch)]
            return [SemanticMap(labels, best) for best, labels in found]

    picture = noise(31, 20)
    plain = _answers(Bright(), picture)
    looked = _answers(Bright(), picture, tta="hflip,vflip")
    assert torch.equal(plain.labels, looked.labels)
    assert torch.allclose(plain.scores, looked.scores, atol=1e-7)


def test_what_cannot_be_averaged_is_refused(monkeypatch) -> None:
    class Maps(torch.nn.Module):
        prepare = PLAIN
        categories = [{"id": 1, "name": "a"}]

        def predict(self, batch: Batch) -> list:
            masks = torch.zeros(0, 20, 31, dtype=torch.bool)
            return [Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), masks=masks) for _ in batch.places]

    with pytest.raises(UsageError, match="a mask for each object"):
        shown(monkeypatch, Maps(), [noise(31, 20)], "segment", tta="hflip")
    assert shown(monkeypatch, Maps(), [noise(31, 20)], "detect", tta="hflip")[0]["annotations"] == []

    class Fixed(White):
        prepare = staticmethod(lambda pictures: PLAIN(pictures))  # type: ignore[assignment]

    with pytest.raises(UsageError, match="one size only"):
        shown(monkeypatch, Fixed(), [white()], "detect", tta="scale:2")
    assert shown(monkeypatch, Fixed(), [white()], "detect", tta="hflip")[0]["annotations"]


def test_names() -> None:
    assert _views.parse("hflip") == [View(), View(hflip=True)]
    assert len(_views.parse("hflip,vflip,scale:0.75,scale:1.25")) == 12
    assert _views.parse("scale:0.75,1.25") == _views.parse("scale:0.75,scale:1.25")
    for text, told in (
        ("hflop", "did you mean hflip"), ("rotate", "hflip, vflip, scale:F"), ("", "no view"), ("scale", "such as scale:0.75"),
        ("hflip,hflip", "twice"),
        ("scale:1", "as it is"), ("scale:9", "from 0.1 to 4"), ("scale:2,2", "twice"), ("hflip:3", "no argument"), ("scale:big", "not big"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            _views.parse(text)
        assert told in f"{caught.value.what} {caught.value.hint}", text


def test_more_than_five_classes_where_more_are_asked_for(monkeypatch) -> None:
    model = weights.build(parse("simple-cnn.tiny"), categories=[{"id": i, "name": f"c{i}"} for i in range(9)]).eval()
    (record,) = shown(monkeypatch, model, [noise(32, 32)], "classify", top=8)
    assert len(record["labels"]) == 8
    last = shown(monkeypatch, model, [noise(32, 32)], "classify", top=None)[0]["labels"][-1]["category"]
    (record,) = shown(monkeypatch, model, [noise(32, 32)], "classify", top=1, classes=[last])
    assert [entry["category"] for entry in record["labels"]] == [last]
