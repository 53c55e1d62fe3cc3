"""What every model of the catalogue keeps, whatever it is: asked of its `tiny` variant, with no model named here.

What applies is read off the model: `losses`, `fit`, `predict` and `embed` if it has them, `needs` and `result` for what it learns from and
answers. A new file in models/ is tested by being there.
"""

import copy
import inspect
import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from cvtool import categories, registry, weights
from cvtool.batch import Prepare
from cvtool.data.dataset import Sample
from cvtool.records import Record
from cvtool.results import Boxes, Embedding, Instances, Labels, Picture, Quads, Result, SemanticMap, Text
from cvtool.tasks._sets import needs_of
from cvtool.train import recipe

CLASSES, HEIGHT, WIDTH = 3, 72, 96  # neither square nor a multiple of anything large
ANSWERS = {"detect": Boxes, "segment": (Instances, SemanticMap), "classify": Labels, "embed": Embedding}  # other verbs: any Result
COLOURS = (20, 60, 90), (220, 200, 40), (200, 30, 30)
NAMES = list(registry.catalogue())
every_model = pytest.mark.parametrize("name", NAMES)


# ---- what the file says --------------------------------------------------------------------------------------------


def entry_of(name):
    return registry.catalogue()[name]


@every_model
def test_its_name_and_first_line(name):
    """`what: ... (author year, arXiv id).`: the line that `cvtool models list` shows."""
    entry = entry_of(name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert re.search(r"\S: .+ \([^()]*\b(19|20)\d\d\b[^()]*\)\.$", entry.summary), entry.summary
    assert len(entry.summary) <= 147
    for mention in re.findall(r"arXiv.*?(?=[,)])", entry.summary):
        assert re.fullmatch(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})", mention)


@every_model
def test_its_literals_can_be_read_without_importing_it(name):
    entry = entry_of(name)
    module = entry.load()
    for literal in ("VARIANTS", "WEIGHTS", "ALIASES", "RECIPE"):
        assert getattr(entry, literal.lower()) == getattr(module, literal, {}), literal
    assert "tiny" in entry.variants
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", variant) for variant in entry.variants)


@every_model
def test_its_first_variant_is_the_default_and_its_aliases_lead_to_it(name):
    entry = entry_of(name)
    reference = registry.parse(name)
    assert reference.variant == next(iter(entry.variants))
    of_default = [key for key in registry.weights_of(entry) if key.startswith(f"{reference.variant}@")]
    assert reference.weights == (of_default[0].partition("@")[2] if of_default else None)
    for alias in entry.aliases:
        assert registry.parse(alias).name == name


@every_model
def test_its_recipes_are_settings_of_the_training(name):
    entry = entry_of(name)
    assert set(entry.recipe.get("variants", {})) <= set(entry.variants)
    for variant in entry.variants:
        recipe.resolve(recipe.of_model(entry.recipe, variant))


@every_model
def test_its_weights_say_where_they_come_from(name):
    entry = entry_of(name)
    for key, facts in entry.weights.items():
        variant, at, label = key.partition("@")
        assert variant in entry.variants
        assert at
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", label)
        assert facts["licence"], key
        assert facts["data"], key
        assert isinstance(facts["metrics"], dict), key
        assert all(0 <= value <= 1 for value in facts["metrics"].values()), f"{key}: metrics are fractions"
        assert len(weights.named_categories(facts["categories"])) > 0, key
        if "url" in facts:
            assert facts["url"].startswith("https://")
            assert re.fullmatch(r"[0-9a-f]{8,64}", facts["sha256"]), key
        else:
            assert facts["package"]
            assert facts["file"]


# ---- what the model does -------------------------------------------------------------------------------------------


@cache
def _built(name):
    torch.manual_seed(0)
    table = categories.numbered(CLASSES)
    model = weights.build(f"{name}.tiny", categories=table)
    if "keypoints" in needs_of(model):
        table = [category | {"keypoints": categories.COCO_KEYPOINTS} for category in table]
        model.categories = table
    return model


