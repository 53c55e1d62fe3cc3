"""The runner with made-up models, whose answers are known exactly."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvtool.batch import Batch, Prepare
from cvtool.checkpoint import Info
from cvtool.errors import InputError, UsageError
from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.results import Boxes, Instances, Labels, SemanticMap
from cvtool.runtime.pool import Loaded
from cvtool.tasks import _runner
from cvtool.tasks._predictor import Settings

CATEGORIES = [{"id": 7, "name": "spot"}, None, {"id": 9, "name": "blob"}]


class Spots(torch.nn.Module):
    """Finds every white 4 x 4 square: its box, in the original's pixels. Remembers the batches that it was shown."""

    prepare = Prepare(mean=(0, 0, 0), std=(1, 1, 1))
    masks = False

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit, self.shown = limit, []

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Boxes]:
        if self.limit is not None and len(batch) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        self.shown.append(tuple(batch.images.shape))
        return [self.one(image, place)[:max_det] for image, place in zip(batch.images, batch.places, strict=True)]

    def one(self, image: torch.Tensor, place: Any) -> Boxes:
        white = image.amin(0) > 0.99
        full = torch.nn.functional.avg_pool2d(white[None, None].float(), 4, stride=1)[0, 0] > 0.999
        boxes, masks = [], []
        for y, x in full.nonzero().tolist():
            boxes.append([x, y, x + 4, y + 4])
            masks.append(torch.zeros_like(white))
            masks[-1][y : y + 4, x : x + 4] = True
        found = place.boxes_back(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        labels, scores = torch.zeros(len(boxes), dtype=torch.int64), torch.full((len(boxes),), 0.5)
        if self.masks:
            return Instances(found, labels, scores, masks=torch.stack(masks) if masks else torch.zeros(0, *white.shape, dtype=torch.bool))
        return Boxes(found, labels, scores)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """`use(model)` makes every lease give that model."""

    def install(model: Any, categories: list = CATEGORIES) -> Any:
        info = Info(reference="spots", categories=categories, sha256="f" * 64)

        @contextmanager
        def lease(reference: Any, **options: Any) -> Iterator[Loaded]:
            yield Loaded(model, info, reference, torch.device("cpu"), "fp32")

        monkeypatch.setattr(_runner.shared_pool, "lease", lease)
        return model

    return install


def spotted(width: int, height: int, spots: list[tuple[int, int]]) -> np.ndarray:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for x, y in spots:
        pixels[y : y + 4, x : x + 4] = 255
    return pixels


class Held(Record):
    """A record whose pixels are at hand."""

    held: Any = None

    def pixels(self) -> np.ndarray:
        if isinstance(self.held, Exception):
            raise self.held
        return self.held


def held(name: str, pixels: Any, **keys: Any) -> Held:
    record = Held(file_name=name, **keys)
    record.held = pixels
    return record


def go(records: Any, verb: str = "detect", **settings: Any) -> list[Record]:
    return list(_runner.run(records, Reference("spots"), verb, Settings(**settings)))


def boxes(record: Record) -> list[list[float]]:
    return [entry["bbox"] for entry in record["annotations"]]


def test_a_record_comes_back_with_all_that_it_brought(use) -> None:
    use(Spots())
    before = held("a.png", spotted(40, 30, [(8, 6)]), id=5, note={"keep": [1]}, annotations=[{"bbox": [0, 0, 1, 1]}], made_by=[{"verb": "x"}])
    (after,) = go([before])
    assert {k: after[k] for k in ("id", "file_name", "width", "height", "note")} == {
        "id": 5, "file_name": "a.png", "width": 40, "height": 30, "note": {"keep": [1]},
    }  # fmt: skip
    (found,) = after["annotations"]  # the annotations that it brought were another model's, or the truth
    assert found == {"category_id": 7, "category": "spot", "score": 0.5, "bbox": [8, 6, 4, 4], "area": 16, "iscrowd": 0}
    first, second = after["made_by"]
    assert first == {"verb": "x"}
    assert (second["verb"], second["model"], second["weights_sha256"]) == ("detect", "spots", "f" * 64)
    assert second["categories"] == [{"id": 7, "name": "spot"}, {"id": 9, "name": "blob"}]
    assert "width" not in before


def test_order_is_kept_and_bad_pictures_pass_through(use) -> None:
    use(Spots())
    sizes = [(40, 30), (64, 20), (40, 30), (20, 64), (40, 30), (64, 20)]
    records: list[Record] = [held(f"{i}.png", spotted(w, h, [(i, 2)])) for i, (w, h) in enumerate(sizes)]
    records[2] = Record(file_name="2.png", error="told before", other=1)
    records[4] = held("4.png", InputError("truncated"))
    done = go(records, batch_size=4)
    assert [r["file_name"] for r in done] == [f"{i}.png" for i in range(6)]
    assert done[2] == {"file_name": "2.png", "error": "told before", "other": 1}
    assert done[4]["error"] == "truncated"
    assert [boxes(r) for i, r in enumerate(done) if i not in (2, 4)] == [[[i, 2, 4, 4]] for i in (0, 1, 3, 5)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_do_not_depend_on_batch_or_threads(use, batch_size: int, workers: int) -> None:
    model = use(Spots())
    sizes = [(40, 30), (64, 20), (40, 30), (20, 64), (40, 30), (64, 20), (41, 30)]
    done = go([held(f"{i}.png", spotted(w, h, [(3 * i, 2), (1, 9)])) for i, (w, h) in enumerate(sizes)], batch_size=batch_size, workers=workers)
    assert [boxes(r) for r in done] == [[[3 * i, 2, 4, 4], [1, 9, 4, 4]] for i in range(7)]
    assert max(shape[0] for shape in model.shown) == min(batch_size, 3)  # only pictures of one shape share a batch


def test_out_of_memory_halves_the_batch_and_says_so_once(use) -> None:
    model = use(Spots(limit=2))
    said: list[str] = []
    records = [held(f"{i}.png", spotted(40, 30, [(i, 2)])) for i in range(20)]
    done = list(_runner.run(records, Reference("spots"), "detect", Settings(batch_size=8), report=said.append))
    assert [boxes(r) for r in done] == [[[i, 2, 4, 4]] for i in range(20)]
    assert {shape[0] for shape in model.shown} == {2}
    assert len(said) == 1
    assert "8 pictures" in said[0]


def test_out_of_memory_for_one_picture_is_its_error(use) -> None:
    use(Spots(limit=0))
    (done,) = go([held("a.png", spotted(40, 30, []))])
    assert "--tile" in done["error"]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("CUDA out of memory")],
)
def test_every_kind_of_out_of_memory_is_known(error: Exception) -> None:
    from cvtool.tasks._predictor import out_of_memory

    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("shape mismatch"))
    assert not out_of_memory(ValueError("out of memory"))


