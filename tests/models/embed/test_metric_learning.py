"""Embedders that learn from classes: one encoder for all inputs, templates of identities, learners for clusters; trained on real digits."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cvtool import losses, weights
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.data.formats import npz
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.losses.contrastive import contrastive
from cvtool.metrics import _probe
from cvtool.render import figures
from cvtool.render.figures import embedding_plane
from cvtool.results import Labels
from cvtool.tasks import train as task


def built(reference, **changes):
    torch.manual_seed(0)
    return weights.build(reference, categories=numbered(3), **changes)


def trained(reference, data, tmp_path, *, data_val=None, **settings):
    common = {"epochs": 6, "batch_size": 40, "val_every": 100, "lr": 5e-3}
    run = task.train(reference, data, data_val=data_val, output=tmp_path / "runs", device="cpu", layers=[common | settings])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return run, [line for line in lines if line["kind"] == "epoch"]


def labelled(model, count=6, seed=0):
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(count)]
    return model.prepare(pictures, [Labels(torch.tensor([i % 3])) for i in range(count)])


def embedded(run, pictures, path):
    """By the command; the table's vectors and classes."""
    found = CliRunner().invoke(command("embed"), [str(pictures), "-m", str(run), "-o", str(path), "-q"])
    assert found.exit_code == 0, found.output
    return embedding_plane.read(path) if npz.table(path).vectors.shape[1] == 2 else npz.table(path)


# ---- siamese -------------------------------------------------------------------------------------------------------


@pytest.mark.system("siamese")
def test_the_gradient_is_the_sum_over_both_inputs():
    """Two copies of the encoder, an input each: their gradients add up to that of the one that takes both."""
    model = built("siamese.tiny").eval()  # eval: normalisation over a batch would join the two
    first, second = torch.randn(2, 1, 3, 16, 16)
    pair = torch.tensor([0, 1])
    contrastive(torch.cat([model(first), model(second)]), pair, margin=50.0).backward()
    both = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    sums = dict.fromkeys(both, 0)
    one, other = built("siamese.tiny").eval(), built("siamese.tiny").eval()
    contrastive(torch.cat([one(first), other(second)]), pair, margin=50.0).backward()
    for copy in (one, other):
        sums = {name: sums[name] + p.grad for name, p in copy.named_parameters() if name in sums}
    assert len(both) > 6
    for name, value in both.items():
        torch.testing.assert_close(value, sums[name])
    assert torch.equal(model(first), model(torch.cat([first, second]))[:1]) or torch.allclose(model(first), model(torch.cat([first, second]))[:1])


@pytest.mark.system("siamese")
@pytest.mark.system("contrastive")
def test_digits_in_a_plane(digit_folders, tmp_path, record_property):
    run, lines = trained("siamese.plane", digit_folders, tmp_path, image_size=16, epochs=14, images_per_class=4, loss="contrastive:margin=2")
    assert lines[-1]["contrastive"] < 0.6 * lines[0]["contrastive"]
    vectors, classes = embedded(run, digit_folders / "val", tmp_path / "plane.npz")
    assert vectors.shape == (100, 2)
    accuracy = _probe.nearest(vectors, np.unique(classes, return_inverse=True)[1])
    record_property("nearest neighbour in two dimensions", accuracy)
    assert accuracy > 0.5  # chance 0.1
    assert lines[-1]["val_knn_accuracy"] == pytest.approx(accuracy)
    assert 0.1 < lines[-1]["val_probe_accuracy"] <= 1
    drawing = tmp_path / "plane.png"
    found = CliRunner().invoke(command("visualize"), ["embedding-plane", "--tables", str(tmp_path / "plane.npz"), "-o", str(drawing)])
    assert found.exit_code == 0, found.output
    assert drawing.stat().st_size > 4000
    with pytest.raises(ModelError, match="no templates"):
        figures.draw("embedding-plane", None, {"tables": str(tmp_path / "plane.npz"), "templates": str(run)})


@pytest.mark.parametrize("loss", ["contrastive-m2", "triplet:margin=0.2", "angular-triplet", "tuplet", "infonce", "nt-xent"])
def test_each_loss_of_embeddings_draws_a_class_together(loss):
    model = built("siamese.tiny", normalize=True).train()
    model.criterion = losses.compose(loss, "embeddings")
    batch, optimizer = labelled(model, 9), torch.optim.Adam(model.parameters(), lr=5e-3)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        (value,) = model.losses(batch).values()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]
    with torch.no_grad():
        z = model(batch.images)
    assert _probe.nearest(z.numpy(), np.array([i % 3 for i in range(9)])) == 1


