"""What is fitted in one go: our predictions against scikit-learn's and against plain loops, by the rows of a table."""

import numpy as np
import pytest
import torch

from cvtool import weights
from cvtool.data.dataset import Sample
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.models.classify import adaboost, knn, linear, random_forest, svm
from cvtool.records import Record
from cvtool.results import Labels, SemanticMap


def table(count=60, size=7, classes=3, seed=0, apart=1.0):
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = rng.normal(0, 1, (count, size)) + apart * y[:, None]
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def pictures(count=12, classes=3, side=12):
    rng = np.random.default_rng(0)
    return [
        Sample(
            np.clip(rng.normal(60 + 60 * (i % classes), 20, (side, side, 3)), 0, 255).astype(np.uint8), Labels(torch.tensor([i % classes])), Record()
        )
        for i in range(count)
    ]


@pytest.mark.system("knn")
@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_a_loop(distance, k):
    x, y = table()
    model = knn.build(classes=3, k=k, distance=distance)
    model.learn(x, y, 0)
    queries = table(20, seed=1)[0]
    votes = model.scores(queries)
    for query, shares in zip(queries.numpy(), votes.numpy(), strict=True):
        far = [np.abs(query - row).sum() if distance == "l1" else np.sqrt(((query - row) ** 2).sum()) for row in x.numpy()]
        nearest = np.argsort(far, kind="stable")[:k]
        assert shares == pytest.approx(np.bincount(y.numpy()[nearest], minlength=3) / k)


@pytest.mark.system("knn")
def test_one_neighbour_is_the_nearest_and_a_shift_of_one_pixel_misleads_it():
    """Stripes one pixel wide: shifted by one, a picture is as far from itself as can be, and the flat one is nearer."""
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 255
    flat = np.full((8, 8, 3), 128, np.uint8)
    model = knn.build(classes=2, k=1, image_size=8)
    model.fit([Sample(stripes, Labels(torch.tensor([0])), Record()), Sample(flat, Labels(torch.tensor([1])), Record())])
    same, shifted = model.predict(model.prepare([stripes, np.roll(stripes, 1, 1)]))
    assert int(same.labels[0]) == 0
    assert int(shifted.labels[0]) == 1
    with pytest.raises(UsageError, match="neighbours"):
        knn.build(classes=2, k=3, image_size=8).fit(pictures(2, 2))


@pytest.mark.system("linear")
def test_the_optimum_is_that_of_multinomial_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    x, y = table(90, apart=0.7)
    model = linear.build(classes=3, penalty=1e-2)
    model.learn(x, y, 0)
    scaled = (x - x.mean(0)) / x.std(0, unbiased=False)
    theirs = LogisticRegression(C=1 / (1e-2 * 90), max_iter=5000, tol=1e-8).fit(scaled.numpy(), y.numpy())
    assert model.scores(x).numpy() == pytest.approx(theirs.predict_proba(scaled.numpy()), abs=2e-3)

    layer = torch.nn.Linear(7, 3)  # the same by gradient descent on f = W x + b
    descent = torch.optim.LBFGS(layer.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        return torch.nn.functional.cross_entropy(layer(scaled), y) + 0.5e-2 * (layer.weight**2).sum()

    def closure():
        descent.zero_grad()
        value = loss()
        value.backward()
        return value

    descent.step(closure)
    own = torch.nn.functional.cross_entropy(model.logits(x), y)
    other = torch.nn.functional.cross_entropy(layer(scaled), y)
    assert float(own) == pytest.approx(float(other), abs=1e-3)


@pytest.mark.system("linear")
def test_the_optimum_of_two_classes_is_that_of_a_softmax_of_two_rows():
    """scikit-learn keeps one row for two classes, and weighs its square once."""
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.normal(size=(80, 4))).float()
    y = torch.from_numpy((draw.normal(size=80) + x[:, 0].numpy() > 0).astype(int))
    model = linear.build(classes=2, penalty=0.05)
    model.learn(x, y, 0)
    scaled = (x - x.mean(0)) / x.std(0, unbiased=False)
    layer = torch.nn.Linear(4, 2)
    descent = torch.optim.LBFGS(layer.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        descent.zero_grad()
        value = torch.nn.functional.cross_entropy(layer(scaled), y) + 0.025 * (layer.weight**2).sum()
        value.backward()
        return value

    descent.step(closure)
    own, other = (torch.nn.functional.cross_entropy(logits, y) for logits in (model.logits(x), layer(scaled)))
    assert float(own.detach()) == pytest.approx(float(other.detach()), abs=1e-4)


@pytest.mark.system("svm")
@pytest.mark.parametrize("classes", [2, 3])
def test_margins_are_scikit_learns_and_what_can_be_parted_is(classes):
    from sklearn.svm import LinearSVC

    x, y = table(60, classes=classes, apart=0.0)
    x[:, :classes] += 8 * torch.nn.functional.one_hot(y, classes)  # each class lies off the others along an axis of its own
    model = svm.build(classes=classes)
    model.learn(x, y, 0)
    assert (model.margins(x).argmax(1) == y).all()
    scaled = ((x - x.mean(0)) / x.std(0, unbiased=False)).double().numpy()
    theirs = LinearSVC(loss="hinge", max_iter=5000, random_state=0).fit(scaled, y.numpy()).decision_function(scaled)
    expected = np.stack([-theirs, theirs], 1) if classes == 2 else theirs
    assert model.margins(x).numpy() == pytest.approx(expected, abs=1e-3)


@pytest.mark.system("adaboost")
def test_boosted_stumps_tell_three_classes_apart():
    x, y = table(90, apart=2.0)
    model = adaboost.build(classes=3, rounds=40)
    model.learn(x, y, 0)
    scores = model.scores(x)
    assert torch.allclose(scores.sum(1), torch.ones(90))
    assert float((scores.argmax(1) == y).float().mean()) > 0.97
    assert (model.votes(x).abs() <= 1 + 1e-6).all()


@pytest.mark.system("random-forest")
def test_probabilities_are_those_of_scikit_learns_trees():
    from sklearn.ensemble import RandomForestClassifier

    x, y = table(80, size=12)
    model = random_forest.build(classes=3, trees=8)
    model.learn(x, y, 4)
    theirs = RandomForestClassifier(8, max_features="sqrt", bootstrap=True, random_state=4).fit(x.numpy(), y.numpy())
    queries = table(50, size=12, seed=5)[0]
    assert model.scores(queries).numpy() == pytest.approx(theirs.predict_proba(queries.numpy()), abs=1e-6)
    drawn = [len(set(sample)) for sample in theirs.estimators_samples_]
    assert all(40 < count < 62 for count in drawn)  # with replacement: about 1 - 1/e of 80 rows
    assert all(tree.max_features_ == 3 for tree in theirs.estimators_)  # features tried a split, drawn anew


@pytest.mark.system("random-forest")
def test_a_forest_varies_less_than_a_tree():
    """The variance of the predicted probability over training sets, averaged over test rows."""
    queries = table(40, seed=99, apart=0.8)[0]

    def spread(trees):
        found = []
        for seed in range(8):
            model = random_forest.build(classes=3, trees=trees)
            model.learn(*table(60, seed=seed, apart=0.8), seed)
            found.append(model.scores(queries))
        return float(torch.stack(found).var(0).mean())

    assert spread(25) < 0.5 * spread(1)


@pytest.mark.system("random-forest")
def test_pixels_are_told_apart_by_their_surroundings():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 60, (24, 40, 3)).astype(np.uint8)
    labels = torch.zeros(24, 40, dtype=torch.int64)
    picture[6:18, 10:30, 0] += 150
    labels[6:18, 10:30] = 1
    labels[0] = 255
    model = random_forest.build(classes=2, segment=True, trees=5, depth=8)
    model.fit([Sample(picture, SemanticMap(labels), Record())])
    found = model.predict(model.prepare([picture]))[0]
    assert float((found.labels == labels)[1:].float().mean()) > 0.98
    assert found.scores.shape == (24, 40)


