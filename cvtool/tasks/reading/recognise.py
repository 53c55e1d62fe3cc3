"""Crops of words read in batches, those of many pictures together."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cvtool.errors import CvtoolError, ModelError, UsageError
from cvtool.results import Text
from cvtool.runtime.pool import Loaded
from cvtool.tasks._predictor import Predictor, Report, Settings, accepted

CPU_BATCH, GPU_BATCH = 32, 256
SPELLING = {"rectified": "save-rectified", "attention": "save-attention"}  # an argument of `predict` -> the option that asks for it


class Reader:
    """A recogniser with the options of one run. Only crops that fill the same shape share a batch, so that none sees more padding than alone."""

    def __init__(self, loaded: Loaded, options: dict[str, Any], batch_size: int | None, report: Report) -> None:
        """options: of `predict`, None where not given. Raises UsageError for a model that reads nothing, or does not take one of them."""
        if getattr(loaded.model, "result", None) is not Text:
            raise UsageError(f"{loaded.reference} reads no text", hint="what finds text goes to --detector; -m takes a recogniser, such as crnn")
        size = batch_size or (CPU_BATCH if loaded.device.type == "cpu" else GPU_BATCH)
        self.predict = Predictor(loaded, Settings(batch_size=size), report, verb="ocr")
        self.predict.options = _taken(loaded, options)
        self.loaded = loaded
        self.charset: str | None = getattr(loaded.model, "charset", None)
        self.free = not {"charset", "dictionary"} & set(self.predict.options)  # nobody has said what may come out
        self._lean = {key: value for key, value in self.predict.options.items() if key not in SPELLING}

    def __call__(self, crops: Sequence[np.ndarray], *, lean: bool = False) -> list[Text | Exception]:
        """Each crop's text (H W 3 uint8 in), or the error that it met. lean: without pictures of how it was read."""
        groups: dict[Any, list[int]] = {}
        for i, crop in enumerate(crops):
            groups.setdefault(self.predict.shape(*crop.shape[:2]), []).append(i)
        answers: list[Text | Exception | None] = [None] * len(crops)
        full = self.predict.options
        if lean:
            self.predict.options = self._lean
        try:
            for indices in groups.values():
                for i, answer in zip(indices, self.predict([crops[i] for i in indices]), strict=True):
                    answers[i] = self._unpadded(_checked(answer, self.loaded), crops[i].shape[0], crops[i].shape[1])
        finally:
            self.predict.options = full
        return [answer for answer in answers if answer is not None]

    def _unpadded(self, answer: Text | Exception, height: int, width: int) -> Text | Exception:
        """The answer with where the model looked over the crop alone, not over what it was padded with."""
        if not isinstance(answer, Text) or answer.attention is None or not hasattr(self.predict.prepare, "target_size"):
            return answer
        (rows, columns), ((most_rows, most_columns),) = self.predict.prepare.target_size(height, width), self.predict.shape(height, width)
        h, w = answer.attention.shape[1:]
        return replace(answer, attention=answer.attention[:, : max(1, -(-h * rows // most_rows)), : max(1, -(-w * columns // most_columns))])

    def sureness(self, crops: Sequence[np.ndarray]) -> float:
        """How surely crops can be read: the mean belief in their texts; 0 of none."""
        if not crops:
            return 0.0
        found = [believed(answer) for answer in self(crops, lean=True) if isinstance(answer, Text)]
        return float(np.mean(found)) if found else 0.0

    def upright_or_not(self, crops: Sequence[np.ndarray], answers: list[Text | Exception]) -> tuple[list[Text | Exception], list[int]]:
        """The better of each crop's answer and those of the crop on its left and right side, for crops that are much higher than wide; and the
        quarters, against the clock, by which each was turned."""
        turns = [0] * len(crops)
        tall = [i for i, crop in enumerate(crops) if crop.shape[0] > TALL * crop.shape[1] and isinstance(answers[i], Text)]
        for quarters in (1, 3):
            others = self([np.ascontiguousarray(np.rot90(crops[i], quarters)) for i in tall])
            for i, other in zip(tall, others, strict=True):
                mine = answers[i]
                if isinstance(other, Text) and isinstance(mine, Text) and len(other.text) > 1 and believed(other) > believed(mine):
                    answers[i], turns[i] = other, quarters
        return answers, turns


TALL = 1.6  # times as high as wide: a word that may stand on its side


def _per_character(text: Text) -> float:
    """The geometric mean of the characters' probabilities, 0 of no text."""
    return float(text.score or 0.0) ** (1 / len(text.text)) if text.text else 0.0


def believed(text: Text) -> float:
    """How much an answer is believed against another: one character alone little, for any stroke is one."""
    return _per_character(text) * (0.6 if len(text.text) < 2 else 1.0)


def _taken(loaded: Loaded, options: dict[str, Any]) -> dict[str, Any]:
    """Those options that were given. Raises UsageError for one that the model does not take, in the words of the command line."""
    takes = inspect.signature(loaded.model.predict).parameters
    for argument, option in SPELLING.items():
        if options.get(argument) and argument not in takes:
            what = "straightens nothing" if argument == "rectified" else "has no attention to be shown"
            raise UsageError(f"--{option} has no effect on {loaded.reference}, which {what}", hint="leave it out, or take another recogniser with -m")
    return accepted(loaded, **{key: value or None for key, value in options.items() if key in takes or value})


def _checked(answer: Any, loaded: Loaded) -> Text | Exception:
    if isinstance(answer, Exception):
        if isinstance(answer, CvtoolError):
            return answer
        raise answer
    if answer.score is not None and not answer.score == answer.score:
        raise ModelError(f"{loaded.reference} is as sure as NaN", hint="its weights are damaged, or fp16 is too narrow for it")
    return answer