def test_any_classifier_is_the_encoder_and_goes_on_as_one(digit_folders, tmp_path):
    model = built("siamese", backbone="resnet.tiny", image_size=32)
    assert all(not p.requires_grad for p in model.net.fc.parameters())
    assert model.net.conv1.weight.requires_grad
    assert model.prepare.size == 32
    wide = built("siamese", backbone="simple-cnn:width=4,depth=2", dimensions=5)
    assert wide.head.weight.shape == (5, 8)
    with pytest.raises(UsageError, match="no network that classifies"):
        built("siamese", backbone="unet.tiny")
    run, _ = trained("siamese.tiny", digit_folders, tmp_path, epochs=1)
    start = weights.load(str(run))[0].state_dict()
    classifier, _ = trained("simple-cnn.tiny", digit_folders, tmp_path, epochs=1, init=str(run), lr=0.0, image_size=16)
    after = weights.load(str(classifier))[0].state_dict()
    key = "net.blocks.0.0.weight"
    assert torch.equal(start[key], after[key])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss": "arcface"}, "compares with a template of each class"),
        ({"miner": "semi-hard"}, "miner=semi-hard has no effect"),
        ({"loss": "triplet", "miner": "soft"}, "unknown miner 'soft'"),
        ({"loss": "triplet", "miner": "semi-hard:-1"}, "picks nothing"),
        ({"images_per_class": 7}, "not at least two classes of 7"),
        ({"balance": "classes"}, "balance"),
        ({"augment": "mixup"}, "mixture of two pictures"),
        ({"loss": "hierarchical-triplet"}, "embeddings of length 1"),
        ({"step": "divide-and-conquer"}, "ensemble of learners"),
        ({"step": "self-supervised"}, "two views"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, says, digit_folders, tmp_path):
    with pytest.raises(UsageError, match=says):
        trained("siamese.tiny", digit_folders, tmp_path, epochs=1, **settings)


@pytest.mark.system("semi-hard-mining")
@pytest.mark.system("hard-mining")
@pytest.mark.parametrize("miner", ["semi-hard:0.5", "hard", "staged:1"])
def test_training_with_mined_triples(miner, digit_folders, tmp_path):
    picked = {}
    from cvtool.train.steps import metric_learning

    class Counting(metric_learning.Miner):
        def __call__(self, z, labels):
            found = super().__call__(z, labels)
            counts = torch.bincount(labels)
            assert counts[counts > 0].tolist() == [5] * 10  # D identities, as many of each
            picked.setdefault(self.epoch, []).append(len(found))
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_learning, "Miner", Counting)
        _, lines = trained(
            "siamese.tiny",
            digit_folders,
            tmp_path,
            epochs=3,
            normalize=True,
            batch_size=50,
            images_per_class=5,
            loss="triplet:margin=0.5",
            miner=miner,
        )
    everything = 50 * 4 * 45
    assert set(picked) == {0, 1, 2}
    if miner.startswith("staged"):
        assert picked[0] == [everything] * len(picked[0])
        assert set(picked[1] + picked[2]) == {50 * 4}
        assert lines[-1]["loss"] > 0
    else:
        assert all(count < everything for counts in picked.values() for count in counts)
        assert lines[-1]["val_triplet"] < 0.5 + 1e-6  # of all triples
    if miner.startswith("semi"):
        assert lines[-1]["val_triplet"] < lines[0].get("val_triplet", 0.5)


# ---- identity classifier -------------------------------------------------------------------------------------------


@pytest.mark.system("id-classifier")
@pytest.mark.system("arcface")
def test_softmax_spreads_a_class_and_arcface_draws_it_to_its_template(digit_folders, tmp_path, record_property):
    digits = tmp_path / "four"
    for digit in "0123":
        shutil.copytree(digit_folders / "train" / digit, digits / digit)
    same = {"backbone": "simple-cnn:depth=2,width=8,head=flatten,image_size=16", "dimensions": 2, "epochs": 15, "lr": 1e-2}
    plain, lines = trained("id-classifier.tiny", digits, tmp_path, **same)
    assert lines[-1]["cross_entropy"] < 0.5 * lines[0]["cross_entropy"]
    arc, lines = trained("id-classifier.tiny", digits, tmp_path, loss="arcface:margin=0.3,scale=8", **same)
    assert lines[-1]["arcface"] < 0.5 * lines[0]["arcface"]
    metric, _ = trained("siamese.tiny", digits, tmp_path, loss="contrastive:margin=2", **same)
    tables, spreads, angles = {}, {}, {}
    for name, run in (("softmax", plain), ("arcface", arc), ("contrastive", metric)):
        tables[name] = tmp_path / f"{name}.npz"
        vectors, classes = embedded(run, digits, tables[name])
        spreads[name] = embedding_plane.spread(vectors, np.unique(classes, return_inverse=True)[1])
        if name != "contrastive":
            angles[name] = embedding_plane.angle(vectors, classes, *embedding_plane.templates_of(str(run)))
        record_property(f"spread of {name}", spreads[name])
    record_property("degrees to the template", angles)
    assert spreads["softmax"] > 1.5 * spreads["contrastive"]
    assert angles["arcface"] < 20
    both = figures.draw("embedding-plane", None, {"tables": f"{tables['softmax']},{tables['contrastive']}", "templates": ""})
    words = ["embedding-plane", "--tables", str(tables["arcface"]), "--templates", str(arc), "-o", str(tmp_path / "sphere.png")]
    assert CliRunner().invoke(command("visualize"), words).exit_code == 0
    assert both.width > both.height // 2
    with pytest.raises(UsageError, match="1 models for 2 tables"):
        figures.draw("embedding-plane", None, {"tables": f"{tables['softmax']},{tables['arcface']}", "templates": str(arc)})


