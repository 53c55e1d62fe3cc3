"""Distillation: a student learns what a teacher says, or how it hesitates (Hinton 2015, arXiv:1503.02531; Touvron 2020, arXiv:2012.12877)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.losses.cross_entropy import cross_entropy

FORMS = ("soft", "hard")


def distillation(student: Tensor, teacher: Tensor, target: Tensor, *, form: str = "soft", weight: float = 0.5, temperature: float = 3.0) -> Tensor:
    """soft: (1 - l) CE(student, y) + l tau^2 KL(teacher || student); hard: (1 - l) CE(student, y) + l CE(student, argmax teacher), l = `weight`.

    student, teacher: logits B K, of which the teacher's get no gradient; target: B int64, or B K weights. (Touvron, eq. 2 and 3; the hard form is
    printed with l = 1/2. A seed text prints KL(student, teacher); it is the teacher's distribution over which the mean is taken.)
    Raises UsageError for another form.
    """
    if form not in FORMS:
        raise UsageError(f"form of distillation is {' or '.join(FORMS)}, not '{form}'")
    told = soft(student, teacher, temperature=temperature) if form == "soft" else hard(student, teacher)
    return (1 - weight) * cross_entropy(student, target) + weight * told


def soft(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """tau^2 KL(softmax(t / tau) || softmax(s / tau)), the mean over the batch; 0 for equal logits. tau^2 keeps the gradient's size as tau grows."""
    theirs = (teacher.detach() / temperature).log_softmax(dim=-1)
    own = (student / temperature).log_softmax(dim=-1)
    return temperature**2 * F.kl_div(own, theirs, reduction="batchmean", log_target=True)


def hard(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with the class that the teacher finds likeliest."""
    return cross_entropy(student, teacher.detach().argmax(dim=-1))
