"""A data set of classes made larger by pictures that nobody took: a generator's, or a trained autoencoder's between those that there are."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cvtool.data import source as sources
from cvtool.data.formats import folder
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.ops import latents
from cvtool.records import Record
from cvtool.runtime.pool import pool
from cvtool.tasks.data import DataSet

OPERATIONS = ("noise", "interpolate", "extrapolate")
STRENGTH = 0.5  # the paper's, of all three
NEIGHBOURS = 10  # of its class, among which a picture's partner is drawn
CHUNK = 64  # pictures at a time


class Classes:
    """The pictures of a data set that are to be learned from, by class: those of its training part where it has parts.

    wanted: names (or ids) of the classes to enlarge, all unless given. Raises InputError for a data set without classes of pictures, UsageError for
    a class that it does not have.
    """

    def __init__(self, source: DataSet, wanted: Sequence[str] | None) -> None:
        self.records = list(source.records())
        if not self.records:
            raise InputError("the data set holds no images", where=source.path)
        parts = dict.fromkeys(record["split"] for record in self.records if "split" in record)
        self.part = next((part for part in sources.TRAIN if part in parts), next(iter(parts), None))
        self.members: dict[str, list[Record]] = {}
        ids: dict[str, str] = {}
        for record in self.records:
            if labels := record.get("labels"):
                name = str(labels[0].get("category", labels[0].get("category_id")))
                ids[str(labels[0].get("category_id"))] = name
                if record.get("split") == self.part and not record.failed:
                    self.members.setdefault(name, []).append(record)
        if not self.members:
            hint = "class folders hold one folder a class; a single one is read with --data-format folder"
            raise InputError("the pictures have no classes: there is nothing to enlarge", where=source.path, hint=hint)
        for name in wanted or ():
            if name not in self.members and ids.get(name) not in self.members:
                raise UsageError(f"no pictures of the class '{name}'", hint=did_you_mean(name, self.members) or "classes: " + ", ".join(self.members))
        self.wanted = [name if name in self.members else ids[name] for name in wanted] if wanted else list(self.members)

    def record(self, name: str, number: int, picture: Tensor) -> Record:
        """A made picture, 3 H W in [0, 1], of a class."""
        pixels = picture.float().mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        memory = io.BytesIO()
        Image.fromarray(pixels).save(memory, format="PNG")
        made = Record(file_name=f"made-{number:05d}.png", labels=[dict((self.members[name][0]["labels"])[0])])
        made.data = memory.getvalue()
        return made if self.part is None else made.changed(split=self.part)

    def written(self, out: Path, made: Iterator[tuple[str, Tensor]], *, copy_images: bool) -> tuple[dict[str, int], list[str]]:
        """The real pictures and the made ones as class folders: ({class: how many were made}, notes)."""
        counts: Counter[str] = Counter(dict.fromkeys(self.wanted, 0))

        def records() -> Iterator[Record]:
            for name, picture in made:
                counts[name] += 1
                yield self.record(name, counts[name], picture)

        notes = folder.write(chain(self.records, records()), out, copy_images=copy_images)
        return dict(counts), notes


def generated(
    source: DataSet,
    out: Path,
    generator: str,
    *,
    n: int,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    copy_images: bool = False,
    device: str = "auto",
    offline: bool = False,
) -> tuple[dict[str, int], list[str]]:
    """Class folders in `out`: the data set's pictures, and `n` of the generator for each class (or for `classes`); ({class: made}, notes).

    A conditional generator is told the class, by name; another one makes pictures of the one class that it was trained on. Raises UsageError.
    """
    known = Classes(source, classes)
    with pool.lease(generator, device=device, offline=offline) as loaded:
        model = loaded.model
        if not hasattr(model, "sample"):
            raise UsageError(f"{generator} is no generator", hint="such as a run of `cvtool train -m dcgan`")
        if getattr(model, "conditional", 0):
            table = {category["name"]: label for label, category in enumerate(model.categories) if category}
            if missing := [name for name in known.wanted if name not in table]:
                raise UsageError(f"{generator} makes no {', '.join(missing)}", hint=f"it knows {', '.join(table)}; --classes says which are wanted")
        elif len(known.wanted) > 1:
            what = f"{generator} makes pictures of no class in particular, and there are {len(known.wanted)} classes"
            raise UsageError(what, hint="train one with conditional=true, or say with --classes NAME which class it was trained on")

        def made() -> Iterator[tuple[str, Tensor]]:
            for name in known.wanted:
                told = [table[name]] * n if getattr(model, "conditional", 0) else None
                yield from ((name, picture) for picture in model.sample(n, seed_of(seed, name), told))

        return known.written(out, made(), copy_images=copy_images)


def between(
    source: DataSet,
    out: Path,
    autoencoder: str,
    *,
    n: int,
    op: str = "interpolate",
    strength: float = STRENGTH,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    copy_images: bool = False,
    device: str = "auto",
    offline: bool = False,
) -> tuple[dict[str, int], list[str]]:
    """Class folders in `out`: the data set's pictures, and for each class (or for `classes`) `n` that the autoencoder draws of changed codes.

    op: "noise", "interpolate" or "extrapolate" (`ops/latents.py`), the latter two between a picture and one of those of its class that are nearest
    to it. Returns ({class: made}, notes). Raises UsageError, InputError for a class of one picture, which has no partner.
    """
    if op not in OPERATIONS:
        raise UsageError(f"unknown operation '{op}'", hint=did_you_mean(op, OPERATIONS) or "operations: " + ", ".join(OPERATIONS))
    known = Classes(source, classes)
    with pool.lease(autoencoder, device=device, offline=offline) as loaded:
        model = loaded.model
        if not (hasattr(model, "encode") and hasattr(model, "decode")):
            raise UsageError(f"{autoencoder} is no autoencoder", hint="such as a run of `cvtool train -m autoencoder`")
        codes = {name: encoded(model, members, loaded.device) for name, members in known.members.items() if op == "noise" or name in known.wanted}
        deviation = torch.cat(list(codes.values())).std(0, correction=0)

        def made() -> Iterator[tuple[str, Tensor]]:
            for name in known.wanted:
                rng = np.random.default_rng((seed, *name.encode()))
                changed_codes = changed(codes[name], n, op, strength, deviation=deviation, rng=rng, what=name)
                for part in changed_codes.split(CHUNK):
                    with torch.inference_mode():
                        yield from ((name, picture) for picture in model.decode(part))

        return known.written(out, made(), copy_images=copy_images)


@torch.inference_mode()
def encoded(model: Any, records: Sequence[Record], device: torch.device) -> Tensor:
    """N D: the codes of pictures."""
    parts = [
        model.encode(model.prepare([record.pixels() for record in records[i : i + CHUNK]]).to(device).images) for i in range(0, len(records), CHUNK)
    ]
    return torch.cat(parts)


def changed(codes: Tensor, n: int, op: str, strength: float, *, deviation: Tensor, rng: np.random.Generator, what: str = "") -> Tensor:
    """`n` D: codes of one class, N D, each as often as the others, changed by `op`. Raises InputError where there is no partner."""
    order = np.concatenate([rng.permutation(len(codes)) for _ in range(-(-n // len(codes)))])[:n]
    first = codes[torch.from_numpy(order).to(codes.device)]
    if op == "noise":
        drawn = torch.from_numpy(rng.standard_normal((n, codes.shape[1]), np.float32)).to(codes)
        return latents.noise(first, deviation, drawn, strength)
    if len(codes) < 2:
        raise InputError(f"one picture of the class '{what}': there is nothing to {op} between", hint="--op noise needs no partner")
    near = torch.cdist(first, codes)
    near[torch.arange(n), torch.from_numpy(order)] = torch.inf  # not itself
    near = near.topk(min(NEIGHBOURS, len(codes) - 1), largest=False).indices  # n K
    others = codes[near[torch.arange(n), torch.from_numpy(rng.integers(near.shape[1], size=n))]]
    return (latents.interpolate if op == "interpolate" else latents.extrapolate)(first, others, strength)


def seed_of(seed: int, name: str) -> int:
    """A seed of its own for each class, whatever others there are."""
    return int(np.random.default_rng((seed, *name.encode())).integers(1 << 62))
