"""The data of a training run: what a model needs of the truth, and the loaders for training and validation."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cvtool.categories import Categories
from cvtool.charsets import outside
from cvtool.data import augment, balance, lengths, preprocess
from cvtool.data.dataset import TRUTHS, Dataset, decoded_bytes, with_background
from cvtool.data.loader import Loader
from cvtool.data.pairing import plural
from cvtool.errors import InputError, UsageError
from cvtool.records import Record
from cvtool.train import sanity
from cvtool.train.balanced import Balanced

AUTO_CACHE = 1 << 30  # bytes
WITHOUT_CLASSES = ("pictures", "text", "quads")  # kinds of truth that need no table of categories


@dataclass
class Sets:
    """Records for training and for validation, and the categories they are labelled with. points: keypoints an object, 0 for none."""

    train: list[Record]
    val: list[Record]
    categories: Categories
    points: int = 0
    merged: bool = False  # all categories count as one

    def loaders(
        self,
        model: Any,
        recipe: Mapping[str, Any],
        *,
        device: torch.device,
        workers: int,
        notes: list[str] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> tuple[Loader, Loader]:
        """For training and for validation; the cache's budget goes to training first. notes: gets what the user should know, a line each.

        part: (I, N), what the I-th of N processes gets: of each training batch, and of the batches to validate on.
        The model's `prepare` becomes that of the recipe's `preprocess`, its criterion that of `balance=loss`.
        """
        left_out = self.readable_texts(model)
        budget = cache_bytes(recipe["cache"], self.train + self.val)
        common: dict[str, Any] = {"needs": needs_of(model), "merged": self.merged, "keypoints": self.points}
        common["weighted"] = "weights" in getattr(getattr(model, "criterion", None), "beside", ())
        trained = Dataset(self.train, self.categories, cache_bytes=budget, **common)
        told = trained.check()
        if recipe["overfit"]:
            kind = kind_of(model)
            taught = [record for record in self.train if kind == "pictures" or TRUTHS[kind][0](record)]
            self.train = self.val = sanity.chosen(taught, recipe["overfit"], recipe["seed"])
            trained, told = Dataset(self.train, self.categories, cache_bytes=budget, **common), []
        if recipe["preprocess"]:
            model.prepare = preprocess.fit(recipe["preprocess"], model.prepare, lambda: _readable(trained, strict=recipe["strict"]))
        points = next((c["keypoints"] for c in self.categories if c and c.get("keypoints")), None)
        augmentation = augment.parse(recipe["augment"], swap=augment.swapped(points) if points else None, prepare=model.prepare)
        augmentation.check(kind_of(model))
        validated = Dataset(self.val, self.categories, cache_bytes=max(0, budget - decoded_bytes(self.train)), **common)
        validated.check_categories()
        if recipe["balance"] == "loss":
            _weigh(model, trained, recipe["loss"])
        if notes is not None:
            held = "decoded pictures stay in memory" if budget else "pictures are decoded each time (--set cache=2GB keeps them in memory)"
            notes += [f"{self.described(model, device)}; {held}", *left_out, *told]
        norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        more: dict[str, Any] = {
            "batch_size": recipe["batch_size"], "seed": recipe["seed"], "workers": workers, "ahead": 2 if device.type == "cuda" else 0,
            "channels_last": recipe["channels_last"], "pin": device.type == "cuda", "part": part,
            "holes": getattr(model, "holes", None),
        }  # fmt: skip
        return (
            Loader(
                trained, augmentation.prepare or model.prepare, augment=augmentation.sample, batch_augment=augmentation.batch,
                repeats=augmentation.repeats, single=not norms, shuffle=not recipe["overfit"],
                sampler=balance.sampler(recipe["balance"], trained, recipe["seed"]) or lengths.sampler(trained, model.prepare, recipe),
                unreadable="raise" if recipe["strict"] else "replace", **more,
            ),
            Loader(validated, model.prepare, shuffle=False, deal="batches", unreadable="raise" if recipe["strict"] else "drop", **more),
        )  # fmt: skip

    def readable_texts(self, model: Any) -> list[str]:
        """Leave out of the training what the model's character set or length cannot say, in the data to validate on it stays: it will be read wrong.

        Returns what was left out, a line each. Raises InputError where nothing is left.
        """
        known, longest = getattr(model, "charset", None), getattr(model, "max_length", None)
        if known is None or kind_of(model) != "text":
            return []
        texts = [unicodedata.normalize("NFC", record["text"]) if isinstance(record.get("text"), str) else "" for record in self.train]
        unknown = outside(texts, frozenset(known))
        strange = [bool(unknown) and any(c in unknown for c in text) for text in texts]
        long = [longest is not None and len(text) > longest and not odd for text, odd in zip(texts, strange, strict=True)]
        if not any(strange) and not any(long):
            return []
        self.train = [record for record, odd, over in zip(self.train, strange, long, strict=True) if not odd and not over]
        lines = []
        if any(strange):
            named = ", ".join(f"'{c}' {times:,}" for c, times in unknown.most_common(8)) + (", ..." if len(unknown) > 8 else "")
            what = f"warning: {plural(sum(strange), 'text')} with characters that are not in the model's set left out of the training"
            lines.append(f"{what}: {named}; --charset names another")
        if any(long):
            what = f"of more than {longest} characters, the most that the model reads, left out of the training"
            lines.append(f"warning: {plural(sum(long), 'text')} {what}")
        if not self.train:
            raise InputError(lines[0].removeprefix("warning: "), hint="nothing is left to learn from")
        return lines

    def add_background(self, model: Any) -> bool:
        """Give a model of classes of pixels one for what lies outside of all objects, where the data need it; whether they did."""
        before = self.categories
        if "semantic" in needs_of(model):
            self.categories = with_background(before, self.train)
        return self.categories is not before

    def described(self, model: Any, device: torch.device) -> str:
        """How much of what, in words."""
        pictures = f"{len(self.train)} picture{'s' * (len(self.train) > 1)}" + (f", {len(self.val)} to validate" if self.val else "")
        told = f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters on {device}: {pictures}"
        if kind_of(model) in WITHOUT_CLASSES and "labels" not in needs_of(model):
            return told
        named = sum(category is not None for category in self.categories)
        return f"{told}, {named} class{'es' * (named > 1)}" + " and the background" * (named < len(self.categories))


def _readable(dataset: Dataset, *, strict: bool) -> Iterator[Any]:
    """The pixels of every picture. Raises InputError for one that cannot be read if `strict`, else leaves it out."""
    for index in range(len(dataset)):
        try:
            yield dataset.pixels(index)
        except InputError:
            if strict:
                raise


def _weigh(model: Any, dataset: Dataset, loss: str) -> None:
    """Let each class weigh in the model's cross-entropy. Raises UsageError for a model that has another loss, or is given one."""
    if loss:
        raise UsageError(f"balance=loss weighs the cross-entropy, and --loss {loss} is another", hint="leave one out; focal loss has `alpha`")
    weights = balance.class_weights(dataset)
    if not (kind := getattr(model, "criterion_kind", "")):
        raise UsageError("balance=loss has no effect on a model with losses of its own", hint="balance=classes draws rare ones more often")
    model.criterion = Balanced(kind, weights)