def test_a_fault_of_the_model_is_not_taken_for_a_bad_picture(use) -> None:
    class Broken(Spots):
        def predict(self, batch: Batch, **options: Any) -> list[Boxes]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    use(Broken())
    with pytest.raises(RuntimeError, match="mat1"):
        go([held("a.png", spotted(40, 30, []))])


def test_a_picture_that_the_model_refuses_does_not_stop_its_batch(use) -> None:
    class Picky(Spots):
        def predict(self, batch: Batch, *, conf: float | None = None) -> list[Boxes]:
            if (batch.images.amax(dim=(1, 2, 3)) == 0).any():
                raise InputError("nothing to see")
            return super().predict(batch)

    use(Picky())
    done = go([held(f"{i}.png", spotted(40, 30, [(5, 5)] if i != 2 else [])) for i in range(4)], batch_size=4)
    assert [r.get("error") for r in done] == [None, None, "nothing to see", None]


def test_what_came_before_a_broken_source_is_still_done(use) -> None:
    use(Spots())

    def source() -> Iterator[Record]:
        yield from (held(f"{i}.png", spotted(40, 30, [(i, 2)])) for i in range(3))
        raise InputError("line 4 is no JSON")

    done: list[str] = []
    stream = _runner.run(source(), Reference("spots"), "detect", Settings(batch_size=8))
    with pytest.raises(InputError, match="line 4"):
        done.extend(record["file_name"] for record in stream)
    assert done == ["0.png", "1.png", "2.png"]


