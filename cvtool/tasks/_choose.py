"""Which model a verb is to use, decided before anything slow is imported."""

from __future__ import annotations

from cvtool import registry
from cvtool.errors import UsageError
from cvtool.registry import Reference


def choose(text: str | None, verb: str | None) -> Reference:
    """The reference of a model that the verb takes; None: any model, for all of them have layers.

    Raises ModelError for an unknown name (with a suggestion) and UsageError where none was named, or where the model is for another verb.
    """
    if not text:
        some = examples(verb or "embed")
        hint = f"for example -m {', -m '.join(some)}; `cvtool models list` shows all" if some else "`cvtool models list` shows all"
        raise UsageError("which model? -m is missing", hint=hint)
    reference = registry.parse(text)
    if verb is None:
        return reference
    verbs = verbs_of(reference)
    if verb not in verbs:
        others = " or ".join(f"`cvtool {other}`" for other in verbs)
        raise UsageError(f"{text} is no model for {verb}", hint=f"{others} takes it" + _instead(verb))
    return reference


def verbs_of(reference: Reference) -> tuple[str, ...]:
    """The verbs that take a model, its own first; a checkpoint is asked what it is."""
    if reference.path is not None:
        from cvtool.checkpoint import read_info

        return verbs_of(registry.parse(read_info(reference.path).reference.partition("@")[0]))
    if reference.source is not None:
        return tuple(registry.source(reference.source).VERBS)
    entry = reference.entry
    assert entry is not None
    return entry.verbs


def examples(verb: str, count: int = 3) -> list[str]:
    """A few models of a verb, those with weights first."""
    fitting = [entry for entry in registry.catalogue().values() if verb in entry.verbs]
    shipped = {key.partition(".")[0] for key in registry.shipped()}
    fitting.sort(key=lambda entry: (entry.verb != verb, entry.name not in shipped, not entry.weights, entry.name))
    return [entry.name for entry in fitting[:count]]


def _instead(verb: str) -> str:
    some = examples(verb, 2)
    return f"; for {verb} try -m {' or -m '.join(some)}" if some else ""
