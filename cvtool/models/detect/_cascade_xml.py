"""Reads OpenCV's cascade files: `opencv-cascade-classifier` (Haar and LBP features) and the older `opencv-haar-classifier`.

A file is untrusted input: its size is bounded, document types (and with them entities) are refused, and every index and rectangle is checked
here, so that running a cascade needs no check at all.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvtool.errors import ModelError

MAX_BYTES = 64 << 20  # the largest cascade that OpenCV ships has 3 MB
MAX_WINDOW = 256  # cells; the largest known is 128
SLACK = np.float32(1e-5)  # taken off every stage's threshold, as OpenCV does, against rounding of the last digit


@dataclass(frozen=True)
class Stage:
    """One stage: trees of yes/no questions, whose leaves are summed; a window passes if the sum reaches `threshold`.

    A node's feature is a list of corners (`rows`, `cols`, in cells of the window): for Haar, R rectangles of four corners each, with a weight
    (0 pads the shorter ones); for LBP, the 4 x 4 corners of a 3 x 3 block of cells. `yes` and `no` hold the next node of the same tree if
    positive, else minus the number of a leaf of that tree. Haar says yes below `limits`, LBP where `subsets` holds the pattern.
    """

    threshold: float
    rows: NDArray[np.intp]  # nodes, corners
    cols: NDArray[np.intp]  # nodes, corners
    yes: NDArray[np.intp]  # nodes
    no: NDArray[np.intp]  # nodes
    roots: NDArray[np.intp]  # trees: its first node
    leaves: NDArray[np.float32]  # of all trees
    first_leaf: NDArray[np.intp]  # trees
    depth: int
    weights: NDArray[np.float32] | None = None  # nodes, R
    tilted: NDArray[np.bool_] | None = None  # nodes
    limits: NDArray[np.float32] | None = None  # nodes
    subsets: NDArray[np.bool_] | None = None  # nodes, 256


@dataclass(frozen=True)
class Cascade:
    """A trained cascade for windows of `height` x `width` cells; `kind` is "HAAR" or "LBP"."""

    kind: str
    width: int
    height: int
    stages: tuple[Stage, ...]

    @property
    def tilted(self) -> bool:
        """Whether any feature is turned by 45 degrees."""
        return any(s.tilted is not None and s.tilted.any() for s in self.stages)

    @property
    def features(self) -> int:
        """Number of features asked by all stages together."""
        return sum(len(s.yes) for s in self.stages)


@dataclass
class _Tree:
    """One weak classifier as it stands in a file: nodes (yes, no, feature, limit or subset words) and leaf values."""

    nodes: list[tuple[int, int, Any, Any]]
    leaves: list[float]


def read_cascade(path: Path) -> Cascade:
    """Read a cascade file. Raises ModelError if it is missing, no cascade, of an unknown feature type or inconsistent."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError("a cascade file of more than 64 MB is refused", where=path)
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the cascade: {error.strerror or error}", where=path) from error
    if b"<!DOCTYPE" in text.replace(b"\0", b""):
        raise ModelError("a cascade file with a document type is refused", where=path, hint="entities can blow up; OpenCV never writes one")
    try:
        top = ET.fromstring(text)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ModelError(f"the cascade is not well-formed XML: {error}", where=path) from error
    if len(top) == 0 or top.tag != "opencv_storage":
        raise ModelError("this XML file is not an OpenCV cascade", where=path, hint="expected <opencv_storage> with a cascade classifier inside")
    try:
        return _old_format(top[0]) if top[0].get("type_id") == "opencv-haar-classifier" else _new_format(top[0])
    except ModelError as error:
        raise ModelError(error.what, where=path, hint=error.hint) from error
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise ModelError(f"the cascade is damaged: {error}", where=path) from error


