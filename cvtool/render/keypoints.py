"""Keypoints on a canvas: limbs of the skeleton, coloured by side, and a dot a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvtool.categories import COCO_KEYPOINTS, COCO_SKELETON
from cvtool.render.canvas import Canvas
from cvtool.render.palette import INK, WHITE, Colour

LEFT: Colour = (200, 255, 90)  # lime, orange and white differ in lightness too, for eyes that do not tell green from red
RIGHT: Colour = (255, 138, 31)
MIDDLE: Colour = (245, 247, 250)


def skeleton(category: dict[str, Any] | None, count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """The points' names and the limbs (pairs of indices from 0) of a category; COCO's person where it says nothing and has 17 points."""
    said: dict[str, Any] = category or {}
    names, limbs = ([*said[key]] if isinstance(said.get(key), list) else None for key in ("keypoints", "skeleton"))
    if not names and limbs is None and count == len(COCO_KEYPOINTS):
        names, limbs = list(COCO_KEYPOINTS), COCO_SKELETON
    names = [str(name) for name in names or []]
    names += [""] * max(count - len(names), 0)
    pairs = [(limb[0] - 1, limb[1] - 1) for limb in limbs or [] if isinstance(limb, list) and [type(v) for v in limb] == [int, int]]
    return names, [(a, b) for a, b in pairs if 0 <= a < count and 0 <= b < count]


def draw(
    canvas: Canvas,
    points: Sequence[tuple[float, float, float]],
    category: dict[str, Any] | None,
    line: float,
    *,
    predicted: bool = False,
    colour: Colour | None = None,
) -> None:
    """One object's keypoints (x, y, visibility) with its limbs `line` pixels wide.

    Visibility 0 is not drawn; 1, in ground truth a point that is hidden, is a ring with faint limbs (with `predicted` it is drawn as seen).
    colour: one for all limbs; without it lime is the left side, orange the right, white the middle.
    """
    names, limbs = skeleton(category, len(points))
    paint = [_side(name) if colour is None else colour for name in names]
    seen = [v > 1 or (predicted and v > 0) for _, _, v in points]
    for a, b in limbs:
        if points[a][2] > 0 and points[b][2] > 0:
            canvas.line([points[a][:2], points[b][:2]], line + max(2.0, 0.7 * line), INK, opacity=0.45)
    for a, b in limbs:
        if points[a][2] > 0 and points[b][2] > 0:
            one = paint[a] if paint[a] == paint[b] else MIDDLE if colour is None else colour
            canvas.line([points[a][:2], points[b][:2]], line, one, opacity=1.0 if seen[a] and seen[b] else 0.45)
    radius = 1.25 * line + 0.5
    for (x, y, v), visible, one in zip(points, seen, paint, strict=True):
        if v <= 0:
            continue
        rim = max(1.0, 0.45 * line)
        canvas.disc(x, y, radius + rim, INK, opacity=0.55)
        if visible:
            canvas.disc(x, y, radius + 0.4 * rim, WHITE)
            canvas.disc(x, y, radius - 0.4 * rim, one)
        else:
            canvas.circle(x, y, radius, max(1.0, 0.5 * line), one)


def _side(name: str) -> Colour:
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    return LEFT if words[0] in ("left", "l") or words[-1] == "left" else RIGHT if words[0] in ("right", "r") or words[-1] == "right" else MIDDLE