def test_a_thousand_pictures_in_constant_memory(use) -> None:
    use(Spots())
    alive = most = 0

    class Pixels(np.ndarray):
        pass

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def source() -> Iterator[Record]:
        nonlocal alive, most
        for i in range(1000):
            pixels = spotted(16 + i % 3, 16, []).view(Pixels)
            weakref.finalize(pixels, freed)
            alive += 1
            most = max(most, alive)
            yield held(f"{i}.png", pixels)

    assert sum(1 for _ in _runner.run(source(), Reference("spots"), "detect", Settings(batch_size=4, workers=2))) == 1000
    assert most <= 4 * 4 + 8


def test_stopping_early_stops_the_threads(use) -> None:
    use(Spots())
    before = threading.active_count()
    stream = _runner.run((held(f"{i}.png", spotted(40, 30, [])) for i in range(1000)), Reference("spots"), "detect", Settings(workers=3))
    next(stream)
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("cvtool-read"):
            thread.join(5)
    assert threading.active_count() <= before


@pytest.mark.parametrize("batch_size", [1, 5])
def test_tiles_find_what_the_whole_finds(use, batch_size: int) -> None:
    model = use(Spots())
    spots = [(3, 5), (60, 40), (61, 90), (110, 8), (150, 96), (31, 31)]
    pixels = spotted(160, 100, spots)
    (whole,) = go([held("a.png", pixels)])
    model.shown.clear()
    tiled, small = go([held("a.png", pixels), held("b.png", spotted(30, 30, [(1, 1)]))], tile=48, overlap=0.25, batch_size=batch_size)
    assert sorted(boxes(tiled)) == sorted(boxes(whole)) == sorted([x, y, 4.0, 4.0] for x, y in spots)
    assert boxes(small) == [[1, 1, 4, 4]]
    assert {shape[2:] for shape in model.shown} == {(48, 48), (30, 30)}


def test_windows_of_several_pictures_share_a_batch(use) -> None:
    model = use(Spots())
    go([held(f"{i}.png", spotted(100, 48, [(50, 9)])) for i in range(4)], tile=48, overlap=0.0, batch_size=12)
    assert [shape[0] for shape in model.shown] == [12]  # three windows each


def test_a_picture_smaller_than_the_tile_is_as_without_tiling(use) -> None:
    use(Spots())
    pixels = spotted(40, 30, [(5, 5), (30, 20)])
    assert go([held("a.png", pixels)], tile=64) == go([held("a.png", pixels)])


def test_tiled_masks_lie_over_the_whole_picture(use) -> None:
    from pycocotools import mask as coco

    model = Spots()
    model.masks = True
    use(model)
    spots = [(3, 5), (60, 40), (110, 8)]
    pixels = spotted(160, 100, spots)
    whole, tiled = go([held("a.png", pixels)], "segment"), go([held("a.png", pixels)], "segment", tile=48)
    key = lambda entry: entry["bbox"]  # noqa: E731
    assert sorted(tiled[0]["annotations"], key=key) == sorted(whole[0]["annotations"], key=key)
    assert coco.decode(tiled[0]["annotations"][0]["segmentation"]).shape == (100, 160)
    assert "segmentation" not in go([held("a.png", pixels)])[0]["annotations"][0]  # detect is about boxes


def test_semantic_tiles_equal_the_whole(use) -> None:
    class Bright(torch.nn.Module):
        prepare = Prepare(mean=(0, 0, 0), std=(1, 1, 1))

        def predict(self, batch: Batch) -> list[SemanticMap]:
            return [SemanticMap((image.mean(0) > 0.5).long() * 2, image.mean(0)) for image in batch.images]

    use(Bright())
    pixels = spotted(160, 100, [(3, 5), (60, 40), (110, 8)])
    (whole,), (tiled,) = go([held("a.png", pixels)], "segment"), go([held("a.png", pixels)], "segment", tile=48)
    assert whole["annotations"] == tiled["annotations"]
    assert [entry["category"] for entry in whole["annotations"]] == ["spot", "blob"]
    with pytest.raises(UsageError, match="nothing for detect"):
        go([held("a.png", pixels)])
    with pytest.raises(UsageError, match="--conf has no effect"):
        go([held("a.png", pixels)], "segment", conf=0.5)