def _new_format(top: ET.Element) -> Cascade:
    kind = _text(top, "featureType").upper()
    if _text(top, "stageType") != "BOOST" or kind not in ("HAAR", "LBP"):
        raise ModelError(f"cascades of {kind} features are not supported", hint="HAAR and LBP are")
    width, height = _window(_text(top, "width"), _text(top, "height"))
    parameters = top.find("featureParams")
    if parameters is None:
        parameters = top.find("featuhreParams")  # the spelling in the file that scikit-image installs
    patterns = int(_text(parameters, "maxCatCount")) if parameters is not None else {"HAAR": 0, "LBP": 256}[kind]
    if patterns != {"HAAR": 0, "LBP": 256}[kind]:
        raise ModelError(f"a {kind} cascade cannot have {patterns} patterns a feature")
    features = [_haar(f) if kind == "HAAR" else _numbers(f, "rect") for f in _child(top, "features")]
    stages = []
    for stage in _child(top, "stages"):
        trees = []
        for weak in _child(stage, "weakClassifiers"):
            words, size = _text(weak, "internalNodes").split(), 4 if kind == "HAAR" else 11
            if not words or len(words) % size:
                raise ModelError(f"a node of a {kind} cascade has {size} numbers")
            nodes = [words[i : i + size] for i in range(0, len(words), size)]
            trees.append(_Tree([(int(n[0]), int(n[1]), features[_index(n[2])], n[3:]) for n in nodes], _numbers(weak, "leafValues")))
        stages.append(_stage(kind, trees, float(_text(stage, "stageThreshold")), (width, height)))
    return _cascade(kind, width, height, stages)


def _old_format(top: ET.Element) -> Cascade:
    """Every node holds its own feature; children are `left_node`, a number, or `left_val`, a leaf."""
    width, height = _window(*_text(top, "size").split())
    stages = []
    for stage in _child(top, "stages"):
        if int(stage.findtext("next", "-1")) != -1:
            raise ModelError("a cascade whose stages form a tree is not supported", hint="OpenCV's newer files of the same name are plain lists")
        trees = []
        for old in _child(stage, "trees"):
            tree = _Tree([], [])
            for node in old:
                ends = []
                for side in ("left", "right"):
                    if (value := node.findtext(f"{side}_val")) is None:
                        ends.append(_index(_text(node, f"{side}_node"), least=1))
                    else:
                        ends.append(-len(tree.leaves))
                        tree.leaves.append(float(value))
                tree.nodes.append((ends[0], ends[1], _haar(_child(node, "feature")), [_text(node, "threshold")]))
            trees.append(tree)
        stages.append(_stage("HAAR", trees, float(_text(stage, "stage_threshold")), (width, height)))
    return _cascade("HAAR", width, height, stages)


def _cascade(kind: str, width: int, height: int, stages: list[Stage]) -> Cascade:
    if not stages:
        raise ModelError("the cascade has no stages")
    return Cascade(kind, width, height, tuple(stages))


