"""The views of test-time augmentation by name: `parse("hflip,scale:0.75,1.25")`.

Every flip is taken with every size, the picture as it is among them: hflip gives two views, with two scales beside it six (Chen 2017,
arXiv:1706.05587, section 4). No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvtool import calls
from cvtool.errors import UsageError, did_you_mean
from cvtool.results import Boxes, Instances, Result, SemanticMap

NAMES = ("hflip", "vflip", "scale")
HINT = "views: hflip, vflip, scale:F (such as scale:0.75)"
SCALES = (0.1, 4.0)


@dataclass(frozen=True)
class View:
    """Left and right exchanged, top and bottom exchanged, and the size at which the model sees it over its usual one."""

    hflip: bool = False
    vflip: bool = False
    scale: float = 1.0

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """H W 3 -> H W 3, flipped; the size is the preparation's affair."""
        flipped = self.flipped(picture, rows=0, columns=1)
        return picture if flipped is picture else np.ascontiguousarray(flipped)

    def flipped(self, array: Any, *, rows: int = -2, columns: int = -1) -> Any:
        """An array over a picture (numpy, or a tensor) flipped along these axes; twice is nothing."""
        axes = tuple(axis for axis, flip in ((rows, self.vflip), (columns, self.hflip)) if flip)
        return array if not axes else array.flip(axes) if hasattr(array, "new_tensor") else np.flip(array, axes)

    def back(self, result: Result, width: int, height: int, *, swap: Sequence[int] | None = None) -> Result:
        """A result (numpy arrays) in this view of a picture of `width` x `height` -> in the picture as it is. Masks are left out.

        swap: which keypoint is which after a left-right flip (`augment.swapped`).
        """
        if isinstance(result, SemanticMap):
            return result.map(self.flipped)
        if not isinstance(result, Boxes):
            return result
        changes: dict[str, Any] = {"boxes": self._boxes(np.asarray(result.boxes, dtype=np.float32).reshape(-1, 4), width, height)}
        if isinstance(result, Instances):
            changes["masks"] = None
            if result.keypoints is not None:
                points = np.array(result.keypoints, dtype=np.float32)
                if self.hflip:
                    points[..., 0] = width - 1 - points[..., 0]
                if self.vflip:
                    points[..., 1] = height - 1 - points[..., 1]
                order = list(swap) if self.hflip and swap else slice(None)
                changes["keypoints"] = points[:, order]
                if result.keypoint_scores is not None:
                    changes["keypoint_scores"] = np.asarray(result.keypoint_scores)[:, order]
        return replace(result, **changes)

    def _boxes(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        x0, y0, x1, y1 = boxes.T
        if self.hflip:
            x0, x1 = width - x1, width - x0
        if self.vflip:
            y0, y1 = height - y1, height - y0
        return np.stack([x0, y0, x1, y1], axis=1)


def parse(text: str) -> list[View]:
    """The picture as it is first. Raises UsageError for a wrong name (listing the right ones), a size out of range, and what would do nothing."""
    flips, scales = set[str](), [1.0]
    for call in calls.read(text, "--tta"):
        name = call.name.lower().replace("_", "-")
        if name not in NAMES:
            raise UsageError(f"--tta: unknown view '{call.name}'", hint=did_you_mean(name, NAMES) or HINT)
        if name != "scale":
            if call.args or call.kwargs:
                raise UsageError(f"--tta: {name} takes no argument, and '{call}' has one")
            if name in flips:
                raise UsageError(f"--tta: {name} is given twice")
            flips.add(name)
            continue
        if not call.args or call.kwargs:
            raise UsageError("--tta: scale takes the size over the usual one", hint="such as scale:0.75 or scale:0.75,1.25")
        for value in call.args:
            if isinstance(value, (str, bool)) or not SCALES[0] <= value <= SCALES[1]:
                raise UsageError(f"--tta: scale is from {SCALES[0]:g} to {SCALES[1]:g}, not {value}")
            if value in scales:
                raise UsageError(f"--tta: scale:{value} {'is the picture as it is' if value == 1 else 'is given twice'}", hint="leave it out")
            scales.append(float(value))
    if not flips and len(scales) == 1:
        raise UsageError("--tta names no view", hint=HINT)
    return [View(h, v, s) for s in scales for v in (False, True)[: 1 + ("vflip" in flips)] for h in (False, True)[: 1 + ("hflip" in flips)]]
