"""Reading text in the wild: proposals, a forest, box regression, a word network, and merging of what agrees (Jaderberg 2014, arXiv:1412.1842).

Proposals are edge boxes and the windows of a boosted detector on aggregate channel features, together of high recall. A random forest on the same
features of each proposal keeps what may be a word. A network moves each box that is left, from a crop of twice its size (rounds of it, near-equal
boxes becoming one between them). A word network reads it. Boxes that overlap and read the same are merged, then of any that overlap the surest
stays, and what is not sure enough goes.

    cvtool train -m jaderberg.boxes --data scenes/ -o runs/                # the regression network, by gradient: runs/0000
    cvtool train -m dict90k --data words/ -o runs/                         # the word network, or any other recogniser: runs/0001
    cvtool train -m jaderberg --data scenes/ --set regressor=runs/0000 --set recognizer=runs/0001 -o runs/   # detector and forest, in one go

The last one tells each stage's recall and precision, of pictures to validate on where there are any. Its checkpoint holds all parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cvtool import registry, weights
from cvtool.batch import Batch, Prepare
from cvtool.categories import numbered
from cvtool.errors import InputError, UsageError
from cvtool.models.classify.random_forest import Forest
from cvtool.models.ocr._box_regressor import BoxRegressor, bounds
from cvtool.ops import acf
from cvtool.ops.adaboost import Stumps, adaboost
from cvtool.ops.boxes import iou
from cvtool.ops.edge_boxes import edge_boxes
from cvtool.ops.nms import nms
from cvtool.ops.quads import of_boxes
from cvtool.results import Quads, Text

VARIANTS = {
    "base": {},
    "boxes": {"part": "boxes"},
    "tiny": {"window": (12, 24), "stumps": 24, "trees": 5, "count": 80, "widths": (4, 8, 8, 8), "hidden": 16},
    "boxes-tiny": {"part": "boxes", "widths": (4, 8, 8, 8), "hidden": 16, "jitter": 4},
}
WEIGHTS: dict[str, dict] = {}
RECIPE: dict[str, Any] = {
    "variants": {
        "boxes": {"step": "supervised", "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "batch_size": 8, "epochs": 40, "schedule": "step"},
        "boxes-tiny": {"step": "supervised", "optimizer": "adamw", "lr": 3e-3, "batch_size": 4, "epochs": 40, "schedule": "one-cycle"},
    }
}
TRUE = 0.5  # IoU with a word from which a box is right
FALSE = 0.3  # below it with all words a box teaches the forest what is none
STAGES = ("proposals", "forest", "boxes", "merged")


class _Seen(NamedTuple):
    """A picture to learn from: H W uint8, and the upright boxes of its words and of what is spared."""

    grey: np.ndarray
    true: np.ndarray
    spared: np.ndarray


class Jaderberg(nn.Module):
    """window: (h, w) pixels of the boosted detector and of the forest's features. count: proposals of each kind.

    forest_least: share of the trees that must take a proposal for a word. rounds: of regression.
    """

    result = Quads
    needs = ("quads",)
    learned = ("stump_feature", "stump_values", *(f"forest_{name}" for name in Forest.names))

    def __init__(self, regressor: BoxRegressor, recognizer: nn.Module | None, *, window: tuple[int, int], stumps: int, trees: int, depth: int,
                 count: int, forest_least: float, rounds: int) -> None:  # fmt: skip
        super().__init__()
        self.regressor, self.recognizer = regressor.requires_grad_(False), recognizer
        self.window, self.rounds_of_boosting, self.trees, self.depth = window, stumps, trees, depth
        self.count, self.forest_least, self.rounds = count, forest_least, rounds
        self.prepare = Prepare(mean=(0.0,) * 3, std=(1 / 255,) * 3)  # levels as they are
        for name in self.learned:
            self.register_buffer(name, torch.zeros(0))

    @property
    def rebuilt(self) -> dict[str, Any]:
        """Arguments that a checkpoint must hold beside those that were asked for: the forms of its parts, whose weights it holds itself."""
        parts = {"regressor_form": self.regressor, "recognizer_form": self.recognizer}
        return {key: json.dumps(form) for key, part in parts.items() if (form := getattr(part, "form", None))}

    def resize_for(self, state: Mapping[str, Tensor]) -> None:
        """Make room for the arrays of a checkpoint, whose lengths only fitting knows."""
        for name in self.learned:
            if name in state:
                setattr(self, name, torch.zeros(state[name].shape, dtype=state[name].dtype))
        if resize := getattr(self.recognizer, "resize_for", None):
            resize({key.removeprefix("recognizer."): value for key, value in state.items() if key.startswith("recognizer.")})

    # ---- fitting ------------------------------------------------------------------------------------------------------------------------------

    def fit(self, samples: Iterable[Any], *, seed: int = 0) -> None:
        """Boost the detector on the words and on boxes without one, then grow the forest on what both kinds of proposals find.

        samples: `Sample`s with regions of text. Raises InputError where there is no word, or nothing but words.
        """
        self.eval()
        kept = [_Seen(grey_of(sample.pixels), *truth_of(sample.target)) for sample in samples]
        rng = np.random.default_rng(seed)

        def anywhere(seen: _Seen) -> np.ndarray:
            boxes = edge_boxes(seen.grey, count=self.count)[0]
            return np.concatenate([jittered(rng, seen.true, 4), boxes[rng.permutation(len(boxes))[:60]], random_boxes(rng, seen.grey.shape, 20)])

        x, y = self._examples(kept, anywhere)
        found = adaboost(x.astype(np.float64), np.where(y, 1, -1), rounds=self.rounds_of_boosting)
        self.stump_feature = torch.from_numpy(found.feature)
        self.stump_values = torch.from_numpy(np.stack([found.threshold, found.polarity, found.vote, found.error]))
        x, y = self._examples(kept, lambda seen: np.concatenate([jittered(rng, seen.true, 6), self.proposals(seen.grey)]))
        grown = Forest.grow(x, y.astype(np.int64), classes=2, trees=self.trees, depth=self.depth, seed=seed)
        for name, value in grown.items():
            setattr(self, f"forest_{name}", value)

    def _examples(self, kept: list[_Seen], boxes: Callable[[_Seen], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """N D features and N bool of those of each picture's boxes that are clearly a word or clearly none, and not in what is spared."""
        rows, labels = [np.zeros((0, acf.CHANNELS * (self.window[0] // acf.CELL) * (self.window[1] // acf.CELL)), np.float32)], [np.zeros(0, bool)]
        for seen in kept:
            some = boxes(seen)
            best = overlaps(some, seen.true).max(1, initial=0)
            clear = ((best >= TRUE) | (best < FALSE)) & (overlaps(some, seen.spared).max(1, initial=0) < FALSE)
            rows.append(acf.features(seen.grey, some[clear], self.window))
            labels.append(best[clear] >= TRUE)
        x, y = np.concatenate(rows), np.concatenate(labels)
        if not y.any() or y.all():
            what = "no word" if not y.any() else "nothing but words"
            raise InputError(f"the pictures to learn from have {what}", hint="the forest learns to tell words from what lies between them")
        return x, y

    @property
    def is_fitted(self) -> bool:
        """Before that, any edge box may be a word."""
        return bool(self.stump_feature.numel())

    # ---- the stages ---------------------------------------------------------------------------------------------------------------------------

    def proposals(self, grey: np.ndarray) -> np.ndarray:
        """H W uint8 -> N 4: edge boxes and the detector's windows, near-equal ones once."""
        found = [edge_boxes(grey, count=self.count)]
        if self.is_fitted:
            threshold, polarity, vote, error = self.stump_values.cpu().numpy()
            stumps = Stumps(self.stump_feature.cpu().numpy(), threshold, polarity, vote, error)
            found.append(acf.detect(grey, stumps, self.window, count=self.count))
        boxes = np.concatenate([some for some, _ in found])
        ranks = np.concatenate([-np.arange(len(values), dtype=np.float32) for _, values in found])
        return boxes[nms(torch.from_numpy(boxes), torch.from_numpy(ranks), 0.8).numpy()]

    def filtered(self, grey: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those that the forest may take for words, and its shares."""
        if not self.is_fitted:
            return boxes, np.full(len(boxes), 0.5)
        arrays = {name: getattr(self, f"forest_{name}").cpu() for name in Forest.names}
        shares = Forest.shares(arrays, torch.from_numpy(acf.features(grey, boxes, self.window)))[:, 1].numpy()
        kept = shares >= self.forest_least
        return boxes[kept], shares[kept]

    def moved(self, image: Tensor, boxes: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """3 H W levels: each box regressed, `rounds` times; of near-equal ones the surest stays."""
        now, sure = torch.from_numpy(boxes).to(image), torch.from_numpy(shares).to(image)
        for _ in range(self.rounds):
            if len(now):
                now = self.regressor.regressed(image[None], now)
                kept = nms(now, sure, 0.7)
                now, sure = now[kept], sure[kept]
        height, width = image.shape[1:]
        now = now.clamp(min=0).minimum(now.new_tensor([width, height, width, height]))
        large = (now[:, 2:] - now[:, :2]).amin(1) >= 1
        return now[large].double().cpu().numpy(), sure[large].double().cpu().numpy()

    def read(self, image: Tensor, boxes: np.ndarray, **wished: Any) -> list[Text]:
        """What the word network says of each box; nothing where there is no such network."""
        if self.recognizer is None or not len(boxes):
            return []
        pixels = image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int)
        shown = [np.ascontiguousarray(pixels[y0:y1, x0:x1]) for x0, y0, x1, y1 in corners]
        found: list[Text] = []
        for start in range(0, len(shown), 64):
            found += self.recognizer.predict(self.recognizer.prepare(shown[start : start + 64]).to(image.device), **wished)  # type: ignore
        return found

    @torch.no_grad()
    def stages(self, image: Tensor, conf: float, **wished: Any) -> dict[str, tuple[np.ndarray, np.ndarray, Sequence[str | None]]]:
        """3 H W levels -> what is left after each of STAGES: boxes N 4, scores N and texts."""
        grey = grey_of(image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy())
        first = self.proposals(grey)
        boxes, shares = self.filtered(grey, first)
        out: dict[str, tuple[np.ndarray, np.ndarray, Sequence[str | None]]] = {"proposals": (first, np.ones(len(first)), [None] * len(first))}
        out["forest"] = boxes, shares, [None] * len(boxes)
        boxes, shares = self.moved(image, boxes, shares)
        out["boxes"] = boxes, shares, [None] * len(boxes)
        read = self.read(image, boxes, **wished)
        texts = [found.text for found in read] if read else [None] * len(boxes)
        scores = np.sqrt(shares * [float(found.score or 0) for found in read]) if read else shares
        out["merged"] = merged(boxes, scores, texts, conf)
        return out

    def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None, dictionary: Sequence[str] | None = None) -> list[Quads]:
        """Words, surest first, each with its text where there is a word network: those of a score above `conf` (0.3).

        A score is the forest's share, with a word network the geometric mean of it and of the text's probability. dictionary: words that may be read.
        """
        if dictionary is not None and self.recognizer is None:
            raise UsageError("a dictionary has no effect: this model has no word network", hint="train with --set recognizer=REF")
        wished = {} if dictionary is None else {"dictionary": dictionary}
        results = []
        for image, place in zip(batch.images, batch.places, strict=True):
            inner = image[:, : place.inner_height, : place.inner_width]
            boxes, scores, texts = self.stages(inner, 0.3 if conf is None else conf, **wished)["merged"]
            boxes, scores, texts = boxes[:max_det], scores[:max_det], texts[:max_det]
            corners = place.points_back(torch.from_numpy(of_boxes(boxes).astype(np.float32)).to(batch.images.device))
            named = None if self.recognizer is None else tuple(texts)
            results.append(Quads(corners, torch.from_numpy(scores.astype(np.float32)).to(batch.images.device), named))
        return results

    def figures(self, samples: Iterable[Any]) -> dict[str, dict[str, float]]:
        """Each stage's recall (the share of words with a box of an IoU of TRUE or more) and precision (the share of boxes with such a word), of
        pictures with their truth. Boxes in what is spared do not count. With a word network also the share of words that are read right."""
        sums = {stage: np.zeros(4) for stage in STAGES}
        words = right = 0
        for sample in samples:
            true, spared = truth_of(sample.target)
            image = self.prepare([np.ascontiguousarray(sample.pixels)]).images[0].to(self.stump_values.device)
            found = self.stages(image, 0.3)
            for stage, (boxes, _, _) in found.items():
                counted = overlaps(boxes, spared).max(1, initial=0) < FALSE
                meets = overlaps(boxes[counted], true) >= TRUE
                sums[stage] += [meets.any(0).sum(), len(true), meets.any(1).sum(), counted.sum()]
            boxes, _, texts = found["merged"]
            wanted = [text for text, box in zip(sample.target.texts or (), spared_mask(sample.target), strict=True) if not box]
            meets = overlaps(boxes, true) >= TRUE
            words += sum(bool(text) for text in wanted)
            right += sum(bool(text) and any(same(texts[i], text) for i in np.flatnonzero(meets[:, k]).tolist()) for k, text in enumerate(wanted))
        out = {stage: {"recall": float(a / max(1, b)), "precision": float(c / max(1, d))} for stage, (a, b, c, d) in sums.items()}
        if self.recognizer is not None and words:
            out["words"] = {"read": right / words}
        return out


def merged(
    boxes: np.ndarray, scores: np.ndarray, texts: Sequence[str | None], conf: float, *, near: float = 0.3
) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """Boxes that overlap by more than `near` and say the same become their mean, by score, and are as sure as all of them together,
    1 - prod(1 - s); then of boxes that overlap the surest stays. Best first, those above `conf`."""
    order = list(np.argsort(-scores, kind="stable"))
    table = overlaps(boxes, boxes)
    found: list[tuple[float, np.ndarray, str | None]] = []
    while order:
        first = order[0]
        group = [i for i in order if i == first or (table[first, i] > near and texts[first] is not None and same(texts[i], texts[first]))]
        order = [i for i in order if i not in group]
        share = scores[group] / max(1e-9, scores[group].sum())
        found.append((1 - float(np.prod(1 - scores[group])), share @ boxes[group] if share.any() else boxes[first], texts[first]))
    found.sort(key=lambda entry: -entry[0])
    kept: list[tuple[float, np.ndarray, str | None]] = []
    for entry in found:
        if entry[0] > conf and not (kept and (overlaps(entry[1][None], np.array([other[1] for other in kept])) > near).any()):
            kept.append(entry)
    return np.array([b for _, b, _ in kept]).reshape(-1, 4), np.array([s for s, _, _ in kept]), [t for _, _, t in kept]


def same(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.lower() == other.lower()


def overlaps(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """N 4 and M 4 -> N M."""
    return iou(torch.from_numpy(ones.reshape(-1, 4)), torch.from_numpy(others.reshape(-1, 4))).numpy()


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """H W 3 uint8 -> H W uint8 (BT.601)."""
    return (pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).round().astype(np.uint8)


def spared_mask(target: Quads) -> list[bool]:
    return [False] * len(target) if target.spared is None else [bool(v) for v in target.spared]


def truth_of(target: Quads) -> tuple[np.ndarray, np.ndarray]:
    """The upright boxes of the words and of what is spared, N 4 and M 4."""
    boxes, spared = bounds(target.quads.double().cpu().reshape(-1, 4, 2)).numpy(), np.array(spared_mask(target), bool)
    return boxes[~spared], boxes[spared]


def jittered(rng: np.random.Generator, boxes: np.ndarray, times: int) -> np.ndarray:
    """Each box, moved by up to 15 % of its sides and resized by up to 20 %, so many times."""
    some = np.repeat(boxes, times, 0)
    size = some[:, 2:] - some[:, :2]
    middle = (some[:, :2] + some[:, 2:]) / 2 + rng.uniform(-0.15, 0.15, size.shape) * size
    half = size / 2 * rng.uniform(0.8, 1.2, size.shape)
    return np.concatenate([middle - half, middle + half], 1)


def random_boxes(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> np.ndarray:
    """N 4 anywhere in a picture of (H, W), from 8 pixels high to a half of it."""
    high = np.minimum(shape[0], np.exp(rng.uniform(np.log(8), np.log(max(9, shape[0] / 2)), count)))
    wide = np.minimum(shape[1], high * rng.uniform(1, 5, count))
    x, y = rng.uniform(0, shape[1] - wide), rng.uniform(0, shape[0] - high)
    return np.stack([x, y, x + wide, y + high], 1)


def part_of(name: str, form: str) -> Any:
    """A part, by its reference with its weights, or (from a checkpoint) in its form alone. Raises ModelError."""
    if form:
        told = json.loads(form)
        return weights.build(registry.parse(told["reference"]), categories=numbered(told["classes"]), **told["arguments"])
    model, info = weights.load(name)
    model.form = {"reference": info.reference.partition("@")[0], "arguments": dict(info.arguments), "classes": len(info.categories)}
    return model


def build(
    *, classes: int = 1, part: str = "all", regressor: str = "", recognizer: str = "", regressor_form: str = "", recognizer_form: str = "",
    window: tuple[int, int] = (24, 64), stumps: int = 128, trees: int = 10, depth: int = 64, count: int = 1000, forest_least: float = 0.3,
    rounds: int = 2, widths: tuple[int, ...] = (64, 128, 256, 512), hidden: int = 4096, jitter: int = 8,
) -> Jaderberg | BoxRegressor:  # fmt: skip
    """classes: has no meaning here. part: all, or boxes: the regression network alone. regressor, recognizer: references of trained parts; without
    them boxes stay as proposed, and nothing is read. stumps: rounds of boosting. trees, depth: of the forest. Raises UsageError, ModelError."""
    if part not in ("all", "boxes"):
        raise UsageError(f"part is all or boxes, not {part}")
    fresh = BoxRegressor(tuple(widths), hidden, jitter)
    if part == "boxes":
        return fresh
    mover = part_of(regressor, regressor_form) if regressor or regressor_form else fresh
    if not isinstance(mover, BoxRegressor):
        raise UsageError(f"regressor={regressor} is no regression network", hint="cvtool train -m jaderberg.boxes makes one")
    reader = part_of(recognizer, recognizer_form) if recognizer or recognizer_form else None
    if reader is not None and getattr(reader, "result", None) is not Text:
        raise UsageError(f"recognizer={recognizer} reads no words", hint="such as dict90k or crnn")
    rows, columns = window
    return Jaderberg(mover, reader, window=(rows, columns), stumps=stumps, trees=trees, depth=depth, count=count, forest_least=forest_least,
                     rounds=rounds)  # fmt: skip
