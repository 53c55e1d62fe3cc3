"""How flat text comes to lie in a picture: stretched, slanted, turned, bent along an arc, seen from the side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Lie:
    """The way from flat text (pixels around the middle of its box) into a picture.

    matrix: 3 x 3, the projective part, applied last. bend: the angle (radians) of the arc that the text of this `width` follows, positive for a
    hill, negative for a valley, 0 for a straight line; the arc's middle stays where it was.
    """

    matrix: np.ndarray
    bend: float = 0.0
    width: float = 1.0

    @property
    def scale(self) -> float:
        """How much larger things are in the picture than flat, in the middle."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:2, :2]))))

    def forth(self, points: np.ndarray) -> np.ndarray:
        """N 2 float: flat places -> places in the picture."""
        u, v = points[:, 0], points[:, 1]
        if self.bend:
            radius = self.width / self.bend
            angle, r = u / radius, radius - v
            u, v = r * np.sin(angle), radius - r * np.cos(angle)
        return project(self.matrix, np.stack([u, v], 1))

    def back(self, points: np.ndarray) -> np.ndarray:
        """N 2 float: places in the picture -> flat places."""
        flat = project(np.linalg.inv(self.matrix), points)
        if not self.bend:
            return flat
        radius = self.width / self.bend
        x, y = flat[:, 0], radius - flat[:, 1]
        sign = math.copysign(1.0, radius)
        return np.stack([radius * np.arctan2(sign * x, sign * y), radius - sign * np.hypot(x, y)], 1)

    def warped(self, mask: Image.Image, origin: tuple[float, float], size: tuple[int, int], start: tuple[float, float]) -> Image.Image:
        """A flat mask as it lies: `size` (width, height) pixels of the picture, whose first is `start`.

        origin: the pixel of the mask that is the flat (0, 0). What lies outside of the mask is 0.
        """
        across, down = (14, 2) if self.bend else (6, 3) if abs(self.matrix[2, :2]).max() > 0 else (1, 1)
        across, down = min(across, size[0]), min(down, size[1])
        xs, ys = np.linspace(0, size[0], across + 1).round(), np.linspace(0, size[1], down + 1).round()
        grid = np.stack(np.meshgrid(xs, ys), -1)  # down+1 across+1 2
        places = self.back(grid.reshape(-1, 2) + start).reshape(grid.shape) + origin
        cells = []
        for j in range(down):
            for i in range(across):
                box = int(xs[i]), int(ys[j]), int(xs[i + 1]), int(ys[j + 1])
                quad = (*places[j, i], *places[j + 1, i], *places[j + 1, i + 1], *places[j, i + 1])
                cells.append((box, quad))
        return mask.transform(size, Image.Transform.MESH, cells, Image.Resampling.BILINEAR)


def laid(mask: Image.Image, lie: Lie, origin: tuple[float, float], size: tuple[int, int], start: tuple[float, float]) -> Image.Image:
    """`Lie.warped` of a mask that is made smaller first where it will be: sampling between pixels far apart would drop thin strokes."""
    if (by := int(1 / lie.scale)) >= 2:
        mask = mask.reduce(by)
        lie = Lie(lie.matrix @ np.diag([by, by, 1.0]), lie.bend, lie.width / by)
        origin = origin[0] / by, origin[1] / by
    return lie.warped(mask, origin, size, start)


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """N 2 through a 3 x 3 matrix."""
    full = points @ matrix[:, :2].T + matrix[:, 2]
    return full[:, :2] / full[:, 2:]


def affine(scale: float, *, stretch: float = 1.0, slant: float = 0.0, angle: float = 0.0) -> np.ndarray:
    """3 x 3: widths times `stretch`, rows moved by `slant` times their height, everything turned by `angle` (radians) and times `scale`."""
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return turn @ np.array([[stretch, -slant, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def tilted(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """The same seen from the side: things grow with the distance along (-x, -y), by the factor 1 at the middle."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [x, y, 1.0]]) @ matrix


def edge(x0: float, y0: float, x1: float, y1: float, points: int = 9) -> np.ndarray:
    """Places along a box's upper edge to the right, then along its lower edge back to the left: 2 * points, 2."""
    xs = np.linspace(x0, x1, points)
    return np.concatenate([np.stack([xs, np.full(points, y0)], 1), np.stack([xs[::-1], np.full(points, y1)], 1)])
