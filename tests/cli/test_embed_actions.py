"""What `cvtool embed` does with vectors: search, groups, repeats, pairs, neighbours' classes, a gallery, places that correspond."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.data.formats import npz
from cvtool.errors import InputError, PartialSuccess, UsageError
from cvtool.ops import handcrafted
from cvtool.records import Record
from cvtool.tasks import embed as task
from cvtool.tasks.embedding import pairs as pairing
from cvtool.tasks.embedding.cluster import dedupe
from cvtool.tasks.embedding.table import Table


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run("embed", "photos", "-m", ...)`: the lines of stdout as JSON, in this process, in the test's folder. `run.said`: stderr."""
    monkeypatch.chdir(tmp_path)

    def go(verb, *words):
        command(verb).main([str(word) for word in words], standalone_mode=False)
        said = capsys.readouterr()
        go.said = said.err
        return [json.loads(said.out)] if verb == "evaluate" else [json.loads(line) for line in said.out.splitlines()]

    return go


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


@pytest.fixture
def table(run, photos):
    """photos.npz, of 18 pictures."""
    run("embed", "photos", "-m", "handcrafted", "-o", "photos.npz")
    return photos.parent / "photos.npz"


def records(vectors, **keys):
    return [Record(file_name=f"{i}.png", embedding=list(map(float, vector)), **keys) for i, vector in enumerate(vectors)]


@pytest.mark.system("handcrafted-features")
@pytest.mark.system("kmeans")
def test_bits_are_searched_and_clustered(run, photos):
    run("embed", "photos", "-m", "handcrafted", "--binary", "-o", "bits.npz")
    with np.load("bits.npz") as held:
        assert held["vectors"].shape == (18, handcrafted.SIZE)
        assert set(np.unique(held["vectors"])) == {0.0, 1.0}
    (found,) = run("embed", "--search", "bits.npz", "photos/g04.png", "--top", "6")
    hits = found["neighbors"]
    assert {"file_name": "photos/g04.png", "score": 1.0} in hits  # others may have the same bits
    assert [hit["file_name"][7] for hit in hits] == ["g"] * 6
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    run("embed", "--cluster", "bits.npz", "-k", "3", "--grid", "sheet.png", "-o", "clusters.jsonl")
    rows = [json.loads(line) for line in (photos.parent / "clusters.jsonl").read_text().splitlines()]
    groups = {row["cluster"]: {r["file_name"][7] for r in rows if r["cluster"] == row["cluster"]} for row in rows}
    assert len(rows) == 18
    assert sorted(map(sorted, groups.values())) == [["b"], ["g"], ["r"]]
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 100
    with pytest.raises(UsageError, match="exists"):
        run("embed", "--cluster", "bits.npz", "-k", "3", "-o", "clusters.jsonl")


@pytest.mark.system("handcrafted-features")
def test_hamming_counts_differing_bits():
    rows = np.random.default_rng(0).integers(0, 2, (9, 21))
    _, scores = Table.of(records(rows)).nearest(rows[:1].astype(np.float32), 9)
    assert sorted(scores[0]) == pytest.approx(sorted((rows[0] == row).mean() for row in rows))
    with pytest.raises(UsageError, match="bits"):
        Table.of(records(rows + 0.5)).nearest(rows[:1].astype(np.float32), 1, distance="hamming")


@pytest.mark.system("handcrafted-features")
def test_bits_are_signs_against_the_mean():
    vectors = np.random.default_rng(0).random((3, 50))
    for vector, row in zip(vectors, task.bits(vectors), strict=True):
        assert [bool(bit) for bit in row] == [value - vector.mean() > 0 for value in vector]


@pytest.mark.system("image-retrieval")
def test_the_query_itself_ranks_first_and_a_sheet_shows_what_was_found(run, table):
    for words in (["search", "photos/b05.png", "--index", table, "--k", 4], ["photos/b05.png", "--search", table, "--top", 4, "--distance", "l2"]):
        (found,) = run("embed", *words)
        assert found["neighbors"][0] == {"file_name": "photos/b05.png", "score": pytest.approx(0 if "l2" in words else 1)}
        assert [hit["file_name"][7] for hit in found["neighbors"]] == ["b"] * 4
        assert "embedding" not in found
    run("embed", "photos/b05.png", "photos/r00.png", "--search", table, "--top", 3, "-o", "hits.jsonl")
    run("visualize", "hits.jsonl", "--grid", "hits.png")
    assert "nothing is known" not in run.said
    run("visualize", "photos/b05.png", "photos/r00.png", "--grid", "alone.png")
    with Image.open("hits.png") as sheet, Image.open("alone.png") as alone:
        assert sheet.width * sheet.height > 2.5 * alone.width * alone.height  # eight pictures, not two
        shown = np.asarray(sheet.convert("RGB")).astype(int)
    blue, red = ((shown[..., c] > 120) & (shown.sum(2) - shown[..., c] < 160) for c in (2, 0))
    assert blue.sum() == pytest.approx(red.sum(), rel=0.2)


