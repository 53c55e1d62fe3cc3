"""`cvtool embed`: vectors, tables, the nearest of one, clusters of one."""

import json

import numpy as np
import pytest
from PIL import Image

from cvtool.data.formats import npz
from cvtool.errors import InputError, UsageError
from cvtool.ops import handcrafted
from cvtool.records import Record
from cvtool.tasks import embed


@pytest.fixture
def photos(tmp_path):
    """Six red, six green and six blue pictures, each colour with a pattern of its own and a little noise."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(18):
        pixels = rng.integers(0, 6, (48, 64, 3)).astype(np.uint8)
        pixels[..., i % 3] += 140
        rows, columns = np.indices((48, 64)) // 8
        pixels[(rows, columns, rows + columns)[i % 3] % 2 == 0] += 60  # stripes across, stripes down, squares
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{'rgb'[i % 3]}{i:02}.png")
    return tmp_path / "photos"


@pytest.mark.system("handcrafted-features")
@pytest.mark.system("kmeans")
def test_a_table_is_searched_and_clustered(cvtool, photos):
    here = photos.parent
    done = cvtool("embed", "photos", "-m", "handcrafted", "--binary", "-o", "bits.npz", cwd=here)
    assert done.returncode == 0, done.stderr
    with np.load(here / "bits.npz") as table:
        assert table["vectors"].shape == (18, handcrafted.SIZE)
        assert set(np.unique(table["vectors"])) == {0.0, 1.0}
    done = cvtool("embed", "--search", "bits.npz", "photos/g04.png", "--top", "6", cwd=here)
    hits = json.loads(done.stdout)["neighbors"]
    assert {"file_name": "photos/g04.png", "score": 1.0} in hits  # others may have the same bits
    assert [hit["file_name"][7] for hit in hits] == ["g"] * 6
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)

    done = cvtool("embed", "--cluster", "bits.npz", "-k", "3", "--grid", "sheet.png", "-o", "clusters.jsonl", cwd=here)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (here / "clusters.jsonl").read_text().splitlines()]
    groups = {row["cluster"]: {r["file_name"][7] for r in rows if r["cluster"] == row["cluster"]} for row in rows}
    assert len(rows) == 18
    assert sorted(map(sorted, groups.values())) == [["b"], ["g"], ["r"]]
    with Image.open(here / "sheet.png") as sheet:
        assert min(sheet.size) > 100
    again = cvtool("embed", "--cluster", "bits.npz", "-k", "3", "-o", "clusters.jsonl", cwd=here)
    assert again.returncode == 2
    assert "exists" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "x.npz"], "no such table"),
        (["a.png", "-m", "handcrafted", "-k", "3"], "--cluster"),
        (["a.png", "-m", "faster-rcnn", "-f", "jsonl"], "no model for embed"),
        (["a.png", "--search", "x.npz", "--binary"], "no effect"),
    ],
)
def test_what_has_no_meaning_is_refused(cvtool, tmp_path, words, said):
    if "--cluster" in words:
        words = [*words, "-k", "2"]
    done = cvtool("embed", *words, cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def records(vectors):
    return [Record(file_name=f"{i}.png", embedding=list(map(float, vector))) for i, vector in enumerate(vectors)]


def test_scores_against_loops():
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(7, 5)), rng.normal(size=(2, 5))
    table = embed.Table.of(records(rows))
    for distance, score in {
        "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b),
        "l2": lambda a, b: -np.linalg.norm(a - b),
    }.items():
        order, found = table.nearest(queries.astype(np.float32), 3, distance=distance)
        for query, row, values in zip(queries, order, found, strict=True):
            all_scores = np.array([score(query, other) for other in rows])
            assert values == pytest.approx(np.sort(all_scores)[::-1][:3], abs=1e-5)
            assert (row == np.argsort(-all_scores)[:3]).all()
    with pytest.raises(UsageError, match="bits"):
        table.nearest(queries.astype(np.float32), 1, distance="hamming")


@pytest.mark.system("handcrafted-features")
def test_hamming_counts_differing_bits():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (9, 21))
    _, scores = embed.Table.of(records(rows)).nearest(rows[:1].astype(np.float32), 9)
    assert sorted(scores[0]) == pytest.approx(sorted((rows[0] == row).mean() for row in rows))


@pytest.mark.system("handcrafted-features")
def test_bits_are_signs_against_the_mean():
    vectors = np.random.default_rng(0).random((3, 50))
    for vector, row in zip(vectors, embed.bits(vectors), strict=True):
        assert [bool(bit) for bit in row] == [value - vector.mean() > 0 for value in vector]


def test_a_table_comes_back_from_its_file(tmp_path):
    before = records(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    before[1]["page"] = 2
    assert npz.write([*before, Record(file_name="none.png")], tmp_path / "t.npz") == ["1 record without an embedding left out"]
    assert list(npz.read(tmp_path / "t.npz")) == before
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(InputError):
        list(npz.read(tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="lengths"):
        npz.write([*before, Record(file_name="x", embedding=[1.0])], tmp_path / "u.npz")
