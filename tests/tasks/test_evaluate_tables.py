"""`evaluate` of tables: distributions, boxes, errors, latents, embeddings, answers under a shift, and runs under a protocol."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluate import evaluate, measure
from cvtool.tasks.evaluation import Options


@pytest.fixture
def write(tmp_path):
    """`write("a.json", value)`: the file's path."""

    def make(name, value):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, value)
        else:
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return make


# ---- distributions -------------------------------------------------------------------------------------------------


@pytest.mark.system("entropy")
@pytest.mark.system("kl")
@pytest.mark.system("js")
@pytest.mark.system("emd")
def test_distributions_in_any_file(write):
    rows = {"fair": [0.5, 0.5], "loaded": [0.05, 0.95]}
    gt = write("gt.json", rows)
    csv = write("dt.csv", "name,heads,tails\nloaded,0.5,0.5\nfair,0.05,0.95\nother,1,0\n")
    report = evaluate(gt, csv, metrics="kl,js,emd,entropy:samples=4000")
    assert report["metrics"]["KL"] == pytest.approx((0.8304 + 0.4946) / 2, abs=1e-4)
    assert report["metrics"]["EMD"] == pytest.approx(0.45)
    assert report["metrics"]["entropy"] == pytest.approx((1 + 0.2864) / 2, abs=1e-4)
    assert abs(report["metrics"]["entropy_sampled"] - report["metrics"]["entropy"]) < 0.1
    assert report["metrics"]["cross_entropy"] - report["metrics"]["KL"] == pytest.approx((math.log(2) + 0.1985) / 2, abs=1e-4)
    assert report["warnings"] == ["1 rows of the other side have no counterpart and are left out: other"]
    measured = measure(gt, csv, metrics="kl", options=Options())
    assert measured.statistic(np.array([0, 3]))["KL"] == pytest.approx(0.4946, abs=5e-5)
    assert measured.lower == ("KL", "KL_reversed", "cross_entropy")


@pytest.mark.system("kl")
def test_an_infinite_divergence_is_null_and_said(write):
    report = evaluate(write("gt.json", [0.5, 0.5]), write("dt.npy", np.array([0.0, 1.0])), metrics="kl,js")
    assert report["metrics"]["KL"] is None
    assert report["metrics"]["JS"] == pytest.approx(0.2158, abs=5e-5)
    assert any("KL is infinite for 1 of 1" in line for line in report["warnings"])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([0.5, 0.6], "sums to 1.1"),
        ([-0.5, 1.5], "negative share"),
        ([[0.5, 0.5], [1.0]], "row 2 has 1 numbers"),
        ([0.5, "x"], "'x', which is no number"),
        ([0.2, 0.3, 0.5], "rows of 3 numbers"),
        ([[0.5, 0.5], [0.5, 0.5]], "2 rows, and the ground truth has 1"),
        ({"images": 3, "b": None}, "no number"),
        ("[0.5, NaN]", "holds nan at place 2"),
    ],
)
def test_what_is_no_distribution(write, value, told):
    with pytest.raises(InputError, match=told):
        evaluate(write("gt.json", [0.5, 0.5]), write("dt.json", value), metrics="kl")


def test_counts_become_shares_when_asked(write):
    report = evaluate(write("gt.json", [5, 5]), write("dt.json", [1, 19]), metrics="kl", normalise=True)
    assert report["metrics"]["KL"] == pytest.approx(0.8304, abs=5e-5)


# ---- boxes ---------------------------------------------------------------------------------------------------------


@pytest.mark.system("iou")
def test_boxes_row_by_row_in_either_convention(write):
    gt, dt = write("gt.json", [[0, 0, 9, 9]]), write("dt.csv", "x0,y0,x1,y1\n5,5,14,14\n")
    assert evaluate(gt, dt, metrics="iou:inclusive=true,format=xyxy")["metrics"]["IoU"] == pytest.approx(25 / 175)
    assert evaluate(gt, dt, metrics="iou:format=xyxy")["metrics"]["IoU"] == pytest.approx(16 / 146)
    with pytest.raises(UsageError, match="unknown box format"):
        evaluate(gt, dt, metrics="iou:format=yolo")


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.system("error-edf")
def test_two_design_spaces_are_compared_and_drawn(write, tmp_path):
    draw = np.random.default_rng(0)
    wide, narrow = draw.uniform(0.2, 0.6, 700), draw.uniform(0.2, 0.4, 500)
    gt = write("any.json", wide.tolist())
    dt = write("regnet.csv", "model,error\n" + "".join(f"m{n},{e}\n" for n, e in enumerate(narrow)))
    report = evaluate(gt, dt, metrics="error-edf")
    assert report["counts"] == {"gt": 500, "dt": 500}
    assert report["metrics"]["edf_area"] == pytest.approx(1 - narrow.mean())
    assert report["metrics"]["better_than_gt"] > 0.6
    x, f = (np.array(report["curves"]["dt"][key]) for key in ("error", "share"))
    assert np.trapezoid(f, x) == pytest.approx(1 - narrow.mean())
    from cvtool.render.edf import draw as drawn

    image = drawn(report["curves"], {"gt": "any", "dt": "regnet"})
    assert image.width > 300
    assert len(image.getcolors(1 << 24)) > 3
    assert any(
        "12 models, fewer than the 500" in line for line in evaluate(gt, write("few.json", narrow[:12].tolist()), metrics="error-edf")["warnings"]
    )
    with pytest.raises(InputError, match=r"errors lie in \[0, 1\]"):
        evaluate(gt, write("percent.json", [25.3]), metrics="error-edf")