def test_classes_are_chosen_after_the_model_and_before_the_best_five(use) -> None:
    class Shares(torch.nn.Module):
        prepare = Prepare()

        def predict(self, batch: Batch) -> list[Labels]:
            return [Labels(torch.tensor([2, 1, 0]), torch.tensor([0.5, 0.3, 0.2])) for _ in batch.places]

    use(Shares())
    pixels = spotted(40, 30, [])
    (every,) = go([held("a.png", pixels)], "classify", top=5)
    assert [(e["category"], e["category_id"]) for e in every["labels"]] == [("blob", 9), ("spot", 7)]  # what was never trained is never said
    assert [e["category"] for e in go([held("a.png", pixels)], "classify", top=1)[0]["labels"]] == ["blob"]
    assert [e["category"] for e in go([held("a.png", pixels)], "classify", top=1, classes=["Spot"])[0]["labels"]] == ["spot"]
    with pytest.raises(UsageError, match="unknown class 'sopt'"):
        go([held("a.png", pixels)], "classify", classes=["sopt"])
    with pytest.raises(UsageError, match="--tile"):
        go([held("a.png", pixels)], "classify", tile=64)


def test_options_that_a_model_does_not_take_are_refused(use) -> None:
    class Plain(Spots):
        def predict(self, batch: Batch, *, conf: float | None = None) -> list[Boxes]:  # type: ignore[override]
            return super().predict(batch)

    use(Plain())
    with pytest.raises(UsageError, match="--max-det has no effect") as caught:
        go([held("a.png", spotted(40, 30, []))], max_det=3)
    assert "--conf" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="--overlap"):
        _runner.run([], Reference("spots"), "detect", Settings(overlap=0.3))


def test_img_size_changes_what_this_run_sees_and_nothing_else(use) -> None:
    model = use(Spots())
    before = model.prepare
    (record,) = go([held("a.png", spotted(40, 30, [(8, 8)]))], img_size=80)
    assert model.shown[0] == (1, 3, 60, 80)
    assert model.prepare is before
    assert all(6 <= box[0] <= 13 for box in boxes(record))  # in the original's pixels still


def test_a_model_that_is_no_network(use) -> None:
    class Rule:
        prepare = Prepare()

        def predict(self, batch: Batch) -> list[Boxes]:
            return [Boxes(np.array([[1, 2, 3, 4]], np.float32), np.array([0]), np.array([1.0], np.float32)) for _ in batch.places]

    use(Rule())
    assert boxes(go([held("a.png", spotted(40, 30, []))])[0]) == [[1, 2, 2, 2]]


def test_the_model_is_not_loaded_for_bad_pictures_alone(use, monkeypatch: pytest.MonkeyPatch) -> None:
    def lease(*_: Any, **__: Any) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(_runner.shared_pool, "lease", lease)
    assert [r["error"] for r in go([held("a.png", InputError("empty file")), Record(file_name="b", error="gone")])] == ["empty file", "gone"]


def test_crops_lie_under_their_category(use, tmp_path: Path) -> None:
    from PIL import Image

    use(Spots(), [{"id": 1, "name": "a/b: c"}])
    records = [held("x/p.png", spotted(40, 30, [(8, 6), (38, 28)])), held("y/p.png", spotted(40, 30, [(0, 0)]))]
    go(records, save_crops=tmp_path / "crops")
    found = sorted(p.relative_to(tmp_path / "crops").as_posix() for p in (tmp_path / "crops").rglob("*") if p.is_file())
    assert found == ["a_b_ c/p_1.jpg", "a_b_ c/y_p_1.jpg"]
    crop = np.asarray(Image.open(tmp_path / "crops" / found[0]))
    assert crop.shape == (4, 4, 3)
    assert crop.min() > 240
