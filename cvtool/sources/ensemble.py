"""Several classifiers as one, whose probabilities are the averages of theirs: `ensemble:runs/0001,runs/0002` (Hansen 1990, doi:10.1109/34.58871).

Classes meet by name. What only some members know counts as 0 with the others, so an ensemble of an old model and of one trained on new classes
answers for all of them. Each member sees the picture in its own size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cvtool.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import nn

VERBS = ("classify",)
DESCRIPTION = "averages of other classifiers: ensemble:REF,REF,..."


def names() -> list[str]:
    """None of its own."""
    return []


def members(name: str) -> list[str]:
    """The references in `REF,REF`. Raises ModelError for none."""
    found = [part.strip() for part in name.split(",") if part.strip()]
    if not found:
        raise ModelError("an ensemble of nothing", hint="ensemble:REF,REF, such as ensemble:runs/0001,runs/0002")
    return found


def describe(name: str) -> dict[str, Any]:
    """Its members, resolved."""
    from cvtool import registry

    return {"reference": f"ensemble:{name}", "summary": "the average of " + ", ".join(str(registry.parse(one)) for one in members(name))}


def build(name: str, *, pretrained: bool, classes: int | None, offline: bool) -> nn.Module:
    """All members with their weights. Raises UsageError for one that does not classify pictures."""
    from cvtool import weights
    from cvtool.layers.average import Average
    from cvtool.results import Labels

    if classes is not None:
        raise UsageError("an ensemble is not trained; its members are", hint="train one of them, then put it in")
    models = []
    for one in members(name):
        model, _ = weights.load(one, offline=offline)
        if getattr(model, "result", None) is not Labels:
            raise UsageError(f"{one} does not classify pictures, so it has no probabilities to average", where=f"ensemble:{name}")
        models.append(model)
    return Average(models)
