"""Sums of losses by name: what is found, what is refused, and that a sum is its parts."""

import ast
import copy
import inspect
from pathlib import Path

import pytest
import torch

from cvtool import calls, losses
from cvtool.errors import UsageError
from cvtool.losses.cross_entropy import cross_entropy
from cvtool.losses.dice import dice

EXAMPLES = {
    "labels": (torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])),
    "semantic": (torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))),
    "pictures": (torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)),
    "embeddings": (torch.randn(8, 5), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])),
    "boxes": (torch.tensor([[0.0, 0, 4, 4], [1, 1, 3, 5]]), torch.tensor([[1.0, 0, 5, 4], [1, 2, 3, 6]])),
}
PLAIN = [(name, kind) for name in losses.names() for kind in losses.catalogue()[name]["KINDS"] if not losses.catalogue()[name]["STEP"]]


def test_what_the_literals_say_is_what_the_files_hold():
    for name, facts in losses.catalogue().items():
        module = losses.get(name)
        function = getattr(module, name.replace("-", "_"))
        for literal in ("KINDS", "ALIASES", "BESIDE", "STEP"):
            assert getattr(module, literal, type(facts[literal])()) == facts[literal], name
        assert set(facts["KINDS"]) <= set(losses.KINDS)
        assert set(facts["BESIDE"]) <= set(inspect.signature(function).parameters), name
        assert "arXiv" in module.__doc__ or "19" in module.__doc__ or "20" in module.__doc__
    every = [*losses.names(), *(alias for facts in losses.catalogue().values() for alias in facts["ALIASES"])]
    assert len(every) == len(set(every))


def test_listing_imports_no_loss():
    tree = ast.parse(Path(losses.__file__).read_text())
    assert not [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) and "torch" in ast.unparse(node)]


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_each_gives_a_finite_scalar_with_a_gradient_to_the_prediction(name, kind, small_network):
    prediction, target = (t.clone() for t in EXAMPLES[kind])
    prediction.requires_grad_()
    network = f":net={small_network}" + ("" if name == "identity" else ",layer=relu1_1/relu2_1") if hasattr(losses.get(name), "make") else ""
    criterion = losses.compose(name + network, kind)
    known = {"weights": torch.ones(2, 5, 6), "templates": torch.randn(3, 5)}
    beside = {key: value for key, value in known.items() if key in criterion.beside}
    (value,) = criterion(prediction, target, **beside).values()
    assert value.shape == ()
    assert value.isfinite()
    assert value > 0
    value.backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().sum() > 0


def test_a_sum_is_its_parts_each_under_its_name():
    logits, target = EXAMPLES["semantic"]
    values = losses.compose("dice+0.5*ce", "semantic")(logits, target)
    assert values == {"dice": dice(logits, target), "cross_entropy": 0.5 * cross_entropy(logits, target)}
    assert losses.compose("0.3*l1 + l2", "pictures")(*EXAMPLES["pictures"]).keys() == {"l1", "l2"}
    assert losses.compose("mae:1,mse:0.25", "pictures").weight("l2") == 0.25
    twice = losses.compose("focal:gamma=0+focal:gamma=2,alpha=none", "labels")
    assert list(twice(*EXAMPLES["labels"])) == ["focal", "focal_2"]
    assert twice.terms[1].options == {"alpha": None, "gamma": 2.0, "reduction": "mean"}


def test_weights_stand_beside_the_target_and_only_for_those_that_ask():
    logits, target = EXAMPLES["semantic"]
    criterion = losses.compose("weighted-ce+dice", "semantic")
    assert criterion.beside == {"weights"}
    values = criterion(logits, target, weights=torch.full((2, 5, 6), 3.0))
    torch.testing.assert_close(values["weighted_ce"], 3 * cross_entropy(logits, target))
    assert not losses.compose("dice", "semantic").beside
    with pytest.raises(ValueError, match="weight for each pixel"):
        criterion(logits, target)


def test_the_adversarial_term_is_left_to_its_step():
    criterion = losses.compose("l1:1,adv:0.01", "pictures")
    assert list(criterion(*EXAMPLES["pictures"])) == ["l1"]
    assert criterion.weight("adversarial") == 0.01
    assert losses.needs_step("l1:1,adv:0.01") == "adversarial"
    assert losses.needs_step("l1+dice") == losses.needs_step("") == ""


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("dise", "semantic", "unknown loss 'dise'"),
        ("dice", "labels", "dice compares semantic, and this model learns labels"),
        ("focal:gama=2", "labels", "no argument 'gama'"),
        ("focal:gamma=high", "labels", "gamma of focal is a number"),
        ("sigmoid-bce:alpha=yes", "labels", "alpha of sigmoid-bce is a number or none"),
        ("l1+x*l2", "pictures", "'x' is no weight"),
        ("focal:alpha=3", "labels", "alpha of focal is from 0 to 1, not 3"),
        ("focal:gamma=-2", "labels", "gamma of focal is at least 0, not -2"),
        ("sigmoid-bce:alpha=-0.1", "labels", "alpha of sigmoid-bce is from 0 to 1"),
        ("smooth-l1:beta=-1", "boxes", "beta of smooth-l1 is at least 0"),
        ("rmsle:least=0", "pictures", "least of rmsle is above 0"),
        ("hinge:margin=-1", "labels", "margin of hinge is at least 0"),
        ("bce:reduction=none", "labels", "reduction=none of bce gives none"),
        ("l1:reduction=max", "pictures", "reduction=mean or reduction=sum"),
        ("style:form=rms", "pictures", "gatys or johnson"),
        ("style:layer=relu1_1/relu2_1,weight=1", "pictures", "one weight a layer"),
        ("l1:1,adv:much", "pictures", "unknown"),
    ],
)
def test_wrong_ones_are_told(text, kind, says):
    with pytest.raises(UsageError) as told:
        losses.compose(text, kind)
    assert says in f"{told.value.what} {told.value.hint}" or says == "unknown"


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UsageError) as told:
        losses.compose("dise", "semantic")
    assert "dice" in told.value.hint
    with pytest.raises(UsageError) as told:
        losses.get("zzz")
    assert "cross-entropy" in told.value.hint
    assert losses.options(calls.one("ce")) == {}


def test_copies_of_a_model_share_its_networks(small_network):
    criterion = losses.compose(f"perceptual:net={small_network},layer=relu1_1", "pictures").ready()
    assert copy.deepcopy(criterion) is criterion
    assert not isinstance(criterion, torch.nn.Module)
