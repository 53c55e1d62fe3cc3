"""Losses, one a file, and their sums: `compose("dice+0.5*ce", "semantic")` -> `criterion(prediction, target) -> {name: scalar}`.

`losses/NAME.py` holds a function of the file's name, `(prediction, target, *, options) -> Tensor`. Those that can be chosen by name say for what, in
literals that are read as text, so that a list imports nothing:

    KINDS = ("labels",)     what it compares, some of `KINDS` below
    ALIASES = ("ce",)       other names
    BESIDE = ("weights",)   arrays that come beside the target: keywords that are no options
    STEP = "adversarial"    the training step without which the term has no meaning

A loss that needs a network of its own has `make(*, options, offline)` beside the function, which returns the `(prediction, target) -> Tensor`. It is
called by `Criterion.ready`, so that names and options can be checked without weights. `check(**options)` may refuse values that no type forbids.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cvtool import calls
from cvtool.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {  # prediction and target, and the range of values
    "labels": "logits B K; classes B int64, or weights B K float that sum to 1",
    "semantic": "logits B K H W; classes B H W int64, 255 = looked at by no loss",
    "pictures": "B C H W each, in [0, 1]",
    "boxes": "N 4 each, xyxy, absolute pixels",
    "embeddings": "vectors B D; classes B int64",
}
MINIMISED = ("mean", "sum")  # how a term's values become its number
_LITERALS: dict[str, tuple[str, ...] | str] = {"KINDS": (), "ALIASES": (), "BESIDE": (), "STEP": ""}


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Every loss that can be chosen -> its literals. Nothing is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        facts = {key: ast.literal_eval(m[1]) if (m := re.search(rf"^{key} = (.+)$", text, re.MULTILINE)) else no for key, no in _LITERALS.items()}
        if facts["KINDS"]:
            found[path.stem.replace("_", "-")] = facts
    return found


def names(kind: str | None = None) -> list[str]:
    """The losses that compare `kind`, or all."""
    return [name for name, facts in catalogue().items() if kind is None or kind in facts["KINDS"]]


def canonical(name: str) -> str:
    """The file's name for a name or an alias, in lower case; an unknown name stays as it is."""
    name = name.lower().replace("_", "-")
    return next((own for own, facts in catalogue().items() if name in facts["ALIASES"]), name)


def get(name: str) -> ModuleType:
    """The module of one loss. Raises UsageError with the right names for a wrong one."""
    own = canonical(name)
    if own not in catalogue():
        raise _unknown(name, names())
    return importlib.import_module(f"{__name__}.{own.replace('-', '_')}")


def needs_step(text: str) -> str:
    """The training step that a sum asks for ("adversarial" where it has an adversarial term), or "". Raises UsageError for an unknown loss."""
    found = [catalogue()[_known(call.name)]["STEP"] for _, call in calls.weighted(text)] if text else []
    return next(filter(None, found), "")


def compose(text: str, kind: str) -> Criterion:
    """The sum as typed, of losses that compare `kind`. Raises UsageError for an unknown name, option or value, and for a loss of another kind."""
    if kind not in KINDS:
        raise ValueError(f"losses compare {', '.join(KINDS)}, not {kind}")
    terms: list[Term] = []
    for weight, call in calls.weighted(text):
        name = _known(call.name, kind)
        key = name.replace("-", "_")
        count = sum(term.name == name for term in terms)
        found = options(call)
        if found.get("reduction", "mean") not in MINIMISED:
            hint = f"reduction={' or reduction='.join(MINIMISED)}"
            raise UsageError(f"loss: what is minimised is one number, and reduction={found['reduction']} of {name} gives none", hint=hint)
        terms.append(Term(f"{key}_{count + 1}" if count else key, name, weight, found))
    if not terms:
        raise UsageError("loss: nothing is named", hint="losses: " + ", ".join(names(kind)))
    return Criterion(text, kind, tuple(terms))