def needs_of(model: Any) -> tuple[str, ...]:
    """What a model's losses read of the truth: its `needs`, else what its result type says."""
    if needs := getattr(model, "needs", None):
        return tuple(needs)
    kinds = {"Labels": ("labels",), "SemanticMap": ("semantic",), "Instances": ("boxes", "masks"), "Text": ("text",), "Quads": ("quads",)}
    return kinds.get(getattr(getattr(model, "result", None), "__name__", ""), ("boxes",))


def kind_of(model: Any) -> str:
    """What it learns from: "pictures" (nothing but them), "boxes", "semantic" (classes of pixels), "labels" or "text" (of pictures) or "quads"."""
    return next((kind for kind in ("pictures", "semantic", "labels", "text", "quads") if kind in needs_of(model)), "boxes")


def measured_by(model: Any) -> str:
    """What its validation measures: its `measured`, such as "vectors" (how near embeddings of a class are), else what it learns from."""
    return getattr(model, "measured", None) or kind_of(model)


def cache_bytes(text: str, records: Sequence[Record]) -> int:
    """`auto` (all of it, if that is at most 1 GiB), `none`, or a size such as 500MB. Raises UsageError."""
    word = text.strip().lower()
    if word in ("none", "0"):
        return 0
    if word == "auto":
        need = decoded_bytes(records)
        return need if need <= AUTO_CACHE else 0
    number = word.rstrip("ibkmgt")
    scale = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(word[len(number) :].rstrip("ib"))
    try:
        return int(float(number) * scale)  # type: ignore[operator]
    except (ValueError, TypeError):
        raise UsageError(f"cache is auto, none or a size such as 2GB, not '{text}'") from None