def _stage(kind: str, trees: list[_Tree], threshold: float, window: tuple[int, int]) -> Stage:
    """The trees of one stage as arrays, every index and rectangle checked."""
    if not trees:
        raise ModelError("a stage of the cascade has no trees")
    depth = max(_depth(tree) for tree in trees)
    nodes = [node for tree in trees for node in tree.nodes]
    corners = [list(_corners(kind, feature, window)) for _, _, feature, _ in nodes]
    longest = max(map(len, corners))
    places = np.array([c + [(0, 0)] * (longest - len(c)) for c in corners], np.intp)
    shared: dict[str, Any] = {
        "threshold": float(np.float32(threshold) - SLACK),
        "rows": places[..., 0],
        "cols": places[..., 1],
        "yes": np.array([n[0] for n in nodes], np.intp),
        "no": np.array([n[1] for n in nodes], np.intp),
        "roots": np.cumsum([0, *(len(t.nodes) for t in trees[:-1])], dtype=np.intp),
        "leaves": np.array([v for t in trees for v in t.leaves], np.float32),
        "first_leaf": np.cumsum([0, *(len(t.leaves) for t in trees[:-1])], dtype=np.intp),
        "depth": depth,
    }
    if not (np.isfinite(shared["leaves"]).all() and np.isfinite(threshold)):
        raise ModelError("the cascade holds a number that is not finite")
    if kind == "LBP":
        words = np.array([[int(v) for v in n[3]] for n in nodes], np.int64).astype(np.uint32)
        bits = (words[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1
        return Stage(**shared, subsets=bits.astype(bool).reshape(len(nodes), 256))
    weights = np.zeros((len(nodes), longest // 4), np.float32)
    for i, (_, _, (rectangles, _), _) in enumerate(nodes):
        weights[i, : len(rectangles)] = [r[4] for r in rectangles]
    limits = np.array([float(n[3][0]) for n in nodes], np.float32)
    if not (np.isfinite(weights).all() and np.isfinite(limits).all()):
        raise ModelError("the cascade holds a number that is not finite")
    return Stage(**shared, weights=weights, limits=limits, tilted=np.array([n[2][1] for n in nodes]))


def _corners(kind: str, feature: Any, window: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """(row, column) of a feature's corners, in the order in which a sum is + - - +."""
    if kind == "LBP":
        x, y, w, h = (int(v) for v in feature)
        _inside([(y, x), (y + 3 * h, x + 3 * w)], (w, h), window)
        yield from ((y + h * i, x + w * j) for i in range(4) for j in range(4))
        return
    rectangles, tilted = feature
    for r in rectangles:
        x, y, w, h = (int(v) for v in r[:4])
        if tilted:
            found = [(y, x), (y + h, x - h), (y + w, x + w), (y + w + h, x + w - h)]
        else:
            found = [(y, x), (y, x + w), (y + h, x), (y + h, x + w)]
        _inside(found, (w, h), window)
        yield from found


def _inside(corners: list[tuple[int, int]], size: tuple[int, int], window: tuple[int, int]) -> None:
    if min(size) < 1 or any(not (0 <= y <= window[1] and 0 <= x <= window[0]) for y, x in corners):
        raise ModelError(f"a feature leaves its window of {window[0]} x {window[1]}")


def _depth(tree: _Tree) -> int:
    """Questions on the longest way from the root to a leaf; raises where a way leads nowhere, or twice to the same node."""
    seen: set[int] = set()
    level, depth = [0], 0
    while level:
        below = []
        for node in level:
            if node in seen or node >= len(tree.nodes):
                raise ModelError("a tree of the cascade is no tree: a node is missing or reached twice")
            seen.add(node)
            for end in tree.nodes[node][:2]:
                if end > 0:
                    below.append(end)
                elif -end >= len(tree.leaves):
                    raise ModelError("a tree of the cascade points at a leaf that is not there")
        level, depth = below, depth + 1
    return depth


def _haar(feature: ET.Element) -> tuple[list[list[float]], bool]:
    """A Haar feature's two or three (at most four) weighted rectangles and whether they are tilted."""
    rectangles = [[float(v) for v in (r.text or "").split()] for r in _child(feature, "rects")]
    if not 1 <= len(rectangles) <= 4 or any(len(r) != 5 for r in rectangles):
        raise ModelError("a Haar feature is two to four rectangles of five numbers")
    return rectangles, int(feature.findtext("tilted", "0")) != 0


def _window(width: str, height: str) -> tuple[int, int]:
    size = int(width), int(height)
    if not all(3 <= side <= MAX_WINDOW for side in size):
        raise ModelError(f"a window of {size[0]} x {size[1]} is out of range")
    return size


def _index(text: str, *, least: int = 0) -> int:
    if (value := int(text)) < least:
        raise ValueError(f"index {value}")
    return value


def _child(element: ET.Element, tag: str) -> ET.Element:
    if (found := element.find(tag)) is None:
        raise ModelError(f"the cascade lacks <{tag}> inside <{element.tag}>")
    return found


def _text(element: ET.Element, tag: str) -> str:
    return (_child(element, tag).text or "").strip()


def _numbers(element: ET.Element, tag: str) -> list[float]:
    return [float(v) for v in _text(element, tag).split()]
