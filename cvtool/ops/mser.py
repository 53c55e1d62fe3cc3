"""MSER: regions whose outline hardly moves while a threshold does: the letters of most print (Matas 2002, doi:10.1016/j.imavis.2004.02.006).

A region of dark is a 4-connected part of {I <= t} for some grey level t, one of light a part of {I >= t}. As t moves on, regions grow and
merge: a tree. A region R that is there at t grows by (|R at delta levels on| - |R|) / |R|, its `growth`; it is maximally stable where that is
least along its branch. Of nested regions that differ too little in size the one that lasts over most levels is kept, for in smooth print many
do not grow at all: the stems of an m while its arches are still too faint, the m, the m and what it touches at last.

The tree is built by labelling every threshold in turn. Only what is new at a threshold is looked at, so a sweep costs little more than the
labellings, and it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

Polarity = Literal["both", "dark", "bright"]
HALF = 0.5  # a child that has less of its parent's pixels is another thing, not a smaller outline of the same one


@dataclass(frozen=True)
class Regions:
    """N regions of a picture of `shape`, those of dark first, each polarity by level.

    boxes: N 4 int64 xyxy, the last row and column not included. areas: N int64, pixels. levels: N, the grey level at which the region is that large.
    dark: N bool. growth: N float64, see above. seeds: N int64, the flat index of a pixel of each.
    """

    image: np.ndarray  # H W uint8
    boxes: np.ndarray
    areas: np.ndarray
    levels: np.ndarray
    dark: np.ndarray
    growth: np.ndarray
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: np.ndarray) -> Regions:
        """Those selected by a mask or an index array."""
        fields = ("boxes", "areas", "levels", "dark", "growth", "seeds")
        return Regions(self.image, *(getattr(self, name)[keep] for name in fields))

    def mask(self, index: int) -> np.ndarray:
        """h w bool over the region's box: its pixels."""
        from scipy import ndimage

        x0, y0, x1, y1 = self.boxes[index]
        part = self.image[y0:y1, x0:x1]
        labels, _ = ndimage.label(part <= self.levels[index] if self.dark[index] else part >= self.levels[index])
        row, column = divmod(int(self.seeds[index]), self.image.shape[1])
        return labels == labels[row - y0, column - x0]

    def masks(self) -> Iterator[np.ndarray]:
        """`mask` of each."""
        return (self.mask(i) for i in range(len(self)))


