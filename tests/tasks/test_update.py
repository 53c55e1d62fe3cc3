"""New data for an old model: the four ways, and two data sets as one."""

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.__main__ import main
from cvtool.data import source
from cvtool.tasks import train as task


def folder_of(path, classes):
    rng = np.random.default_rng(0)
    for label, level in classes.items():
        for i in range(4):
            file = path / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)).save(file)
    return path


@pytest.fixture
def old(tmp_path):
    return folder_of(tmp_path / "old", {"dark": 50, "light": 200})


@pytest.fixture
def new(tmp_path):
    return folder_of(tmp_path / "new", {"grey": 120, "light": 210})


@pytest.fixture
def base(old, tmp_path):
    return task.train("resnet.tiny", old, output=tmp_path / "base", device="cpu", layers=[{"epochs": 1, "batch_size": 4}])


def updated(way, base, new, tmp_path, capsys, *more):
    words = ["train", "--update", way, "--base", base, "--data", new, *more, "-o", tmp_path / "runs", "--epochs", 1, "-b", 4, "--device", "cpu"]
    code = main([*map(str, words)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out.strip(), said.err


def names(model):
    return [category["name"] for category in model.categories]


@pytest.mark.system("update-strategies")
def test_going_on_with_the_old_model(base, old, new, tmp_path, capsys):
    run, told = updated("new", base, new, tmp_path, capsys)
    assert f"starting from {base}" in told or "starting from resnet.tiny" in told
    assert names(weights.load(run)[0]) == ["grey", "light"]
    run, told = updated("old+new", base, new, tmp_path, capsys, "--data-old", old)
    assert "starting from" in told
    assert names(weights.load(run)[0]) == ["dark", "light", "grey"]
    assert weights.read_info(run).data["train_images"] == 16


@pytest.mark.system("update-strategies")
def test_a_new_model_beside_the_old_one_and_their_average(base, old, new, tmp_path, capsys):
    picture = np.asarray(Image.open(new / "grey" / "0.png"))
    for way, more in (("ensemble-new", ()), ("ensemble-all", ("--data-old", old))):
        reference, told = updated(way, base, new, tmp_path, capsys, *more)
        assert "starting from" not in told
        assert reference.startswith(f"ensemble:{base},")
        together, _ = weights.load(reference)
        members = [weights.load(one)[0] for one in reference.removeprefix("ensemble:").split(",")]
        expected = dict.fromkeys(("dark", "light", "grey"), 0.0)
        for member in members:
            found = member.predict(member.prepare([picture]))[0]
            for label, score in zip(found.labels, found.scores, strict=True):
                expected[names(member)[int(label)]] += float(score) / 2
        result = together.predict(together.prepare([picture]))[0]
        told_scores = {names(together)[int(label)]: float(score) for label, score in zip(result.labels, result.scores, strict=True)}
        assert told_scores == pytest.approx(expected, abs=1e-5)


def test_wrong_ways_are_refused(base, old, new, capsys):
    for words, told in (
        (["--update", "neu"], "new"), (["--update", "new", "--data-old", str(old)], "--data-old"), (["--update", "old+new"], "--data-old"),
        (["--update", "new", "-m", "resnet.tiny"], "--model"),
    ):  # fmt: skip
        assert main(["train", *words, "--base", str(base), "--data", str(new)]) == 2
        assert told in capsys.readouterr().err
    assert main(["train", "--update", "ensemble-new", "--base", "faster-rcnn.tiny@none", "--data", str(new)]) == 2
    assert "probabilities" in capsys.readouterr().err


def test_two_data_sets_meet_by_name(old, new):
    train, val, categories = source.read({"data": str(new), "data_old": str(old)})
    assert [c["name"] for c in categories] == ["dark", "light", "grey"]
    assert len({c["id"] for c in categories}) == 3
    assert (len(train), len(val)) == (16, 0)
    by_id = {c["id"]: c["name"] for c in categories}
    for record in train:
        found = [*record.get("labels", ()), *record.get("annotations", ())]
        assert [by_id[one["category_id"]] for one in found] == [str(record["file_name"]).split("/")[-2]]


def test_another_stage_s_features(old, tmp_path):
    from cvtool.errors import UsageError
    from cvtool.models.classify.linear import build

    batch_of = [np.asarray(Image.open(old / "dark" / "0.png"))]
    network = weights.load("resnet.tiny@none")[0]
    linear = build(classes=2, features="resnet.tiny@none", probe_stage="layer2")
    batch = linear.prepare(batch_of)
    seen = {}
    handle = network.net.layer2.register_forward_hook(lambda module, given, out: seen.update(out=out))
    with torch.no_grad():
        network.embed(batch)
        handle.remove()
        assert torch.allclose(linear.features(batch), seen["out"].mean((2, 3)))
    with pytest.raises(UsageError, match="layer22"):
        build(classes=2, features="resnet.tiny@none", probe_stage="layer22")
    with pytest.raises(UsageError, match="no effect"):
        build(classes=2, features="pixels", probe_stage="layer2")


@pytest.mark.system("transfer-learning")
def test_a_linear_model_on_an_earlier_stage_from_the_command_line(old, tmp_path, capsys):
    words = ["-m", "linear", "--features", "resnet.tiny@none", "--probe-stage", "layer1", "--data", old, "-o", tmp_path / "runs", "-q"]
    assert main(["train", *map(str, words)]) == 0
    run = capsys.readouterr().out.strip()
    again, info = weights.load(run)
    assert info.arguments["probe_stage"] == "layer1"
    files = sorted(old.glob("*/*.png"))
    results = again.predict(again.prepare([np.asarray(Image.open(file)) for file in files]))
    assert [names(again)[int(r.labels[0])] for r in results] == [file.parent.name for file in files]
    assert main(["train", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("little and similar", "little and different", "much and similar", "much and different"):
        assert words in told
