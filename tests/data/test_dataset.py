"""Records as training samples: the category map, clipping, masks, keypoints, label pictures, the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool.annotations import rle
from cvtool.data import synth
from cvtool.data.dataset import Dataset, decoded_bytes, mask_of
from cvtool.errors import InputError
from cvtool.records import Record
from cvtool.results import Boxes, Instances, Labels, SemanticMap

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}, {"id": 90, "name": "brush"}]


def record(*annotations: dict, **more: object) -> Record:
    return Record(file_name="a.png", width=20, height=10, annotations=list(annotations), **more)


def target(*annotations: dict, needs=("boxes",), categories=CATEGORIES, **more: object):
    return Dataset([record(*annotations, **more)], categories, needs=needs).target(record(*annotations, **more), 10, 20)


def test_ids_keep_their_meaning() -> None:
    found = target({"bbox": [1, 1, 4, 4], "category_id": 90}, {"bbox": [2, 2, 4, 4], "category_id": 3})
    assert isinstance(found, Boxes)
    assert found.labels.tolist() == [2, 0]
    assert [CATEGORIES[label]["id"] for label in found.labels] == [90, 3]


def test_names_beat_numbers_of_another_data_set() -> None:
    found = target({"bbox": [1, 1, 4, 4], "category_id": 3, "category": "dog"}, {"bbox": [1, 1, 4, 4], "category_id": 1, "category": "cat"})
    assert found.labels.tolist() == [1, 0]
    with pytest.raises(InputError, match="category cow") as error:
        target({"bbox": [1, 1, 4, 4], "category_id": 3, "category": "cow"})
    assert "cat, dog, brush" in str(error.value)
    with pytest.raises(InputError, match="category 5"):
        target({"bbox": [1, 1, 4, 4], "category_id": 5})


def test_boxes_are_clipped_and_what_teaches_nothing_is_left_out() -> None:
    found = target(
        {"bbox": [-3, -2, 6, 6], "category_id": 3},
        {"bbox": [15, 5, 50, 50], "category_id": 3},
        {"bbox": [25, 1, 4, 4], "category_id": 3},
        {"bbox": [5, 5, 0, 4], "category_id": 3},
        {"bbox": [1, 1, 9, 9], "category_id": 3, "iscrowd": 1},
        {"category_id": 3},
    )
    assert found.boxes.tolist() == [[0, 0, 3, 4], [15, 5, 20, 10]]
    empty = target()
    assert tuple(empty.boxes.shape) == (0, 4)
    assert empty.labels.dtype == torch.int64


def test_masks_from_polygons_and_run_lengths() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:6, 3:9] = True
    encoded, _ = rle(mask)
    counts = [3 * 10 + 2] + [4, 6] * 6
    counts[-1] = 200 - sum(counts[:-1])
    plain = {"size": [10, 20], "counts": counts}
    polygon = [[3, 2, 9, 2, 9, 6, 3, 6]]
    for segmentation in (encoded, plain, polygon):
        found = target({"bbox": [3, 2, 6, 4], "category_id": 3, "segmentation": segmentation}, needs=("boxes", "masks"))
        assert isinstance(found, Instances)
        assert np.array_equal(found.masks[0].numpy(), mask)
        assert np.array_equal(mask_of(segmentation, 10, 20), mask)
    with pytest.raises(InputError, match="trains on masks"):
        target({"bbox": [3, 2, 6, 4], "category_id": 3}, needs=("boxes", "masks"))
    with pytest.raises(InputError, match="trains on masks"):
        target({"bbox": [3, 2, 6, 4], "category_id": 3, "segmentation": {"size": [9, 20], "counts": [180]}}, needs=("boxes", "masks"))
    assert tuple(target(needs=("boxes", "masks")).masks.shape) == (0, 10, 20)


def test_keypoints() -> None:
    categories = [{"id": 1, "name": "person", "keypoints": ["a", "b"]}]
    found = target(
        {"bbox": [1, 1, 5, 5], "category_id": 1, "keypoints": [1, 2, 2, 0, 0, 0]},
        {"bbox": [1, 1, 5, 5], "category_id": 1},
        needs=("keypoints",),
        categories=categories,
    )
    assert found.keypoints.tolist() == [[[1, 2, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert tuple(target(needs=("keypoints",), categories=categories).keypoints.shape) == (0, 2, 3)


def test_label_pictures(tmp_path) -> None:
    ids = np.zeros((10, 20), np.uint8)
    ids[:5] = 17
    ids[5:, :3] = 90
    path = tmp_path / "map.png"
    Image.fromarray(ids).save(path)
    found = target(needs=("semantic",), segmentation_map=str(path))
    assert isinstance(found, SemanticMap)
    assert found.labels[0, 0] == 1
    assert found.labels[9, 0] == 2
    assert found.labels[9, 19] == 255  # 0 is no category here: nobody looks at it
    Image.fromarray(ids[:4]).save(path)
    with pytest.raises(InputError, match="20 x 4"):
        target(needs=("semantic",), segmentation_map=str(path))
    with pytest.raises(InputError, match="no such file"):
        target(needs=("semantic",), segmentation_map=str(tmp_path / "none.png"))


def test_a_semantic_map_of_masks() -> None:
    mask = np.zeros((10, 20), bool)
    mask[:4] = True
    found = target({"bbox": [0, 0, 20, 4], "category_id": 17, "segmentation": rle(mask)[0]}, needs=("semantic",))
    assert found.labels[0, 0] == 1
    assert found.labels[9, 0] == 255


def test_labels() -> None:
    found = target(needs=("labels",), labels=[{"category": "dog", "category_id": 17}])
    assert isinstance(found, Labels)
    assert found.labels.tolist() == [1]
    with pytest.raises(InputError, match="no class label"):
        target(needs=("labels",))


def test_pictures_are_decoded_once_within_the_budget() -> None:
    records = synth.shapes(4, 32)
    one = 32 * 32 * 3
    dataset = Dataset(records, synth.CATEGORIES, cache_bytes=2 * one + 5)
    assert decoded_bytes(records) == decoded_bytes([r.changed(width=None) for r in records]) == 4 * one
    assert decoded_bytes([]) == 0
    assert dataset.pixels(0) is dataset.pixels(0)
    assert dataset.pixels(1) is dataset.pixels(1)
    assert dataset.pixels(3) is not dataset.pixels(3)
    with pytest.raises(ValueError, match="read-only"):
        dataset.pixels(0)[0] = 0
    plain = Dataset(records, synth.CATEGORIES)
    assert all(np.array_equal(plain[i].pixels, dataset[i].pixels) for i in range(4))
    with pytest.raises(ValueError, match="cannot need"):
        Dataset(records, synth.CATEGORIES, needs=("boxen",))


def test_merged_categories_are_one() -> None:
    records = [record({"bbox": [1, 1, 5, 5], "category_id": 7}, {"bbox": [2, 2, 5, 5], "category_id": 8})]
    found = Dataset(records, [{"id": 1, "name": "object"}], merged=True).target(records[0], 10, 20)
    assert found.labels.tolist() == [0, 0]


def test_a_box_of_a_hairs_width_teaches_nothing() -> None:
    assert len(target({"bbox": [5, 5, 1e-6, 4], "category_id": 7})) == 0


def test_keypoints_of_another_count_are_refused() -> None:
    categories = [{"id": 1, "name": "person", "keypoints": ["a", "b"]}]
    with pytest.raises(InputError, match="not 3 x 2"):
        target({"bbox": [1, 1, 5, 5], "category_id": 1, "keypoints": [1, 2, 2]}, needs=("keypoints",), categories=categories)


@pytest.mark.parametrize(
    ("needs", "annotation", "said"),
    [
        (("boxes",), {"bbox": [1, 1, 5, 5], "category_id": 7, "iscrowd": 1}, "learns from boxes"),
        (("boxes", "masks"), {"bbox": [1, 1, 5, 5], "category_id": 7}, "learns from masks"),
        (("semantic",), {"bbox": [1, 1, 5, 5], "category_id": 7}, "a class for each pixel, and the training data have boxes"),
        (("labels",), {"bbox": [1, 1, 5, 5], "category_id": 7}, "a class for each picture, and the training data have boxes"),
        (("boxes",), {"bbox": [1, 1, 5, 5], "category_id": 99}, "category 99"),
    ],
)
def test_data_without_what_the_model_learns_from(needs: tuple[str, ...], annotation: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Dataset([record(annotation)], [{"id": 7, "name": "seven"}], needs=needs).check()