@pytest.mark.system("arcface")
def test_templates_are_drawn_as_radii_of_the_circle():
    """A template at 0, 90 and 200 degrees: along each of them the picture is coloured, half-way out too, and nowhere else inside."""
    angles = np.radians([0, 90, 200])
    templates = np.stack([np.cos(angles), np.sin(angles)], 1) * [[1.0], [5.0], [0.2]]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    image = np.asarray(embedding_plane._circle(np.array([[1.0, 1.0]]), np.array([0]), templates, colours)).astype(int)
    for at, colour in zip(angles, colours, strict=True):
        for share in (0.2, 0.5, 0.85):
            radius = 0.42 * embedding_plane.SIDE * share
            y, x = round(embedding_plane.SIDE / 2 - radius * np.sin(at)), round(embedding_plane.SIDE / 2 + radius * np.cos(at))
            assert np.abs(image[y, x] - colour).max() < 60
    assert (image[embedding_plane.SIDE // 2 + 60, embedding_plane.SIDE // 2 + 60] == embedding_plane.FIELD).all()


@pytest.mark.system("id-classifier")
def test_the_embedding_stands_before_the_classes_and_a_new_identity_needs_training():
    model = built("id-classifier.tiny").eval()
    batch = labelled(model)
    torch.testing.assert_close(model.logits(batch.images), model.embed(batch) @ model.templates.T)
    value = model.losses(batch)["cross_entropy"]
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(model.logits(batch.images), torch.tensor([0, 1, 2, 0, 1, 2])))
    batch.targets[1] = Labels(torch.tensor([3]))
    with pytest.raises(ModelError, match="identity 3 is not one of the 3") as told:
        model.losses(batch)
    assert "train it again" in told.value.hint
    with pytest.raises(UsageError, match="leaves out the identities' templates"):
        model.check_criterion(losses.compose("triplet", "embeddings"))


@pytest.mark.system("id-classifier")
def test_an_identity_that_was_not_learned_is_named(digit_folders, tmp_path):
    for digit in "012":
        shutil.copytree(digit_folders / "val" / digit, tmp_path / "val" / digit)
        if digit != "2":
            shutil.copytree(digit_folders / "train" / digit, tmp_path / "train" / digit)
    with pytest.raises(InputError, match="category 2 is not one of those trained on"):
        trained("id-classifier.tiny", tmp_path / "train", tmp_path, data_val=tmp_path / "val")


def test_a_table_of_more_than_two_numbers_is_no_plane(tmp_path, digit_folders):
    run, _ = trained("siamese.tiny", digit_folders, tmp_path, epochs=1)
    embedded(run, digit_folders / "val" / "3", tmp_path / "x.npz")
    with pytest.raises(InputError, match="do not lie in a plane"):
        embedding_plane.read(tmp_path / "x.npz")


# ---- hierarchical triplets and the ensemble ------------------------------------------------------------------------


@pytest.mark.system("hierarchical-triplet")
def test_training_with_a_tree(digit_folders, tmp_path):
    settings = {"normalize": True, "loss": "hierarchical-triplet", "batch_size": 24, "images_per_class": 3, "neighbourhood": 4, "epochs": 3}
    run, lines = trained("siamese.tiny", digit_folders, tmp_path, **settings)
    assert 'step = "hierarchical"' in (run / "recipe.toml").read_text()
    assert lines[-1]["hierarchical_triplet"] < lines[0]["hierarchical_triplet"]
    assert lines[-1]["val_knn_accuracy"] > 0.2
    embedded(run, digit_folders / "val" / "3", tmp_path / "x.npz")


@pytest.mark.system("embedding-ensemble")
def test_training_of_the_ensemble(digit_folders, tmp_path):
    run, lines = trained("embedding-ensemble.tiny", digit_folders, tmp_path, epochs=4, recluster=1, joint_epochs=1)
    assert len(lines) == 4
    assert lines[-1]["val_knn_accuracy"] > 0.3
    assert embedded(run, digit_folders / "val" / "3", tmp_path / "x.npz").vectors.shape == (10, 8)