@pytest.mark.system("image-retrieval")
def test_recall_of_pairs_both_ways(run, tmp_path):
    draw = np.random.default_rng(0)
    texts = draw.normal(size=(20, 8)).astype(np.float32)
    pictures = texts.copy()
    pictures[:5] = -pictures[:5]
    npz.write([r.changed(file_name=f"texts/{i}.txt") for i, r in enumerate(records(texts))], tmp_path / "texts.npz")
    order = draw.permutation(20)
    listed = records(pictures)
    npz.write([listed[i].changed(file_name=f"pictures/{i}.jpg") for i in order], tmp_path / "pictures.npz")
    (same,) = run("embed", "texts.npz", "--search", "texts.npz", "--recall", "--json")
    assert same == {f"recall@{k}{back}": 1.0 for back in ("", " back") for k in (1, 5, 10)}
    (found,) = run("embed", "texts.npz", "--search", "pictures.npz", "--recall", "--json")
    assert found["recall@1"] == found["recall@1 back"] == 0.75
    assert found["recall@10"] < 1
    names = [f"{folder}/{i}.{suffix}\t{i}\n" for i in range(20) for folder, suffix in (("texts", "txt"), ("pictures", "jpg"))]
    (tmp_path / "same.tsv").write_text("".join(names))
    for queries, gallery in (("texts", "pictures"), ("pictures", "texts")):  # `evaluate` tells the same, of each direction
        words = ("--gt", "same.tsv", "--dt", f"{queries}.npz", "--gallery", f"{gallery}.npz", "--metric", "recall-at-k:k=10", "--json")
        (told,) = run("evaluate", *words)
        assert told["metrics"]["recall@10"] == found["recall@10" + (" back" if queries == "pictures" else "")]
    hits = run("embed", "texts.npz", "--search", "pictures.npz", "--top", 1)
    assert [hit["neighbors"][0]["file_name"] for hit in hits[5:]] == [f"pictures/{i}.jpg" for i in range(5, 20)]
    npz.write(records(texts[:3]), tmp_path / "few.npz")
    with pytest.raises(InputError, match="no counterpart"):
        run("embed", "few.npz", "--search", "texts.npz", "--recall")


def test_an_index_of_another_model_is_refused_with_both_names(run, photos, table, tmp_path):
    with pytest.raises(InputError, match=r"handcrafted\.histograms and handcrafted\.tiny"):
        run("embed", "photos/b05.png", "--search", table, "-m", "handcrafted.tiny")
    run("embed", "photos/b05.png", "-m", "handcrafted.tiny", "-o", "other.npz")
    with pytest.raises(InputError, match=r"handcrafted\.histograms and handcrafted\.tiny"):
        run("embed", "other.npz", "--search", table)
    run("embed", "photos/b05.png", "-m", "handcrafted", "--normalize", "-o", "unit.npz")
    with pytest.raises(InputError, match="normalized"):
        run("embed", "unit.npz", "--search", table)
    (found,) = run("embed", "photos/b05.png", "--search", "unit.npz")  # as the table was made, one picture in it
    assert found["neighbors"] == [{"file_name": "photos/b05.png", "score": 1.0}]
    npz.write(records(np.ones((2, 5))), tmp_path / "five.npz")
    with pytest.raises(InputError, match="5 numbers, the table 192"):
        run("embed", "five.npz", "--search", table)


def test_a_query_with_nan_is_told_and_the_others_go_on(run, table, tmp_path):
    vectors = np.load(table)["vectors"][:2]
    vectors[0, 3] = np.nan
    np.save(tmp_path / "queries.npy", vectors)
    with pytest.raises(PartialSuccess):
        run("embed", "queries.npy", "--search", table, "-o", "hits.jsonl")
    bad, good = (json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines())
    assert "none" in bad["error"]
    assert good["neighbors"][0]["score"] == 1