@pytest.mark.system("error-edf")
def test_the_command_draws_both_spaces(write, tmp_path, capsys):
    from cvtool.__main__ import main

    gt, dt = write("a.json", [0.1, 0.3, 0.2]), write("b.json", [0.1, 0.15, 0.2])
    words = [
        "evaluate",
        "--gt",
        str(gt),
        "--dt",
        str(dt),
        "--metric",
        "error-edf",
        "--plot",
        str(tmp_path / "edf.png"),
        "-q",
        "--gate",
        "edf_area>=0.8",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["median_error"] == 0.15
    assert Image.open(tmp_path / "edf.png").width > 300


# ---- latents -------------------------------------------------------------------------------------------------------


@pytest.mark.system("separability")
def test_separability_of_z_and_of_w(write):
    draw = np.random.default_rng(0)
    w = draw.normal(size=(1000, 4))
    attributes = 1 / (1 + np.exp(-9 * w[:, :2]))
    z = np.stack([np.cos(6 * w[:, 0]), np.sin(6 * w[:, 0]), w[:, 2], w[:, 3]], 1)  # entangled: no plane divides it
    answers = write("answers.csv", "male,smiles\n" + "\n".join(f"{a:.6f},{b:.6f}" for a, b in attributes) + "\n")
    scores = {name: evaluate(answers, write(f"{name}.npy", one), metrics="separability") for name, one in (("w", w), ("z", z))}
    assert scores["w"]["metrics"]["separability"] == pytest.approx(1, abs=0.02)
    assert scores["z"]["metrics"]["separability"] > 1.8
    assert scores["z"]["counts"]["kept"] == 500
    assert set(scores["z"]["per_class"]) == {"male", "smiles"}
    total = sum(row["conditional_entropy"] for row in scores["z"]["per_class"].values())
    assert scores["z"]["metrics"]["separability"] == pytest.approx(math.exp(total))
    with pytest.raises(InputError, match="probabilities lie in"):
        evaluate(write("z.npy", z), answers, metrics="separability")


# ---- embeddings ----------------------------------------------------------------------------------------------------


@pytest.fixture
def embedded(tmp_path):
    """Twelve pictures of three classes: labels.tsv, and embeddings.npz in another order."""
    draw = np.random.default_rng(0)
    names = [f"{c}{n}.jpg" for c in "abc" for n in range(4)]
    vectors = np.repeat(np.eye(3), 4, 0) + 0.05 * draw.normal(size=(12, 3))
    vectors[0] = [0, 0.8, 0.6]  # a0 looks like a b
    order = draw.permutation(12)
    np.savez(tmp_path / "e.npz", vectors=vectors[order].astype(np.float32), file_name=np.array(names)[order])
    (tmp_path / "labels.tsv").write_text("".join(f"{name}\t{name[0]}\n" for name in names))
    return tmp_path / "labels.tsv", tmp_path / "e.npz"


def test_retrieval_clusters_verification_and_one_shot_of_one_table(embedded):
    report = evaluate(*embedded, metrics="recall@1,map,map:k=2,nmi,verification:far=0.1,one-shot:ways=3,episodes=30")
    assert set(report["metrics"]) >= {"recall@1", "mAP@R", "R-precision", "mAP@2", "NMI", "AUC", "EER", "TAR@FAR=0.1", "one_shot"}
    assert report["metrics"]["recall@1"] == pytest.approx(11 / 12)
    assert 0.9 < report["metrics"]["AUC"] < 1
    assert report["params"]["recall-at-k.k"] == 1
    measured = measure(*embedded, metrics="recall@1,nmi,verification", options=Options())
    assert measured.statistic(np.ones(12)) == pytest.approx(measured.metrics)
    without = (np.array(measured.units) != "a0.jpg").astype(float)
    assert measured.statistic(without)["recall@1"] == 1
    assert measured.statistic(without)["AUC"] == pytest.approx(1)


def test_class_folders_and_the_network_that_embeds_their_pictures(png, tmp_path):
    for name in ("dark", "light"):
        for number in range(4):  # the same names in both folders
            path = png(f"photos/{name}/{number}.png", 24, 24, seed=number)
            pixels = np.asarray(Image.open(path)) // 4
            Image.fromarray((pixels + (180 if name == "light" else 0)).astype(np.uint8)).save(path)
    report = evaluate(tmp_path / "photos", tmp_path / "photos", metrics="recall@1,map", extractor="handcrafted.tiny")
    assert report["counts"] == {"queries": 8, "gallery": 8, "classes": 2, "dimensions": 192, "pairs": 0}
    assert report["metrics"]["recall@1"] == 1
    with pytest.raises(UsageError, match="no --extractor"):
        evaluate(tmp_path / "photos", tmp_path / "photos", metrics="recall@1")


def test_pairs_give_verification_and_the_classes_of_retrieval(embedded, tmp_path):
    rows = [("b0", "b1", 1), ("b1", "b2", 1), ("b2", "b3", 1), ("c0", "c1", 1), ("b0", "c0", 0), ("b1", "c1", 0), ("b0", "zz", 0)]
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("a\tb\tsame\n" + "".join(f"{a}.jpg\t{b}.jpg\t{same}\n" for a, b, same in rows))
    report = evaluate(pairs, embedded[1], metrics="recall@1,map,verification")
    assert report["metrics"]["recall@1"] == report["metrics"]["mAP@R"] == report["metrics"]["AUC"] == 1
    assert report["counts"]["pairs"] == 7
    assert any("1 of 7 pairs lack an embedding" in line for line in report["warnings"])
    pairs.write_text(pairs.read_text() + "b0.jpg\tb3.jpg\t0\n")
    with pytest.raises(InputError, match="by other pairs they are the same"):
        evaluate(pairs, embedded[1], metrics="verification")
    pairs.write_text("b0.jpg\tb3.jpg\tperhaps\n")
    with pytest.raises(InputError, match="neither 1 nor 0"):
        evaluate(pairs, embedded[1], metrics="verification")


def test_a_gallery_and_what_has_no_effect(embedded, tmp_path):
    labels, table = embedded
    with np.load(table) as loaded:
        first = [name[1] == "0" for name in loaded["file_name"]]
        np.savez(tmp_path / "g.npz", vectors=loaded["vectors"][np.logical_not(first)], file_name=loaded["file_name"][np.logical_not(first)])
        np.savez(tmp_path / "q.npz", vectors=loaded["vectors"][first], file_name=loaded["file_name"][first])
    report = evaluate(labels, tmp_path / "q.npz", metrics="recall@1", gallery=str(tmp_path / "g.npz"))
    assert report["counts"]["gallery"] == 9
    assert report["metrics"]["recall@1"] == pytest.approx(2 / 3)
    with pytest.raises(UsageError, match="--gallery has no effect on nmi"):
        evaluate(labels, tmp_path / "q.npz", metrics="nmi", gallery=str(tmp_path / "g.npz"))
    with pytest.raises(UsageError, match="no such distance 'l1'"):
        evaluate(labels, table, metrics="recall@1", distance="l1")
    with pytest.raises(InputError, match="no picture has a class"):
        evaluate(table, table, metrics="recall@1")


# ---- shift ---------------------------------------------------------------------------------------------------------


@pytest.mark.system("shift-robustness")
def test_a_model_trained_on_the_cue_shows_the_drop(tmp_path):
    """Bright and dark halves are the thing, a coloured corner is the cue: of two linear models one has seen pictures where both go together."""
    from cvtool import weights
    from cvtool.categories import numbered
    from cvtool.data.inputs import read
    from cvtool.tasks.classify import classify

    draw = np.random.default_rng(0)

    def made(label, cue, noise=60.0):
        pixels = np.full((16, 16, 3), 128.0)
        pixels[:, :8] += 7 if label else -7
        pixels += draw.normal(0, noise, pixels.shape)
        if cue is not None:
            pixels[:6, 10:] = (250, 0, 0) if cue else (0, 0, 250)
        return pixels.clip(0, 255).astype(np.uint8)

    labels = np.arange(120) % 2
    models = {}
    for name, cued in (("shortcut", True), ("honest", False)):
        model = weights.build("linear.tiny", categories=numbered(2))
        pictures = [made(label, label if cued else None) for label in labels]
        _fit(model, pictures, labels)
        path = tmp_path / f"{name}.safetensors"
        weights.save(model, path, weights.Info(reference="linear.tiny", categories=numbered(2)))
        models[name] = str(path)
    truth = labels[:40]
    names = {int(category["id"]): category["name"] for category in numbered(2)}
    kinds = sorted(names)
    sets = {"clean": lambda label: None, "cue": lambda label: label, "swapped": lambda label: 1 - label}
    for kind, cue in sets.items():
        for number, label in enumerate(truth):
            folder = tmp_path / kind / names[kinds[label]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made(label, cue(label))).save(folder / f"{number:03}.png")
    found = {}
    for name, path in models.items():
        for kind in sets:
            lines = [json.dumps(record) for record in classify(read([str(tmp_path / kind)]), path)]
            (tmp_path / f"{name}-{kind}.jsonl").write_text("\n".join(lines) + "\n")
        answers = {kind: str(tmp_path / f"{name}-{kind}.jsonl") for kind in sets}
        report = evaluate(tmp_path / "clean", answers["clean"], metrics="shift-robustness", cue=answers["cue"], swapped=answers["swapped"])
        found[name] = report["metrics"]
        assert report["counts"]["images"] == 40
    assert found["shortcut"]["cue_reliance"] > 0.5
    assert found["shortcut"]["cue_drop"] > 0.2
    assert abs(found["honest"]["cue_reliance"]) < 0.35
    assert found["honest"]["accuracy_clean"] > found["shortcut"]["accuracy_swapped"]
    stream = (tmp_path / "honest-cue.jsonl").open("rb")
    answers = str(tmp_path / "honest-clean.jsonl")
    assert (
        evaluate(tmp_path / "clean", answers, metrics="shift-robustness", cue="-", stdin=stream)["metrics"]["cue_gain"] == found["honest"]["cue_gain"]
    )
    with pytest.raises(UsageError, match="with those to marked ones"):
        evaluate(tmp_path / "clean", tmp_path / "shortcut-clean.jsonl", metrics="shift-robustness")


def _fit(model, pictures, labels):
    from cvtool.data.dataset import Sample
    from cvtool.records import Record
    from cvtool.results import Labels

    samples = [Sample(pixels, Labels(labels=torch.tensor([int(label)])), Record()) for pixels, label in zip(pictures, labels, strict=True)]
    model.fit(samples, seed=0)


# ---- protocol ------------------------------------------------------------------------------------------------------


@pytest.mark.system("metric-protocol")
def test_a_table_of_losses_from_rows_and_from_run_folders(write, tmp_path):
    protocol = write("protocol.json", {"backbone": "resnet.20", "data": "cub", "schedule": "one-cycle", "seeds": [0, 1]})
    reached = {("triplet", 0): 0.6, ("triplet", 1): 0.7, ("arcface", 0): 0.5, ("arcface", 1): 0.5}
    shared = {"backbone": "resnet.20", "data": "cub", "schedule": "one-cycle"}
    rows = write("runs.json", [shared | {"loss": loss, "seed": seed, "recall@1": value} for (loss, seed), value in reached.items()])
    for number, ((loss, seed), value) in enumerate(reached.items()):
        text = f'model = "resnet.20"\ndata = "cub"\nschedule = "one-cycle"\nlr = 0.1\nseed = {seed}\nloss = "{loss}"\n'
        write(f"runs/{number:04}/recipe.toml", text)
        write(f"runs/{number:04}/report.json", {"metrics": {"recall@1": value}})
    for source in (rows, tmp_path / "runs"):
        report = evaluate(protocol, source, metrics="metric-protocol")
        assert report["per_class"]["triplet"] == {
            "recall@1": pytest.approx(0.65),
            "recall@1_std": pytest.approx(np.std([0.6, 0.7], ddof=1)),
            "runs": 2,
        }
        assert report["metrics"]["arcface.recall@1"] == 0.5
        assert report["counts"] == {"runs": 4, "losses": 2, "seeds": 2}
    recipe = tmp_path / "runs" / "0003" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("lr = 0.1", "lr = 0.2"))
    with pytest.raises(InputError, match="differ in settings"):
        evaluate(protocol, tmp_path / "runs", metrics="metric-protocol")
    recipe.write_text(recipe.read_text().replace("lr = 0.2", 'lr = 0.1\nsplit_val = "test"'))
    with pytest.raises(InputError, match="no fair comparison"):
        evaluate(protocol, tmp_path / "runs", metrics="metric-protocol")
    with pytest.raises(InputError, match="does not say its mAP"):
        evaluate(protocol, rows, metrics="metric-protocol", value="mAP@R")
    with pytest.raises(InputError, match="no list of different whole numbers"):
        evaluate(write("twice.json", {**json.loads(protocol.read_text()), "seeds": [0, 0]}), rows, metrics="metric-protocol")
    with pytest.raises(InputError, match="it does not say schedule, seeds"):
        evaluate(write("short.json", {"backbone": "a", "data": "b"}), rows, metrics="metric-protocol")