@pytest.fixture
def model(name):
    """A model of its own for each test; untrained, in eval mode if it is a network."""
    made = copy.deepcopy(_built(name))
    return made.eval() if isinstance(made, nn.Module) else made


def pictures(count):
    """`count` noisy pictures of one size, each with a dark, a light and a small red object."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(count):
        pixels = rng.integers(90, 150, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for j, (x0, y0, x1, y1) in enumerate(boxes(i)):
            pixels[y0:y1, x0:x1] = COLOURS[j]
        out.append(pixels)
    return out


def boxes(i):
    return [(8 + 3 * i, 10, 44 + 3 * i, 46), (50, 20 + 2 * i, 90 - i, 64), (6 + 9 * i, 54, 18 + 9 * i, 66)]


def truth(needs, i, *, empty=False, words=("", "Ab1", "0", "of")):
    """The truth of picture `i`, as far as the model reads it. words: that a model of words knows."""
    if "text" in needs:
        return Text(words[0 if empty else 1 + i % (len(words) - 1)])
    if "quads" in needs:
        corners = torch.tensor([] if empty else boxes(i), dtype=torch.float32).reshape(-1, 4)
        return Quads(corners[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), spared=torch.arange(len(corners)) == 2)
    if "labels" in needs:
        return Labels(torch.tensor([i % CLASSES]))
    own = [] if empty else boxes(i)
    if "semantic" in needs:
        labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
        labels[:4] = 255
        for j, (x0, y0, x1, y1) in enumerate(own):
            labels[y0:y1, x0:x1] = (1 + j) % CLASSES
        return SemanticMap(labels if not empty else torch.full_like(labels, 255))
    corners = torch.tensor(own, dtype=torch.float32).reshape(-1, 4)
    labels = torch.arange(len(own)) % CLASSES
    masks = torch.zeros(len(own), HEIGHT, WIDTH, dtype=torch.bool)
    for j, (x0, y0, x1, y1) in enumerate(own):
        masks[j, y0:y1, x0:x1] = True
    points = None
    if "keypoints" in needs:
        share = torch.linspace(0.1, 0.9, len(categories.COCO_KEYPOINTS))
        places = corners[:, None, :2] + share[:, None] * (corners[:, None, 2:] - corners[:, None, :2])  # N K 2
        points = torch.cat([places, torch.full_like(places[..., :1], 2)], 2)
    if {"masks", "keypoints"} & set(needs):
        return Instances(corners, labels, masks=masks if "masks" in needs else None, keypoints=points)
    return Boxes(corners, labels)


def labelled(model, count=4, *, empty=()):
    needs = needs_of(model)
    words = {"words": model.words} if hasattr(model, "words") else {}
    batch = model.prepare(pictures(count), [truth(needs, i, empty=i in empty, **words) for i in range(count)])
    if pen := getattr(model, "holes", None):  # what the loader draws
        height, width = batch.images.shape[-2:]
        batch.targets = [Picture(hole=torch.from_numpy(pen.draw(width, height, np.random.default_rng(i)))) for i in range(count)]
    return batch


def losses_of(model, batch):
    torch.manual_seed(0)  # samplers and dropout draw the same
    return model.losses(batch)


def total(losses):
    return torch.stack(list(losses.values())).sum()


def needed(model, *names):
    for name in names:
        if not hasattr(model, name):
            pytest.skip(f"it has no {name}")


@every_model
def test_it_builds_with_the_categories_and_pixels_it_will_be_saved_with(name, model):
    assert model.categories[0]["name"]
    assert isinstance(model.prepare, Prepare)
    assert any(hasattr(model, what) for what in ("predict", "embed", "sample", "fill"))
    if isinstance(model, nn.Module):
        assert len(model.categories) in (CLASSES, 1)  # one: it tells objects from the rest, and no more
        assert issubclass(model.result, Result)


@every_model
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_its_losses_are_finite_scalars_in_both_modes(name, model, training):
    needed(model, "losses")
    losses = losses_of(model.train(training), labelled(model, empty=(1,)))
    assert losses
    for key, value in losses.items():
        assert re.fullmatch(r"[a-z0-9_]+", key)
        assert value.ndim == 0
        assert value.isfinite(), key
    assert model.training == training


@every_model
def test_a_batch_without_any_object_can_be_trained(name, model):
    needed(model, "losses")
    losses = losses_of(model.train(), labelled(model, 2, empty=(0, 1)))
    assert total(losses).isfinite()
    total(losses).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_the_gradient_reaches_every_parameter(name, model):
    needed(model, "losses")
    total(losses_of(model.train(), labelled(model))).backward()
    without = [key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert not without
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@every_model
def test_a_step_down_the_gradient_lowers_the_loss(name, model):
    needed(model, "losses")
    batch = labelled(model.train())
    before = total(losses_of(model, batch))
    before.backward()
    moved = [p for p in model.parameters() if p.grad is not None]
    start = [p.detach().clone() for p in moved]
    slope = sum(float(p.grad.square().sum()) for p in moved)
    after = []
    for share in (0.05, 0.01, 0.002):  # of the loss, if it fell as the tangent does
        with torch.no_grad():
            for p, value in zip(moved, start, strict=True):
                p.copy_(value - share * float(before) / slope * p.grad)
            after.append(float(total(losses_of(model, batch))))
    assert min(after) < float(before)


@every_model
def test_what_is_not_trained_by_gradient_is_fitted(name, model):
    needed(model, "fit")
    needs = needs_of(model)
    model.fit([Sample(p, truth(needs, i), Record(file_name=f"{i}.png")) for i, p in enumerate(pictures(6))])
    assert len(model.predict(model.prepare(pictures(2)))) == 2


def predict(model, batch, **wished):
    """All that the model would say: with no threshold, where it has one."""
    known = inspect.signature(model.predict).parameters
    torch.manual_seed(0)
    with torch.inference_mode():
        return model.predict(batch, **{key: value for key, value in ({"conf": 0.0, "max_det": 20} | wished).items() if key in known})


@every_model
def test_it_answers_in_the_pictures_own_pixels(name, model):
    needed(model, "predict")
    answers = predict(model, model.prepare(pictures(2)))
    assert len(answers) == 2
    for answer in answers:
        assert isinstance(answer, ANSWERS.get(entry_of(name).verb, Result))
        assert isinstance(answer, getattr(model, "result", Result))
        check(answer.numpy(), len(model.categories))


def check(answer, classes):
    """What a type of result promises, of one answer for a picture of HEIGHT x WIDTH."""
    if getattr(answer, "labels", None) is not None:
        assert np.issubdtype(answer.labels.dtype, np.integer)
        assert answer.labels.size == 0 or 0 <= answer.labels.min() <= answer.labels.max() < classes
    if getattr(answer, "scores", None) is not None:
        assert ((answer.scores >= 0) & (answer.scores <= 1)).all()
    if isinstance(answer, Boxes):
        x0, y0, x1, y1 = answer.boxes.reshape(-1, 4).T
        assert ((x0 >= 0) & (y0 >= 0) & (x1 <= WIDTH) & (y1 <= HEIGHT) & (x0 <= x1) & (y0 <= y1)).all()
        assert len(answer.boxes) == len(answer.labels) == len(answer.scores) <= 20
        assert (np.diff(answer.scores) <= 1e-6).all(), "best first"
    if isinstance(answer, Instances):
        assert answer.masks is not None or answer.keypoints is not None
        assert answer.masks is None or (answer.masks.shape == (len(answer), HEIGHT, WIDTH) and answer.masks.dtype == bool)
        assert answer.keypoints is None or answer.keypoints.shape[::2] == (len(answer), 3)
    if isinstance(answer, SemanticMap):
        assert answer.labels.shape == (HEIGHT, WIDTH)
        assert answer.scores is None or answer.scores.shape == (HEIGHT, WIDTH)
    if isinstance(answer, Labels):
        assert (np.diff(answer.scores) <= 0).all(), "best first"
    if isinstance(answer, Embedding):
        assert answer.vector.ndim == 1
    if isinstance(answer, Text):
        assert 0 <= answer.score <= 1
        assert answer.characters is None or answer.characters.shape == (len(answer.text),)
    if isinstance(answer, Quads):
        assert answer.quads.shape == (len(answer.scores), 4, 2)
        assert np.isfinite(answer.quads).all()
        assert (np.diff(answer.scores) <= 1e-6).all(), "best first"


@every_model
def test_a_picture_in_a_batch_is_answered_as_it_is_alone(name, model):
    needed(model, "predict")
    first, second = pictures(2)
    alone, together = predict(model, model.prepare([first]))[0], predict(model, model.prepare([first, second]))[0]
    same(alone.numpy(), together.numpy())


def same(one, other):
    """Equal up to rounding. Detections may change places where their scores tie; the ten best must be among the others' twenty."""
    if isinstance(one, Boxes):
        assert len(one.boxes) == len(other.boxes)
        for box, label, score in list(zip(one.boxes, one.labels, one.scores, strict=True))[:10]:
            near = (np.abs(other.boxes - box).max(axis=1, initial=0) < 0.1) & (other.labels == label) & (np.abs(other.scores - score) < 1e-4)
            assert near.any()
    elif isinstance(one, Text):
        assert one.text == other.text
        np.testing.assert_allclose(one.score, other.score, atol=1e-4)
    elif isinstance(one, Quads):
        for quad, score in list(zip(one.quads, one.scores, strict=True))[:10]:
            assert ((np.abs(other.quads - quad).max(axis=(1, 2), initial=0) < 0.5) & (np.abs(other.scores - score) < 1e-3)).any()
    elif isinstance(one, SemanticMap):
        assert (one.labels == other.labels).mean() > 0.995
    else:
        for key in ("labels", "scores", "vector"):
            if getattr(one, key, None) is not None:
                np.testing.assert_allclose(getattr(one, key), getattr(other, key), atol=1e-4)