def test_approximate_search_finds_what_the_exact_one_does(run, tmp_path):
    pytest.importorskip("faiss")
    npz.write(records(np.random.default_rng(0).normal(size=(300, 12))), tmp_path / "t.npz")
    exact = run("embed", "t.npz", "--search", "t.npz", "--top", 3)
    found = run("embed", "t.npz", "--search", "t.npz", "--top", 3, "--ann")
    assert "making" in run.said
    assert np.mean([a["neighbors"] == b["neighbors"] for a, b in zip(exact, found, strict=True)]) > 0.95
    run("embed", "t.npz", "--search", "t.npz", "--ann")
    assert "making" not in run.said


def test_repeats_point_to_the_picture_that_stays(run, photos, table):
    rows = run("embed", "--dedupe", table, "--threshold", 0.01)
    kept = [row["file_name"] for row in rows if "duplicate_of" not in row]
    assert sorted(name[7] for name in kept) == ["b", "g", "r"]
    for row in rows:
        if "duplicate_of" in row:
            assert row["duplicate_of"][7] == row["file_name"][7]
            assert 0 <= row["duplicate_distance"] <= 0.01
    assert "15 of 18 repeat" in run.said
    same = dedupe(Table.of(records([[1, 0], [0, 1], [1, 0]])), 0.0)
    assert [row.get("duplicate_of") for row in same] == [None, None, "0.png"]
    with pytest.raises(UsageError, match="--threshold is missing"):
        run("embed", "--dedupe", table, "--distance", "l2")


def test_pairs_are_judged_at_the_threshold_that_they_give(run, photos, table):
    names = sorted(path.name for path in photos.iterdir())
    lines = [f"photos/{a}\tphotos/{b}\t{int(a[0] == b[0])}" for i, a in enumerate(names) for b in names[i + 1 :]]
    (photos.parent / "pairs.tsv").write_text("\n".join(lines))
    (figures,) = run("embed", "--pairs", "pairs.tsv", "-m", "handcrafted", "--json")
    assert (figures["pairs"], figures["same"]) == (153, 45)
    assert figures["accuracy"] == figures["cross_validated_accuracy"] == figures["AUC"] == figures["TAR@FAR=0.01"] == 1
    assert figures["EER"] == 0
    assert run("embed", table, "--pairs", "pairs.tsv", "--json")[0] == figures
    rows = run("embed", table, "--pairs", "pairs.tsv", "--threshold", "eer")
    assert all(row["pair"]["same"] == row["truth"] == (row["pair"]["distance"] <= figures["threshold"]) for row in rows)
    assert "cross validated accuracy 1" in run.said
    (strict,) = run("embed", table, "--pairs", "pairs.tsv", "--threshold", "0", "--json")
    assert strict["accuracy"] < 1
    assert "cross_validated_accuracy" not in strict
    with pytest.raises(UsageError, match="neither"):
        run("embed", table, "--pairs", "pairs.tsv", "--threshold", "best")


def test_a_threshold_is_the_best_of_all_and_equal_errors_are_equal():
    draw = np.random.default_rng(0)
    value = np.concatenate([draw.normal(1, 1, 300), draw.normal(-1, 1, 500)])
    same = np.arange(800) < 300
    best = max(((value >= t) == same).mean() for t in value)
    assert ((value >= pairing.threshold_of(value, same, "accuracy")) == same).mean() == best
    least = pairing.threshold_of(value, same, "eer")
    assert (value[~same] >= least).mean() == pytest.approx((value[same] < least).mean(), abs=0.01)
    found = pairing.cross_validated(value, same, "accuracy")
    assert best - 0.03 < found["cross_validated_accuracy"] <= best
    assert pairing.threshold_of(np.array([1.0, 2.0]), np.array([True, False]), "accuracy") in (pytest.approx(2 + 1e-6), 1.0)


def test_neighbours_give_the_class(run, photos, table):
    lines = ["file_name,label", *(f"{path.name},{path.name[0]}" for path in sorted(photos.iterdir()))]
    lines[1] = lines[1].replace(",b", ",g")  # one is labelled wrongly
    (photos.parent / "labels.csv").write_text("\n".join(lines))
    (figures,) = run("embed", table, "--knn", "labels.csv", "-k", 3, "--json")
    assert figures == {"leave_one_out_accuracy": pytest.approx(17 / 18), "k": 3, "pictures": 18}
    rows = run("embed", table, "--knn", "labels.csv", "-k", 3)
    assert [row["file_name"][7] for row in rows] == [row["labels"][0]["category"] for row in rows]
    (found,) = run("embed", "photos/g01.png", "--knn", "labels.csv", "--search", table, "-k", 6)
    assert found["labels"] == [{"category_id": 2, "category": "g", "score": 1.0}]
    assert len(found["neighbors"]) == 6
    with pytest.raises(UsageError, match="--search"):
        run("embed", "photos/g01.png", "--knn", "labels.csv")


