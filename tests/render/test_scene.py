"""Whole pictures: what is drawn where, at every size."""

import numpy as np
import pytest

from cvtool.annotations import rle
from cvtool.categories import coco_person
from cvtool.errors import InputError
from cvtool.render import keypoints, palette, scene


def gray(width, height, value=90):
    return np.full((height, width, 3), value, np.uint8)


def drawn(picture, annotations, **options):
    return np.asarray(scene.draw(picture, annotations, **options)).astype(int)


DOG = {"bbox": [100, 80, 200, 150], "category_id": 18, "category": "dog", "score": 0.9}


def test_a_box_has_its_category_s_colour_on_its_edge():
    out = drawn(gray(640, 480), [DOG], names=False)
    assert tuple(out[80, 200]) == tuple(out[229, 200]) == tuple(out[150, 100]) == tuple(out[150, 299]) == palette.colour("dog")
    assert (out[100:210, 120:280] == 90).all()
    assert (out[:70] == 90).all()


def test_the_picture_itself_is_left_as_it_is():
    picture = gray(400, 400)
    scene.draw(picture, [DOG])
    assert (picture == 90).all()


def test_a_tag_stands_on_the_box_in_the_same_colour():
    out = drawn(gray(640, 480), [DOG])
    above = out[60:79, 100:180].reshape(-1, 3)
    assert (above == palette.colour("dog")).all(axis=1).mean() > 0.3
    assert (out[300:] == 90).all()


@pytest.mark.parametrize(("size", "scale"), [((1, 1), 400), ((32, 32), 13), ((64, 48), 7), ((319, 200), 2), ((320, 200), 1), ((4000, 3000), 1)])
def test_small_pictures_are_enlarged_by_a_whole_number(size, scale):
    assert scene.enlargement(size) == scale


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2), (32, 32), (100, 75), (4000, 3000)])
def test_every_size_can_be_drawn_on(size):
    width, height = size
    box = [0.2 * width, 0.2 * height, 0.5 * width, 0.6 * height]
    mask = np.zeros((height, width), bool)
    mask[int(0.2 * height) : int(0.8 * height) + 1, int(0.2 * width) : int(0.7 * width) + 1] = True
    found = [{"bbox": box, "category": "cat", "score": 0.5}, {"category": "dog", "segmentation": rle(mask)[0], "score": 0.7, "bbox": box}]
    points = [value for i in range(17) for value in (width * i / 17, height * i / 17, 2)]
    found.append({"bbox": box, "category": "person", "keypoints": points, "score": 0.6})
    factor = scene.enlargement(size)
    image = scene.draw(gray(*size), found)
    assert image.width == width * factor
    assert image.height >= height * factor
    assert np.asarray(image).std() > 0


def test_lines_and_text_grow_with_the_picture_and_shrink_with_the_crowd():
    small, normal, large = (scene.style(size, 5) for size in ((320, 240), (640, 480), (4000, 3000)))
    assert (normal.line, normal.font) == (2, 13)
    assert small.font >= scene.MIN_FONT
    assert small.line >= 1
    assert large.line > 4 * normal.line
    assert large.font > 5 * normal.font
    assert scene.style((4000, 3000), 200).font < large.font
    assert scene.style((640, 480), 5, line_width=7).line == 7


def test_a_mask_is_tinted_inside_with_a_contour_at_its_edge():
    mask = np.zeros((400, 400), bool)
    mask[100:300, 120:280] = True
    out = drawn(gray(400, 400), [{"category": "cat", "category_id": 17, "segmentation": rle(mask)[0], "score": 0.8}], names=False)
    colour = np.array(palette.colour("cat"))
    assert (np.abs(out[150:250, 150:250] - (90 + 0.42 * (colour - 90))) <= 1).all()
    assert np.abs(out[200, 120] - colour).max() < 40
    assert (out[:90] == 90).all()
    assert (out[310:] == 90).all()


def test_neighbours_of_one_category_get_different_shades():
    found = []
    for i in range(4):
        mask = np.zeros((400, 400), bool)
        mask[100:300, 20 + 90 * i : 100 + 90 * i] = True
        found.append({"category": "cat", "category_id": 17, "segmentation": rle(mask)[0], "score": 0.8})
    out = drawn(gray(400, 400), found, names=False)
    colours = [tuple(out[200, 60 + 90 * i]) for i in range(4)]
    assert len(set(colours)) == 4
    boxes = [{"category": "cat", "bbox": [20 + 90 * i, 100, 80, 200]} for i in range(4)]
    plain = drawn(gray(400, 400), boxes, names=False)
    assert {tuple(plain[200, 20 + 90 * i]) for i in range(4)} == {palette.colour("cat")}
    apart = drawn(gray(400, 400), boxes, names=False, color_by="instance")
    assert len({tuple(apart[200, 20 + 90 * i]) for i in range(4)}) == 4