@pytest.mark.parametrize("module", [knn, linear, svm, adaboost, random_forest])
def test_a_checkpoint_answers_the_same(module, tmp_path):
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    model = module.build(classes=3, **module.VARIANTS["tiny"])
    model.fit(pictures())
    weights.save(model, tmp_path / "m.safetensors", weights.Info(reference=f"{name}.tiny", categories=model.categories, prepare=model.prepare))
    other, _ = weights.load(str(tmp_path / "m.safetensors"))
    batch = model.prepare([sample.pixels for sample in pictures(6)])
    for one, two in zip(model.predict(batch), other.predict(batch), strict=True):
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(one.scores, two.scores)


def test_features_of_a_network_travel_with_the_checkpoint(tmp_path):
    """A linear classifier on a network's features: the run that the features came from may go."""
    from cvtool.categories import numbered
    from cvtool.registry import parse

    torch.manual_seed(0)
    net = weights.build(parse("resnet.tiny"), categories=numbered(4))
    source = tmp_path / "net.safetensors"
    weights.save(net, source, weights.Info(reference="resnet.tiny", categories=net.categories, prepare=net.prepare))
    model = linear.build(classes=3, features=str(source))
    model.fit(pictures())
    info = weights.Info(
        reference="linear.pixels", arguments={"features": str(source)} | model.rebuilt, categories=model.categories, prepare=model.prepare
    )
    weights.save(model, tmp_path / "m.safetensors", info)
    source.unlink()
    other, _ = weights.load(str(tmp_path / "m.safetensors"))
    batch = model.prepare([sample.pixels for sample in pictures(3)])
    assert torch.equal(model.embed(batch), other.embed(batch))
    assert torch.equal(model.features.raw(batch), net.eval().embed(batch))


@pytest.mark.system("linear")
def test_components_are_the_principal_ones():
    model = linear.build(classes=3, image_size=6, components=4)
    samples = pictures()
    model.fit(samples)
    rows = model.features.raw(model.prepare([sample.pixels for sample in samples]))
    values = np.linalg.svd((rows - rows.mean(0)).numpy(), full_matrices=False)[2][:4]
    assert np.abs(model.features.axes.numpy() @ values.T) == pytest.approx(np.eye(4), abs=1e-3)
    assert model.weight.shape == (3, 4)
    with pytest.raises(UsageError, match="components=99"):
        linear.build(classes=3, image_size=6, components=99).fit(samples)


@pytest.mark.parametrize(("name", "hint"), [("pixls", "did you mean pixels"), ("pca:20", "components=20"), ("resnte18", "pixels, handcrafted")])
def test_features_that_there_are_not_are_told_with_those_that_there_are(name, hint):
    with pytest.raises(ModelError, match=f"features={name}") as told:
        linear.build(classes=3, features=name)
    assert hint in told.value.hint


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (linear, {"penalty": -1.0}), (linear, {"components": -3}), (knn, {"image_size": 0}), (knn, {"k": 0}), (knn, {"distance": "cosine"}),
        (svm, {"c": 0.0}), (adaboost, {"rounds": 0}), (random_forest, {"trees": 0}), (random_forest, {"depth": -1, "segment": True}),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_told_before(module, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        module.build(classes=2, **options)


def test_one_class_alone_is_refused():
    with pytest.raises(InputError, match="one class"):
        linear.build(classes=3, image_size=6).fit(pictures(4, classes=1))