@pytest.mark.system("gallery")
def test_a_gallery_knows_whom_it_was_shown(run, photos, data, tmp_path):
    for who in ("s1", "s2", "s3"):
        (tmp_path / who).mkdir()
        for number in (1, 2, 3, 4):
            (tmp_path / who / f"{number}.pgm").write_bytes((data / "faces_orl" / who / f"{number}.pgm").read_bytes())
    added = run("embed", "gallery", "add", "s1/1.pgm", "s1/2.pgm", "s2/1.pgm", "s2/2.pgm", "--gallery", "people.npz", "-m", "handcrafted")
    assert [row["labels"][0]["category"] for row in added] == ["s1", "s1", "s2", "s2"]
    (found,) = run("embed", "identify", "s1/3.pgm", "--gallery", "people.npz", "--k", 1)
    assert found["labels"][0]["category"] == "s1"
    (wrong,) = run("embed", "identify", "s3/3.pgm", "--gallery", "people.npz", "--k", 1)
    assert wrong["labels"][0]["category"] in ("s1", "s2")
    before = np.load("people.npz")["vectors"]
    run("embed", "gallery", "add", "s3/1.pgm", "s3/2.pgm", "--name", "carl", "--gallery", "people.npz")  # nothing is trained: rows are added
    assert np.array_equal(np.load("people.npz")["vectors"][:4], before)
    assert run("embed", "gallery", "list", "--gallery", "people.npz", "--json") == [{"carl": 2, "s1": 2, "s2": 2}]
    (found,) = run("embed", "identify", "s3/3.pgm", "--gallery", "people.npz", "--k", 1)
    assert found["labels"][0]["category"] == "carl"
    assert found["neighbors"][0]["file_name"].startswith("s3/")
    (vote,) = run("embed", "identify", "s3/1.pgm", "--gallery", "people.npz", "--k", 6)
    assert sorted(label["score"] for label in vote["labels"]) == pytest.approx([1 / 3] * 3)
    assert vote["labels"][0]["category"] == "carl"  # of equal votes the nearest
    (nobody,) = run("embed", "identify", "photos/r00.png", "--gallery", "people.npz", "--threshold", 0.02)
    assert nobody["labels"] == []
    run("embed", "gallery", "add", "s3/1.pgm", "--name", "carl", "--gallery", "people.npz")  # again
    assert run("embed", "gallery", "list", "--gallery", "people.npz", "--json")[0]["carl"] == 2
    run("embed", "gallery", "remove", "carl", "--gallery", "people.npz")
    (found,) = run("embed", "identify", "s3/3.pgm", "--gallery", "people.npz", "--k", 1)
    assert found["labels"][0]["category"] in ("s1", "s2")
    with pytest.raises(InputError, match="'carl' is not in the gallery"):
        run("embed", "gallery", "remove", "carl", "--gallery", "people.npz")
    with pytest.raises(InputError, match="two models"):
        run("embed", "gallery", "add", "s1/4.pgm", "--gallery", "people.npz", "-m", "handcrafted.tiny")


@pytest.mark.system("gallery")
def test_farther_than_the_threshold_is_different(run, photos):
    (near,) = run("embed", "verify", "photos/r00.png", "photos/r03.png", "-m", "handcrafted", "--threshold", 0.05)
    (far,) = run("embed", "verify", "photos/r00.png", "photos/b02.png", "-m", "handcrafted", "--threshold", 0.05)
    assert near["pair"]["distance"] < 0.05 < far["pair"]["distance"]
    assert (near["pair"]["same"], far["pair"]["same"]) == (True, False)
    (itself,) = run("embed", "verify", "photos/r00.png", "photos/r00.png", "-m", "handcrafted", "--threshold", 0, "--distance", "l2")
    assert itself["pair"] == {"file_name": "photos/r00.png", "score": 0.0, "distance": 0.0, "same": True}


@pytest.fixture
def net(tmp_path):
    torch.manual_seed(0)
    info = weights.Info(reference="resnet.tiny", categories=numbered(4))
    return weights.save(weights.build("resnet.tiny", categories=numbered(4)).eval(), tmp_path / "net.safetensors", info)