@every_model
def test_features_are_one_vector_a_picture(name, model):
    needed(model, "embed")
    with torch.inference_mode():
        alone, together = model.embed(model.prepare(pictures(1))), model.embed(model.prepare(pictures(2)))
    assert together.ndim == 2
    assert together.isfinite().all()
    torch.testing.assert_close(alone[0], together[0], atol=1e-4, rtol=1e-4)


@every_model
def test_looking_changes_nothing(name, model):
    """Neither weights nor statistics nor mode, and a second look sees the same."""
    needed(model, "predict", "state_dict")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = model.prepare(pictures(2))
    first, second = predict(model, batch), predict(model, batch)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(module.training for module in model.modules())
    for one, other in zip(first, second, strict=True):
        assert_equal(one, other)


def assert_equal(one, other):
    for key, value in vars(one).items():
        if isinstance(value, (str, tuple)):
            assert value == getattr(other, key), key
        elif value is not None:
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(getattr(other, key))), key


@every_model
def test_saved_and_loaded_it_answers_the_same(name, model, tmp_path):
    needed(model, "predict", "state_dict")
    if not model.state_dict():
        pytest.skip("it has nothing to save")
    info = weights.Info(reference=f"{name}.tiny", categories=model.categories, prepare=model.prepare)
    path = weights.save(model, tmp_path / "model.safetensors", info)
    loaded, found = weights.load(str(path))
    assert loaded.categories == found.categories == model.categories
    assert loaded.prepare == model.prepare
    for one, other in zip(predict(model, model.prepare(pictures(2))), predict(loaded, loaded.prepare(pictures(2))), strict=True):
        assert_equal(one, other)
