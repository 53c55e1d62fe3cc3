"""Sheets of generated pictures: squares of samples, tables of walks."""

import numpy as np

from cvtool.render import samples
from cvtool.render.samples import GAP, Sheet


def cell(value, size=32):
    return np.full((size, size, 3), value, np.uint8)


def test_samples_make_a_square_and_small_ones_are_enlarged():
    sheet = Sheet()
    for i in range(5):
        sheet.add(cell(40 * i + 20))
    assert [len(cells) for _, cells in sheet.rows()] == [3, 2]
    image = np.asarray(sheet.image())
    assert image.shape[:2] == (GAP + 2 * (64 + GAP), 2 * GAP + 3 * (64 + GAP))
    shown = {tuple(v) for v in image.reshape(-1, 3).tolist()}
    assert {(40 * i + 20,) * 3 for i in range(5)} <= shown


def test_a_walk_has_a_row_for_each_way_with_names():
    sheet = Sheet()
    for row in ("z0", "z1"):
        for value in ("-1", "+0", "+1"):
            sheet.add(cell(100), row, value)
    assert [(name, [c for c, _ in cells]) for name, cells in sheet.rows()] == [("z0", ["-1", "+0", "+1"]), ("z1", ["-1", "+0", "+1"])]
    image = np.asarray(sheet.image())
    assert image.shape[0] > 2 * (64 + GAP) + 20  # names of the columns
    assert image.shape[1] > 3 * (64 + GAP) + 20  # and of the rows
    assert (image[:20] > 120).any()


def test_a_sheet_of_many_stays_within_its_limit(monkeypatch):
    monkeypatch.setattr(samples, "LIMIT", 600)
    sheet = Sheet()
    for _ in range(90):
        sheet.add(cell(90, 100))
    assert 300 < max(sheet.image().size) <= 600 + 2 * GAP
