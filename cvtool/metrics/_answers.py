"""Answers to the question of which class a picture is of, as arrays: what the metrics of kind `classes` are measured of.

Such a metric offers `of_answers(answers, weights=None, *, ...) -> dict`: flat figures; `weights` (N) says how often each picture counts, keyword-only
parameters are its arguments on the command line. What cannot be measured is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Answers:
    """N pictures. true: class; found: the likeliest class found, -1 where that is none of the K or nothing was found.

    place: the place of the true class in the list, from 0, -1 where it is not in it. listed: how many classes were listed. confidence: of the
    likeliest, nan where it has no score. classes: K.
    """

    true: np.ndarray  # N int
    found: np.ndarray  # N int
    place: np.ndarray  # N int
    listed: np.ndarray  # N int
    confidence: np.ndarray  # N float64
    classes: int

    @property
    def right(self) -> np.ndarray:
        return self.place == 0