@pytest.mark.system("image-correspondence")
def test_a_picture_and_its_shifted_copy_tell_the_shift(run, net, data, tmp_path):
    whole = np.asarray(Image.open(next((data / "faces_orl" / "s1").glob("*.pgm"))).convert("RGB").resize((160, 160)))
    Image.fromarray(whole[:128, :128]).save(tmp_path / "a.png")
    Image.fromarray(whole[8:136, 16:144]).save(tmp_path / "b.png")  # what was at (x, y) is now at (x - 16, y - 8)
    (found,) = run("embed", "match", "a.png", "b.png", "-m", net, "--layer", "layer2", "--img-size", 128)
    assert found["match"]["shift"] == pytest.approx([-16, -8], abs=1)
    assert found["match"]["agreeing"] > 0.6
    moves = np.array(found["matches"])
    right = np.abs(moves[:, 2:4] - moves[:, :2] - [-16, -8]).max(1) < 1
    assert right.mean() == pytest.approx(found["match"]["agreeing"], abs=0.25)
    assert found["match"]["count"] == len(moves)
    (small,) = run("embed", "match", "a.png", "a.png", "-m", net)
    assert small["match"]["shift"] == [0, 0]
    assert small["match"]["agreeing"] == 1
    assert found["made_by"][-1]["verb"] == "embed"
    (tmp_path / "m.jsonl").write_text(json.dumps(found))
    (drawn,) = run("visualize", "m.jsonl", "-o", "seen/", "--scale", 2, "--max-det", 30)
    assert "30 objects" in run.said
    assert "matches" not in drawn
    assert drawn["source"] == "a.png"
    sheet = np.asarray(Image.open("seen/a.png").convert("RGB")).astype(int)
    assert sheet.shape[1] > 512  # both, twice as large
    lime = (np.abs(sheet - [200, 255, 90]).max(-1) < 20).sum()
    best = sorted(found["matches"], key=lambda row: -row[4])[:30]
    for x, y, _, _, _ in best[:5]:
        end = sheet[round(2 * y) - 1 : round(2 * y) + 1, round(2 * x) - 1 : round(2 * x) + 1]
        assert np.abs(end - [200, 255, 90]).max(-1).min() < 20
    run("visualize", "m.jsonl", "-o", "few/", "--scale", 2, "--max-det", 3, "--no-labels")
    few = np.asarray(Image.open("few/a.png").convert("RGB")).astype(int)
    assert 0 < (np.abs(few - [200, 255, 90]).max(-1) < 20).sum() < lime
    assert few.shape == (256, 512 + round(256 / 100), 3)
    for wrong in ({"match": {}}, {"matches": [[1, 2]]}, {"match": found["match"] | {"file_name": "gone.png"}}):
        (tmp_path / "bad.jsonl").write_text(json.dumps(found | wrong))
        with pytest.raises(InputError):
            run("visualize", "bad.jsonl", "-o", "bad/")


def ply(path, points, more=(), binary=False):
    names = ["x", "y", "z", *(f"f{i}" for i in range(np.shape(more)[1] if len(more) else 0))]
    rows = np.concatenate([points, more], 1) if len(more) else points
    kind = "binary_little_endian" if binary else "ascii"
    head = f"ply\nformat {kind} 1.0\nelement vertex {len(rows)}\n" + "".join(f"property float {n}\n" for n in names) + "end_header\n"
    body = rows.astype("<f4").tobytes() if binary else "".join(" ".join(map(repr, row.tolist())) + "\n" for row in rows).encode()
    path.write_bytes(head.encode() + body)


@pytest.mark.system("image-correspondence")
@pytest.mark.parametrize("described", [False, True])
def test_points_of_two_clouds_are_found_again(run, tmp_path, described):
    draw = np.random.default_rng(0)
    u, v = draw.uniform(0, 1, (2, 400))
    points = np.stack([u, 0.7 * v, 0.2 * np.sin(5 * u) + 0.15 * np.cos(7 * v + u)], 1)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    order = draw.permutation(400)
    more = draw.normal(size=(400, 5)) if described else np.zeros((0, 0))
    ply(tmp_path / "a.ply", points, more)
    ply(tmp_path / "b.ply", (points @ turn.T + [1, 2, 3])[order], more[order] if described else (), binary=True)
    (found,) = run("embed", "match3d", "a.ply", "b.ply")
    assert found["match"]["descriptors"] == ("file" if described else "fpfh")
    assert found["match"]["agreeing"] > 0.9
    assert np.array(found["match"]["rotation"]) == pytest.approx(turn, abs=1e-3)
    assert found["match"]["translation"] == pytest.approx([1, 2, 3], abs=1e-3)
    right = [order[j] == i for i, j, _ in found["matches"]]
    assert np.mean(right) > 0.9
    assert len(right) > 300
