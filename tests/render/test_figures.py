"""The figures that explain: their numbers are those of the operations, and the picture shows them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.errors import UsageError
from cvtool.render import figures
from cvtool.render.figures import anchors, roi

PICTURE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
ROI = {"box": "30,40,150,130", "stride": 16, "size": 5, "samples": 2}
ANCHORS = {"stride": 16, "scales": "128,256,512", "ratios": "0.5,1,2", "cell": "middle"}


@pytest.mark.system("roi-pool")
@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-20, 500), st.floats(-20, 500), st.floats(0.5, 400), st.floats(0.5, 400)), st.sampled_from([4, 8, 16, 32]), st.integers(1, 14)
)
def test_the_two_roundings_are_those_of_roi_pool(box, stride, size):
    from cvtool.ops.roi import roi_pool_bins

    x, y, w, h = box
    corners = (x, y, x + w, y + h)
    snapped, rows, columns = roi_pool_bins(corners, 1 / stride, size)
    mine = roi.snap(corners, stride)
    assert list(mine) == list(snapped)
    assert [list(edge) for edge in roi.bins(mine[1], mine[3], size)] == [list(edge) for edge in rows]
    assert [list(edge) for edge in roi.bins(mine[0], mine[2], size)] == [list(edge) for edge in columns]


@pytest.mark.system("roi-pool")
def test_fourteen_cells_are_seven_bins_of_two():
    x0, y0, x1, y1 = roi.snap((0, 0, 13 * 16, 13 * 16), 16)
    assert (x0, y0, x1, y1) == (0, 0, 14, 14)
    assert roi.bins(x0, x1, 7) == [(i, i + 2) for i in range(0, 14, 2)]


@pytest.mark.system("roi-align")
def test_samples_divide_every_bin_evenly():
    places = roi.samples(2.0, 9.0, 7, 2)
    assert places.shape == (7, 2)
    assert np.allclose(places[0], [2.25, 2.75])
    assert np.allclose(places[-1], [8.25, 8.75])
    weights = roi._weights(4.7, 3.1)
    assert sum(weight for _, weight in weights) == pytest.approx(1)
    assert sum(weight * (x + 0.5) for (x, _), weight in weights) == pytest.approx(4.7)
    assert sum(weight * (y + 0.5) for (_, y), weight in weights) == pytest.approx(3.1)


@pytest.mark.system("roi-pool")
@pytest.mark.system("roi-align")
def test_the_figure_shows_both_side_by_side():
    out = np.asarray(figures.draw("roi", PICTURE, ROI))
    half = out.shape[1] // 2
    assert (out[:, :half] == roi.SNAPPED).all(axis=2).sum() > 2000  # the box on whole cells
    assert (out[:, :half] == roi.SAMPLE).all(axis=2).sum() == 0
    assert (out[:, half:] == roi.SAMPLE).all(axis=2).sum() > 500  # the samples


@pytest.mark.system("rpn")
def test_the_anchors_are_those_of_the_detector():
    import torch

    from cvtool.ops.anchors import cell_anchors

    mine = anchors.shapes([128, 256, 512], [0.5, 1, 2])
    assert mine.shape == (9, 4)
    assert torch.equal(torch.from_numpy(mine), cell_anchors([8, 16, 32], [0.5, 1, 2], base=16))
    assert torch.equal(torch.from_numpy(anchors.shapes([33, 70.5], [0.3, 1.7])), cell_anchors([33, 70.5], [0.3, 1.7]))


@pytest.mark.system("rpn")
def test_the_figure_shows_each_anchor():
    from cvtool.render.palette import instance

    out = np.asarray(figures.draw("anchors", PICTURE, ANCHORS))
    for i in range(3):
        assert (out == instance(i)).all(axis=2).sum() > 1000


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("roi", ROI | {"box": "1,2,3"}),
        ("roi", ROI | {"box": "a,b,c,d"}),
        ("roi", ROI | {"box": "nan,1,2,3"}),
        ("roi", ROI | {"box": "10,10,0,5"}),
        ("roi", ROI | {"box": "1000,10,20,20"}),
        ("roi", ROI | {"stride": 0}),
        ("roi", ROI | {"size": 99}),
        ("roi", ROI | {"stride": 1, "box": "0,0,320,240"}),
        ("anchors", ANCHORS | {"scales": "-3"}),
        ("anchors", ANCHORS | {"ratios": "0.5,,2"}),
        ("anchors", ANCHORS | {"cell": "50,2"}),
        ("anchors", ANCHORS | {"cell": "1"}),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(name, options):
    with pytest.raises(UsageError):
        figures.draw(name, PICTURE, options)


@pytest.mark.parametrize("box", ["-50,-50,60,60", "300,200,200,200", "5,5,1,1", "0,0,320,240"])
def test_boxes_at_the_border_and_of_any_size_can_be_shown(box):
    assert figures.draw("roi", PICTURE, ROI | {"box": box}).width > 1000


def test_every_figure_has_a_line_of_help_and_options_that_it_takes():
    import inspect
    from importlib import import_module

    assert {"roi", "anchors"} <= figures.catalogue().keys()
    for name, (summary, options) in figures.catalogue().items():
        assert summary.endswith(".")
        function = import_module(f"cvtool.render.figures.{name.replace('-', '_')}").figure
        assert set(options) == set(inspect.signature(function).parameters) - {"picture"}
        assert all({"default", "metavar", "help"} == facts.keys() for facts in options.values())
