"""Weights of another training as a start: what of them fits is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import ModelError
from cvtool.layers.positional import Learned

LEAST = 0.02  # of a model's values, its head aside: what fits less has fitted by chance, as the norms of networks of equal width do


def start_from(model: nn.Module, reference: str, head: Callable[[], Sequence[str]] = list, *, offline: bool) -> tuple[str, list[str]]:
    """Copy the weights of `reference` where names and shapes agree; a line that says what was taken, and the names of those tensors.

    Positions learned for another number of patches are interpolated. The head, whose tensors' names `head()` tells, starts afresh where the
    classes are others, be they as many. Raises ModelError where nothing fits, or next to nothing.
    """
    loaded, info = weights.load(reference, offline=offline)
    places = dict(model.named_modules())
    for name, module in loaded.named_modules():
        if isinstance(module, Learned) and isinstance(mine := places.get(name), Learned) and mine.extra == module.extra:
            module.resize(mine.grid)
    theirs, own = loaded.state_dict(), model.state_dict()
    fits = {key: value for key, value in theirs.items() if key in own and own[key].shape == value.shape}
    if _other_classes(getattr(loaded, "categories", ()), getattr(model, "categories", ())):
        for key in head():
            fits.pop(key, None)
    hint = "--init takes the weights of the same model, whatever its classes"
    if not fits:
        raise ModelError(f"nothing of {reference} fits this model", hint=hint)
    body = {key: value.numel() for key, value in own.items() if key not in head()}
    if sum(count for key, count in body.items() if key in fits) < LEAST * sum(body.values()):
        what = f"almost nothing of {reference}, which is {info.reference or 'another model'}, fits this model: {len(fits)} of {len(own)} tensors"
        raise ModelError(what, hint=hint)
    model.load_state_dict(fits, strict=False)
    fresh = [key for key in own if key not in fits]
    rest = f"; {len(fresh)} start afresh: {', '.join(fresh[:4])}{', ...' if len(fresh) > 4 else ''}" if fresh else ""
    return f"starting from {info.reference or reference}: {len(fits)} of {len(own)} tensors{rest}", list(fits)


def _other_classes(theirs: Any, own: Any) -> bool:
    """Whether as many classes have other names; those of a file that names none may be any."""
    if len(theirs) != len(own) or list(theirs) == numbered(len(theirs)):
        return False
    return [category and category["name"] for category in theirs] != [category and category["name"] for category in own]
