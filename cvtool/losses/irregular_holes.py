"""Six losses for filled holes: what was made, in the hole and outside, as a network sees it and as it joins the rest (Liu 2018, arXiv:1804.07723).

Terms are means over each picture's numbers, so that a batch's loss is that of its pictures, on average. K_p, which the paper's text leaves open in
eq. 4 and 5 but for its words, is 1 / (C_p H_p W_p).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvtool.layers.features import Features
from cvtool.losses.gram_style import gram
from cvtool.losses.tv import widened

WEIGHTS = {"valid": 1.0, "hole": 6.0, "perceptual": 0.05, "style_out": 120.0, "style_comp": 120.0, "tv": 0.1}  # eq. 7
LAYERS = ("pool1", "pool2", "pool3")


def irregular_holes(made: Tensor, target: Tensor, hole: Tensor, *, features: Features, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
    """The six terms, each times its weight. made, target: I_out and I_gt, B 3 H W, in [0, 1]; hole: B 1 H W bool, True = hole (the paper's M is 0).

    comp is what was made in the hole and the target elsewhere. `valid`, `hole`: sum of |made - target| there, over all numbers of the picture;
    `perceptual`: mean |difference| of the layers' maps, of made and of comp (eq. 3); `style_out`, `style_comp`: that of their Gram matrices, of made
    and of comp (eq. 4, 5); `tv`: differences between neighbours in comp where both lie in the hole widened by a pixel, over all its numbers (eq. 6).
    """
    difference = (made - target).abs()
    comp = torch.where(hole, made, target)
    with torch.no_grad():
        true = [maps.float() for maps in features(target, layers)]
    own = [maps.float() for maps in features(torch.cat([made, comp]), layers)]
    terms = {"valid": (difference * ~hole).mean(), "hole": (difference * hole).mean()}
    terms["perceptual"] = torch.stack([2 * (maps - theirs.repeat(2, 1, 1, 1)).abs().mean() for maps, theirs in zip(own, true, strict=True)]).sum()
    count = len(made)
    for name, part in (("style_out", slice(count)), ("style_comp", slice(count, None))):
        terms[name] = torch.stack([_style(maps[part], theirs) for maps, theirs in zip(own, true, strict=True)]).sum()
    terms["tv"] = _seams(comp, hole)
    return {name: weight * terms[name] for name, weight in WEIGHTS.items()}


def _style(own: Tensor, theirs: Tensor) -> Tensor:
    """1 / (C C) ||K (G - A)||_1, the mean over the batch."""
    return ((gram(own) - gram(theirs)) / own[0].numel()).abs().mean()


def _seams(comp: Tensor, hole: Tensor) -> Tensor:
    """Total variation of comp in the widened hole alone, over all numbers of comp."""
    region = widened(hole)
    across = (comp[..., 1:] - comp[..., :-1]).abs() * (region[..., 1:] & region[..., :-1])
    down = (comp[..., 1:, :] - comp[..., :-1, :]).abs() * (region[..., 1:, :] & region[..., :-1, :])
    return (across.sum() + down.sum()) / comp.numel()