def options(call: calls.Call, among: Sequence[str] = (), *, what: str = "loss") -> dict[str, Any]:
    """What a call says of its loss, over the loss's own defaults; "none" stands for None. Raises UsageError, also for a loss that is not `among`."""
    name = canonical(call.name)
    if among and name not in among:
        raise UsageError(f"unknown {what} '{call.name}'", hint=did_you_mean(call.name, among) or f"{what}: " + ", ".join(among))
    module = get(name)
    made = getattr(module, "make", None) or getattr(module, name.replace("-", "_"))
    others = ("offline", *catalogue()[name]["BESIDE"])
    known = [p for p in inspect.signature(made).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in others]
    numbers_or_none = {p.name: p.default for p in known if "None" in str(p.annotation)}
    found = calls.bind(call, {p.name: p.default for p in known} | dict.fromkeys(numbers_or_none), what)
    for key, default in numbers_or_none.items():
        value = found[key]
        if isinstance(value, (str, bool)) and value != "none":
            raise UsageError(f"{what}: {key} of {name} is a number or none, not {value}")
        found[key] = default if value is None else None if value == "none" else float(value)
    if check := getattr(module, "check", None):
        check(**found)
    return found


def _known(name: str, kind: str | None = None) -> str:
    own = canonical(name)
    if own not in catalogue():
        raise _unknown(name, names(kind))
    if kind is not None and kind not in catalogue()[own]["KINDS"]:
        theirs = ", ".join(catalogue()[own]["KINDS"])
        raise UsageError(f"loss: {own} compares {theirs}, and this model learns {kind}", hint=f"losses of {kind}: " + ", ".join(names(kind)))
    return own


def _unknown(name: str, among: list[str]) -> UsageError:
    aliases = [alias for own in among for alias in catalogue()[own]["ALIASES"]]
    return UsageError(f"unknown loss '{name}'", hint=did_you_mean(name, among + aliases) or "losses: " + ", ".join(among))


@dataclass(frozen=True)
class Term:
    """One loss of a sum. key: its name in the log."""

    key: str
    name: str
    weight: float
    options: dict[str, Any]


class Criterion:
    """A weighted sum of losses, called as `criterion(prediction, target) -> {key: weight * value}`; keywords are arrays beside the target.

    It is no module: networks that a loss owns are neither trained nor saved with the model, and its copies share them.
    """

    def __init__(self, text: str, kind: str, terms: tuple[Term, ...]) -> None:
        self.text, self.kind, self.terms = text, kind, terms
        self._made: dict[str, Callable[..., Tensor]] = {}

    def __repr__(self) -> str:
        return f"Criterion({self.text!r}, {self.kind!r})"

    def __deepcopy__(self, memo: Any) -> Criterion:
        return self

    def __call__(self, prediction: Tensor, target: Tensor, **beside: Tensor | None) -> dict[str, Tensor]:
        """Terms with a step of their own are left to it. Raises ValueError for a term whose arrays beside the target are not there."""
        self.ready()
        values = {}
        for term in self.terms:
            facts = catalogue()[term.name]
            if not facts["STEP"]:
                own = {key: beside[key] for key in facts["BESIDE"] if key in beside}
                values[term.key] = term.weight * self._made[term.key](prediction, target, **own)
        return values

    @property
    def beside(self) -> set[str]:
        """The arrays that some term reads beside the target, such as "weights" (`SemanticMap.weights`)."""
        return {name for term in self.terms for name in catalogue()[term.name]["BESIDE"]}

    def weight(self, name: str) -> float:
        """The sum of the weights of the terms called `name`, 0 if there is none."""
        return sum(term.weight for term in self.terms if term.name == name)

    def ready(self, *, offline: bool = False) -> Criterion:
        """Itself, with the networks that its terms need loaded; else that is done at the first call. Raises ModelError, UsageError."""
        for term in self.terms:
            if term.key not in self._made and not catalogue()[term.name]["STEP"]:
                module = get(term.name)
                made = module.make(**term.options, offline=offline) if hasattr(module, "make") else getattr(module, term.name.replace("-", "_"))
                self._made[term.key] = made if hasattr(module, "make") else partial(made, **term.options)
        return self
