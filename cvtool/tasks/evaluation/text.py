"""Texts that were read against the true ones: error rates of characters and words, and the share of texts read without error."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.pairing import first, match_images, plural
from cvtool.data.sides import Side, image_name
from cvtool.errors import InputError, UsageError
from cvtool.metrics._edit_distance import script
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._means import lower_of, single
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._page import Page
from cvtool.tasks.evaluation._text_files import Texts, read

OPTIONS: dict[str, str] = {}
FITS = (".tsv", ".csv", ".txt", "folder")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Texts of the same pictures (`_text_files.read`). What has no counterpart counts as read as nothing. Raises InputError and UsageError."""
    gt, dt = (side.where if isinstance(side, Side) else os.fspath(side) for side in (gt, dt))
    if gt == dt == "-":
        raise UsageError("stdin can be read only once: either the ground truth or the other side comes from it")
    calls = metrics or [Call("cer"), Call("wer"), Call("word-accuracy")]
    functions = [registered.find(call.name).load().of_texts for call in calls]
    given = [arguments(call, function) for call, function in zip(calls, functions, strict=True)]
    truth, found = read(gt, options.stdin, truth=True), read(dt, options.stdin, truth=False)
    answers, account, how, warnings = _paired(truth, found)
    said = ["" if answer is None else found.texts[answer] for answer in answers]
    rates = [function(truth.texts, said, **more) for function, more in zip(functions, given, strict=True)]
    above, below = (np.stack([getattr(rate, side) for rate in rates]) for side in ("above", "below"))  # M N
    keys = [rate.key for rate in rates]
    if len(set(keys)) < len(keys):
        raise UsageError(
            f"--metric: two of these metrics report '{next(key for key in keys if keys.count(key) > 1)}'", hint="measure them in two calls"
        )

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums, lengths = np.asarray(weights, np.float64) @ above.T, np.asarray(weights, np.float64) @ below.T
        values = np.divide(sums, lengths, out=np.full_like(sums, np.nan), where=lengths > 0)
        return dict(zip(keys, values.T, strict=True))

    statistic = single(many)
    values = statistic(np.ones(len(said)))
    if empty := [image_name(truth.side.images[n]) for n, text in enumerate(truth.texts) if not text.strip()]:
        warnings.append(f"{plural(len(empty), 'true text')} without a character: {first(empty)}; what was read there counts as inserted")
    counts: dict[str, Any] = {"images": len(said), "unanswered": sum(answer is None for answer in answers), "matched_by": how}
    confusions: list[dict[str, Any]] = []
    for rate in rates:
        counts |= rate.counts
        confusions = confusions or rate.confusions
    return Measured(
        task="text",
        metrics=dict(values),
        units=[image_name(image) for image in truth.side.images],
        statistic=statistic,
        many=many,
        per_unit={rate.key: rate.above / np.maximum(rate.below, 1) for rate in rates},
        attributes=truth.facts,
        params={f"{call.name}.{key}": value for call, more in zip(calls, given, strict=True) for key, value in more.items()},
        counts=counts,
        matching=account,
        warnings=warnings,
        extra={"character_confusions": confusions} if any(rate.key == "CER" for rate in rates) else {},
        lower=lower_of(calls, keys),
        primary=keys[0],
        page=Page(unit=lambda number: _marked(truth.texts[number], said[number])),
    )


def _marked(true: str, found: str) -> dict[str, Any]:
    """Both texts as one, in stretches that are the same, gone or new."""
    parts: list[list[str]] = []
    place = 0

    def add(kind: str, text: str) -> None:
        if text and parts and parts[-1][0] == kind:
            parts[-1][1] += text
        elif text:
            parts.append([kind, text])

    for edit in script(true, found):
        add("same", true[place : edit.place])
        add("gone", edit.true or "")
        add("new", edit.found or "")
        place = edit.place + (edit.true is not None)
    add("same", true[place:])
    return {"text": parts}


def _paired(truth: Texts, found: Texts) -> tuple[list[int | None], str, str, list[str]]:
    """(of each true text the number of what was read, the account, how they were paired, warnings)."""
    warnings = []
    if found.failed:
        warnings.append(f"{plural(len(found.failed), 'picture')} could not be read and count as empty texts: {found.failed[0]}")
    if truth.failed:
        raise InputError(f"the ground truth has a picture that could not be read: {truth.failed[0]}", where=truth.side.where)
    if len(truth.texts) == len(found.texts) == 1:
        return [0], "one text against one", "order", warnings
    pairing = match_images(truth.side, found.side)
    answers: list[int | None] = [None] * len(truth.texts)
    for number, position in enumerate(pairing.positions):
        if position is not None:
            answers[position] = number
    warnings += [line.replace("detected image", "text") for line in pairing.warnings]
    silent = [image_name(truth.side.images[n]) for n, answer in enumerate(answers) if answer is None]
    if silent:
        what = "ground-truth text has" if len(silent) == 1 else "ground-truth texts have"
        warnings.append(f"{len(silent):,} {what} no counterpart and count{'s' if len(silent) == 1 else ''} as read as nothing: {first(silent)}")
    matched = len(answers) - len(silent)
    account = (
        f"matched {matched:,} of {plural(len(found.texts), 'text')} by {pairing.how}; "
        f"{len(silent):,} of {plural(len(answers), 'ground-truth text')} without a counterpart"
    )
    return answers, account, pairing.how, warnings