def test_a_map_is_tinted_without_boxes_and_has_a_legend():
    left = np.zeros((400, 400), bool)
    left[:, :200] = True
    found = []
    for key, name, mask in ((1, "road", left), (2, "sky", ~left)):
        encoded, area = rle(mask)
        found.append({"category_id": key, "category": name, "segmentation": encoded, "area": area, "bbox": [0, 0, 200, 400], "iscrowd": 0})
    assert scene.is_map(found, (400, 400))
    image = scene.draw(gray(400, 400), found)
    assert image.height > 400
    out = np.asarray(image).astype(int)
    assert (np.abs(out[380, 50] - (90 + np.array(palette.colour("road"))) / 2) <= 1).all()
    assert (out[400:] == palette.colour("road")).all(axis=2).any()
    assert (out[400:] == palette.colour("sky")).all(axis=2).any()
    assert not scene.is_map([a | {"score": 0.5} for a in found], (400, 400))
    assert not scene.is_map([found[0], found[0] | {"category_id": 1}], (400, 400))


def test_what_is_said_of_the_whole_stands_below():
    image = scene.draw(gray(500, 400), labels=[{"category": "tabby", "score": 0.8}, {"category": "tiger cat", "score": 0.1}] * 5)
    assert image.width == 500
    assert 400 < image.height < 650
    assert (np.asarray(image)[:400] == 90).all()


def test_in_a_crowd_a_legend_names_what_has_no_tag():
    found = [{"bbox": [x, y, 15, 15], "category": "RBC", "score": 0.5} for x in range(5, 620, 20) for y in range(5, 440, 20)]
    image = scene.draw(gray(640, 460), found)
    assert image.height > 460
    free = (np.asarray(image)[:460] == 90).all(axis=2).mean()
    assert free > 0.2


def test_a_crowd_region_is_dashed():
    out = drawn(gray(640, 480), [DOG | {"iscrowd": 1}], names=False)
    edge = (out[80, 100:300] == palette.colour("dog")).all(axis=1)
    assert 0.3 < edge.mean() < 0.9


def test_a_polygon_that_is_only_the_box_is_a_box():
    ring = [100, 80, 300, 80, 300, 230, 100, 230]
    assert (drawn(gray(640, 480), [DOG | {"segmentation": [ring]}]) == drawn(gray(640, 480), [DOG])).all()


def test_names_come_from_the_annotation_or_the_table_or_the_id():
    table = {7: {"id": 7, "name": "train"}}
    assert scene.name_of({"category_id": 7, "category": "tram"}, table) == "tram"
    assert scene.name_of({"category_id": 7}, table) == "train"
    assert scene.name_of({"category_id": 8}, table) == "class8"
    assert scene.name_of({}, table) == "object"


def test_a_mask_of_another_picture_is_an_input_error():
    with pytest.raises(InputError, match="40 x 30"):
        scene.draw(gray(400, 400), [{"category": "cat", "segmentation": rle(np.ones((30, 40), bool))[0]}])


def person(visibility):
    points = [0.0] * 51
    points[15:18] = [100, 100, visibility]  # left shoulder
    points[18:21] = [300, 100, visibility]  # right shoulder
    points[21:24] = [100, 250, visibility]  # left elbow
    return {"bbox": [50, 50, 300, 300], "category_id": 1, "category": "person", "keypoints": points}


def test_limbs_connect_points_that_are_there_and_tell_the_sides():
    out = drawn(gray(400, 400), [person(2)], names=False)
    assert tuple(out[175, 99]) == keypoints.LEFT
    assert tuple(out[99, 200]) == keypoints.MIDDLE
    assert (out[180:240, 200:320] == 90).all()


def test_hidden_points_are_faint_in_ground_truth_only():
    truth, found = (drawn(gray(400, 400), [p], names=False) for p in (person(1), person(1) | {"score": 0.9}))
    assert tuple(found[175, 99]) == keypoints.LEFT
    assert tuple(truth[175, 99]) != keypoints.LEFT
    assert (drawn(gray(400, 400), [person(0)], names=False)[150:200, 90:110] == 90).all()


def test_the_skeleton_is_the_category_s_or_coco_s():
    names, limbs = keypoints.skeleton(None, 17)
    assert names[5] == "left_shoulder"
    assert (5, 6) in limbs
    assert keypoints.skeleton(coco_person()[0], 17) == (names, limbs)
    hand = {"keypoints": ["a", "b"], "skeleton": [[1, 2], [2, 9]]}
    assert keypoints.skeleton(hand, 2) == (["a", "b"], [(0, 1)])
    assert keypoints.skeleton(None, 5) == ([""] * 5, [])


@pytest.mark.parametrize(
    "bad",
    [
        {"keypoints": [1, 2, None]},
        {"keypoints": ["a", "b", 2]},
        {"segmentation": 7},
        {"bbox": [1, 2, "x", 4]},
        {"segmentation": [[1, 2], None]},
    ],
)
def test_malformed_annotations_are_input_errors(bad):
    with pytest.raises(InputError):
        scene.draw(gray(400, 400), [{"category": "cat"} | bad])


@pytest.mark.parametrize("box", [[1e200, 1, 1e200, 5], [-1e200, -1e200, 1e250, 1e250], [50, 50, -20, -20], [500, 500, 20, 20], [10, 10, 0, 0]])
def test_boxes_that_make_no_sense_do_no_harm(box):
    assert scene.draw(gray(400, 400), [DOG | {"bbox": box}, DOG]).size == (400, 400)


def test_a_strange_skeleton_is_passed_over():
    assert keypoints.skeleton({"keypoints": "abc", "skeleton": [[1, "x"], 5, [1, 2]]}, 3) == (["", "", ""], [(0, 1)])
