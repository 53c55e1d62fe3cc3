"""How much of a page is shown with a word when it is read: as high as its line, so that it can be seen how high its letters are.

Cut close around its ink, `see` looks like `SEE` with small letters of another font, and the full stop of `so.` is a speck: nothing tells how large a
letter is but what stands around it. Cut from the top of the line's tall letters to the foot of its hanging ones, both are plain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvtool.ops import quads as geometry

NEAR = 10.0  # heights to either side within which words of a line tell how high it is: farther away a bent page stands higher or lower
ABOVE, BELOW = 0.62, 0.45  # of a word's own height: tall letters rise over small ones, hanging ones reach under them, by no more
SIDE, OVER = 0.03, 0.0  # of the height: the margin around it all, beside that of the boxes


def framed(quads: np.ndarray, lines: Sequence[Sequence[int]]) -> np.ndarray:
    """N 4 2 upright boxes of words and the indices in each line -> N 4 2, what to show of each."""
    boxes = geometry.bounds(np.asarray(quads, np.float64).reshape(-1, 4, 2))
    out = boxes.copy()
    for line in lines:
        own = boxes[list(line)]
        high = own[:, 3] - own[:, 1]
        reach = NEAR * np.median(high)
        near = np.maximum(own[:, None, 0] - own[None, :, 2], own[None, :, 0] - own[:, None, 2]) < reach  # W W
        top = np.where(near, own[None, :, 1], np.inf).min(1)
        foot = np.where(near, own[None, :, 3], -np.inf).max(1)
        out[list(line), 1] = np.maximum(top, own[:, 1] - ABOVE * high)
        out[list(line), 3] = np.minimum(foot, own[:, 3] + BELOW * high)
    high = out[:, 3] - out[:, 1]
    out += np.stack([-SIDE * high, -OVER * high, SIDE * high, OVER * high], 1)
    return geometry.of_boxes(out)
