"""Point clouds in every form of the format, and files that are none."""

import numpy as np
import pytest

from cvtool.data import ply
from cvtool.errors import InputError

HEAD = "ply\nformat {} 1.0\ncomment made up\nelement vertex 3\nproperty double x\nproperty float y\nproperty float z\nproperty uchar red\n"
HEAD += "property float a0\nproperty float a1\nproperty float a2\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_points_and_descriptors(tmp_path, form):
    rows = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32).astype(np.float64)
    order = ">" if form.endswith("big_endian") else "<"
    kind = np.dtype(
        [(n, order + t) for n, t in zip(["x", "y", "z", "red", "a0", "a1", "a2"], ["f8", "f4", "f4", "u1", "f4", "f4", "f4"], strict=True)]
    )
    table = np.array([(*row[:3], 200, *row[3:]) for row in rows], kind)
    text = "".join(" ".join(repr(float(v)) for v in row) + "\n" for row in table.tolist()).encode()
    (tmp_path / "a.ply").write_bytes(HEAD.format(form).encode() + (text if form == "ascii" else table.tobytes()) + b"3 0 1 2\n")
    cloud = ply.read(tmp_path / "a.ply")
    assert cloud.points == pytest.approx(rows[:, :3])
    assert cloud.descriptors == pytest.approx(rows[:, 3:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "no .ply"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "x, y and z"),
        ("ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n", "not all there"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n1 nan 3\n", "NaN"),
        ("ply\nformat odd 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "form 'odd'"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int x\nend_header\n1\n", "no number"),
        ("ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int i\nelement vertex 1\nproperty float x\nend_header\n1\n", "stand behind"),
        ("ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nproperty float y\nproperty float z\nend_header\n1\n", "points"),
    ],
)
def test_what_is_no_cloud(tmp_path, text, said):
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(InputError, match=said):
        ply.read(tmp_path / "a.ply")
    with pytest.raises(InputError, match="no such file"):
        ply.read(tmp_path / "b.ply")