def mser(
    image: np.ndarray,
    *,
    delta: int = 5,
    min_area: int = 30,
    max_area: float = 0.25,
    max_growth: float = 0.25,
    min_diversity: float = 0.9,
    polarity: Polarity = "both",
    step: int = 1,
) -> Regions:
    """image: H W uint8. delta: grey levels, over which growth is measured. min_area: pixels. max_area: share of the picture.

    max_growth: more is unstable. min_diversity: of two nested regions the smaller must lack this share of the larger: 0.9 gives letters without
    their strokes, 0.2 is usual where anything is sought. step: thresholds are so many levels apart; 1 is exact, 4 takes a third of the time.
    Raises ValueError for settings out of range.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"mser reads H W uint8, not {image.dtype} of {image.shape}")
    if min(delta, min_area, step) < 1 or not 0 < max_area <= 1 or not 0 <= min_diversity < 1:
        raise ValueError("delta, min_area and step are 1 or more, max_area in (0, 1], min_diversity in [0, 1)")
    found = [_one_polarity(image, dark, delta, min_area, max_area, max_growth, min_diversity, step)
             for dark in (True, False) if polarity in ("both", "dark" if dark else "bright")]  # fmt: skip
    return Regions(image, *(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _one_polarity(image: np.ndarray, dark: bool, delta: int, min_area: int, max_area: float, max_growth: float, min_diversity: float,
                  step: int) -> tuple[np.ndarray, ...]:  # fmt: skip
    """The fields of Regions after `image`."""
    height = 255 - image if dark else image  # now regions are high
    tree = _Tree(height // step * step if step > 1 else height, min_area)
    growth = tree.growth(delta)
    fits = (tree.areas <= max_area * image.size) & (growth <= max_growth)
    kept = tree.distinct(np.flatnonzero(fits & tree.stable(growth)), tree.lasting(max_growth), min_diversity)
    levels = tree.levels[kept]
    return tree.boxes[kept], tree.areas[kept], 255 - levels if dark else levels, np.full(len(kept), dark), growth[kept], tree.seeds[kept]


class _Tree:
    """The tree of the high regions of at least `min_area` pixels. Nodes stand in the order of falling levels, so parents come later.

    levels: the highest threshold at which the region is there. parents: -1 at the root. areas, seeds, boxes: as in Regions.
    """

    def __init__(self, height: np.ndarray, min_area: int) -> None:
        from scipy import ndimage

        flat, columns = height.ravel(), height.shape[1]
        order = np.argsort(flat, kind="stable")
        values, starts = np.unique(flat[order], return_index=True)
        ends = [*starts[1:], flat.size]
        levels, parents, areas, seeds, boxes = [], [np.zeros(0, np.int64)], [], [], []
        count = 0
        labels = np.zeros(height.shape, np.int32)
        now = np.zeros(0, np.int64), np.zeros((0, 6), np.int64)  # node (-1: too small for one) and (area, seed, -x0, -y0, x1, y1) of each part
        for value, start, end in zip(values[::-1], starts[::-1], ends[::-1], strict=True):
            new = order[start:end]
            total = ndimage.label(height >= value, output=labels)
            at = labels.ravel()
            home, came = at[now[1][:, 1]] - 1, at[new] - 1  # what the parts of before, and the new pixels, belong to now
            y, x = np.divmod(new, columns)
            facts = np.zeros((total, 6), np.int64)
            facts[:, 0] = np.bincount(came, minlength=total) + np.bincount(home, weights=now[1][:, 0], minlength=total).astype(np.int64)
            facts[came, 1] = new
            facts[home, 1] = now[1][:, 1]
            facts[:, 2:] = -flat.size
            for column, fresh in enumerate((-x, -y, x + 1, y + 1), 2):
                np.maximum.at(facts[:, column], home, now[1][:, column])
                np.maximum.at(facts[:, column], came, fresh)
            node = np.full(total, -1)
            node[home] = now[0]
            changed = np.bincount(home, minlength=total) != 1
            changed[came] = True
            made = np.flatnonzero(changed & (facts[:, 0] >= min_area))
            node[changed] = -1
            node[made] = count + np.arange(len(made))
            grown = (now[0] >= 0) & changed[home]
            every = np.concatenate([parents[-1], np.full(len(made), -1)])
            every[now[0][grown]] = node[home[grown]]
            parents = [every]
            levels.append(np.full(len(made), int(value)))
            areas.append(facts[made, 0])
            seeds.append(facts[made, 1])
            boxes.append(facts[made, 2:] * np.array([-1, -1, 1, 1]))
            count += len(made)
            now = node, facts
        self.parents = parents[0]
        self.levels, self.areas, self.seeds = np.concatenate(levels), np.concatenate(areas), np.concatenate(seeds)
        self.boxes = np.concatenate(boxes)

    def growth(self, delta: int) -> np.ndarray:
        """N: by which share each region has grown `delta` levels on; beyond the last level everything is one region."""
        floor = self.levels - delta
        return self.areas[self._up(lambda above: (self.levels[above] >= floor) | (floor < 0))] / self.areas - 1

    def lasting(self, growth: float) -> np.ndarray:
        """N: over how many levels each region is there and has not grown by more than `growth`."""
        most = self.areas * (1 + growth)
        last = self.parents[self._up(lambda above: self.areas[above] <= most)]
        return self.levels - np.where(last >= 0, self.levels[last], -1)

    def _up(self, stays: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """N: of each node the farthest above it to which all on the way satisfy `stays`, which is asked about one node for each."""
        above = np.arange(len(self.levels))
        while True:
            parents = self.parents[above]
            onward = (parents >= 0) & stays(parents)
            if not onward.any():
                return above
            above = np.where(onward, parents, above)

    def stable(self, growth: np.ndarray) -> np.ndarray:
        """N bool: no region of its branch, next to it and of about its size, grows less."""
        nodes = np.flatnonzero(self.parents >= 0)
        parents = self.parents[nodes]
        near = self.areas[nodes] >= HALF * self.areas[parents]
        nodes, parents = nodes[near], parents[near]
        out = np.ones(len(growth), bool)
        out[nodes[growth[nodes] > growth[parents]]] = False
        out[parents[growth[parents] > growth[nodes]]] = False
        return out

    def distinct(self, nodes: np.ndarray, lasting: np.ndarray, diversity: float) -> np.ndarray:
        """Of candidate nodes those that are left when, what lasts longest first (of equals the larger), each puts out the others, within it or
        around it, that differ from it by less than `diversity` of the larger."""
        candidate = np.zeros(len(lasting), bool)
        candidate[nodes] = True
        rivals: dict[int, list[int]] = {int(node): [] for node in nodes}
        above, below, least = self.parents[nodes], nodes, (1 - diversity) * self.areas
        while len(below):
            near = (above >= 0) & (self.areas[below] > least[above])
            above, below = above[near], below[near]
            for one, other in zip(below[candidate[above]].tolist(), above[candidate[above]].tolist(), strict=True):
                rivals[one].append(other)
                rivals[other].append(one)
            above = self.parents[above]
        out: list[int] = []
        beaten: set[int] = set()
        for node in sorted(rivals, key=lambda n: (-lasting[n], -self.areas[n])):
            if node not in beaten:
                out.append(node)
                beaten.update(rivals[node])
        return np.array(sorted(out), np.int64)
