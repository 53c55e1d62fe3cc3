"""Which image and which category of one side is which of the other."""

import pytest

from cvtool.data.pairing import match_categories, match_images
from cvtool.data.sides import Side
from cvtool.errors import InputError


def side(*images: tuple, kind: str = "document", ids: str = "source") -> Side:
    """(id or None, file name or None) each."""
    keys = ("id", "file_name")
    return Side("file", kind, images=[{k: v for k, v in zip(keys, image, strict=True) if v is not None} for image in images], ids=ids)


def named(*names: str) -> Side:
    return side(*((None, name) for name in names))


@pytest.mark.parametrize(
    ("truth", "found", "positions"),
    [
        (["a/1.jpg", "b/1.jpg"], ["b/1.jpg", "a/1.jpg"], [1, 0]),  # whole
        (["1.jpg", "2.jpg"], ["/x/2.jpg", "./1.jpg"], [1, 0]),  # the end of a longer path
        (["/x/a/1.jpg", "/x/b/1.jpg"], ["b/1.jpg"], [1]),
        (["1.jpg", "a/1.jpg"], ["/x/b/1.jpg", "/x/a/1.jpg"], [0, 1]),  # the longest end
        (["val/1.jpg"], ["train/1.jpg", "val/1.jpg"], [None, 0]),  # what a stricter rule has taken is out of reach
        (["images/1.jpg"], ["frames/1.jpg"], [0]),  # other folders
        (["images\\1.jpg"], ["x/images/1.jpg"], [0]),  # Windows
        (["1.jpg", "2.jpg"], ["2.png", "x/1"], [1, 0]),  # other suffixes
        (["1.tar.jpg"], ["1.jpg"], [None]),
    ],
)
def test_by_name(truth: list, found: list, positions: list) -> None:
    if not any(p is not None for p in positions):
        with pytest.raises(InputError, match="no detected image"):
            match_images(named(*truth), named(*found))
        return
    assert match_images(named(*truth), named(*found)).positions == positions


def test_two_candidates_are_an_error() -> None:
    with pytest.raises(InputError, match=r"1\.jpg could be any of 2 ground-truth images: a/1\.jpg, b/1\.jpg"):
        match_images(named("a/1.jpg", "b/1.jpg"), named("1.jpg"))
    with pytest.raises(InputError, match=r"1\.jpeg and 1\.png are the same ground-truth image, 1\.jpg"):
        match_images(named("1.jpg"), named("1.png", "1.jpeg"))
    with pytest.raises(InputError, match="stands twice"):
        match_images(named("1.jpg"), named("1.jpg", "1.jpg"))


def test_ids_first_then_names() -> None:
    truth = side((7, "a.jpg"), (8, "b.jpg"))
    assert match_images(truth, side((8, "x/b.png"))).how == "image id"
    assert match_images(truth, side((8, None))).positions == [1]
    assert match_images(truth, side((7, "b.jpg"), (8, "a.jpg"))).positions == [1, 0]  # the names say otherwise
    assert match_images(truth, side((1, "b.jpg"), ids="collected")).how == "file name"
    assert match_images(truth, side((7, "b.jpg"), (7, "a.jpg"))).positions == [1, 0]  # joined streams
    assert match_images(truth, side((8, None), (9, None), kind="results")).positions == [1, None]
    assert match_images(side((7, None)), side((7, "c.jpg"))).how == "image id"


def test_the_account() -> None:
    result = match_images(named("1.jpg", "2.jpg", "3.jpg"), named("1.jpg", "9.jpg"))
    assert result.account == "matched 1 of 2 detected images by file name; 2 of 3 ground-truth images without detections"
    assert result.warnings == ["1 detected image of 2 is not in the ground truth and left out: 9.jpg"]


TRUTH = [{"id": 1, "name": "person"}, {"id": 3, "name": "traffic light"}]


def test_categories_by_id_and_by_name() -> None:
    assert match_categories(TRUTH, [], [3, 1], where="x") == ({3: 3, 1: 1}, [])
    assert match_categories(TRUTH, TRUTH, [1, 3], where="x") == ({1: 1, 3: 3}, [])
    mapping, warnings = match_categories(TRUTH, [{"id": 0, "name": "Person"}, {"id": 1, "name": "traffic_light"}], [1, 0], where="x")
    assert mapping == {1: 3, 0: 1}
    assert "matched by name: traffic_light 1 -> 3, Person 0 -> 1" in warnings[0]


def test_names_that_only_repeat_the_number_do_not_count() -> None:
    assert match_categories(TRUTH, [{"id": 1, "name": "class1"}, {"id": 3, "name": "3"}], [1, 3], where="x") == ({1: 1, 3: 3}, [])
    assert match_categories([{"id": 1}], [{"id": 1, "name": "dog"}], [1], where="x") == ({1: 1}, [])


def test_a_name_of_two_categories_is_matched_by_id() -> None:
    twice = [{"id": 1, "name": "wheel"}, {"id": 2, "name": "Wheel"}]
    assert match_categories(twice, twice, [2, 1], where="x")[0] == {2: 2, 1: 1}
    assert match_categories(twice, [{"id": 5, "name": "Wheel"}], [5], where="x")[0] == {5: 2}
    with pytest.raises(InputError, match="no category in common"):
        match_categories(twice, [{"id": 5, "name": "WHEEL"}], [5], where="x")


def test_no_detections_need_no_categories() -> None:
    assert match_categories(TRUTH, [], [], where="x") == ({}, [])
    with pytest.raises(InputError, match=r"detections: 5; ground truth: 1 \(person\), 3 \(traffic light\)"):
        match_categories(TRUTH, [], [5], where="x")
