"""A generated picture made again from what its file says of it: the same model, weights, seed and options, hence the same pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from cvtool import __version__
from cvtool.errors import InputError, ModelError
from cvtool.runtime.pool import pool
from cvtool.tasks._guide import guide
from cvtool.tasks.generate import check, computed, unpacked, whence

KEY = "cvtool"
MOST = 1 << 24  # characters that are read: a code of 512 numbers takes 3,000, one of a whole picture of 512 x 512 4 million
KNOWN = ("generate",)  # verbs whose pictures can be made again


def notes(facts: dict[str, Any]) -> PngImagePlugin.PngInfo:
    """What a PNG says of itself, as one text chunk of JSON."""
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, json.dumps(facts, allow_nan=False))
    return info


def read(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What a PNG says of itself, and its pixels H W 3 uint8. Raises InputError for a file that does not say how it was made."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            text, pixels = image.info.get(KEY), np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise InputError("no such picture", where=path) from error
    except Exception as error:  # whatever a damaged picture may raise
        raise InputError("not a whole PNG", where=path, hint="only PNG files say how they were made") from error
    try:
        if not isinstance(text, str) or len(text) > MOST:
            raise ValueError("nothing said")
        facts = json.loads(text)
        good = {"verb": str, "model": str, "seed": int, "index": int, "options": dict}
        if not all(isinstance(facts[key], kind) for key, kind in good.items()) or facts["verb"] not in KNOWN:
            raise ValueError(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("the picture does not say how it was made", where=path, hint="`cvtool generate -o FILE.png` writes it there") from error
    return facts, pixels


@dataclass
class Again:
    """pixels: H W 3 uint8, made anew. off: values that differ from the file's; most: by how much at most. other: what is not as it was then."""

    pixels: np.ndarray
    facts: dict[str, Any]
    off: int = 0
    most: int = 0
    other: list[str] = field(default_factory=list)


def reproduce(path: Path, *, model: str | None = None, device: str | None = None, offline: bool = False) -> Again:
    """The picture again. model: where it lies now (default: where it lay). device: default the kind that it was made on, where there is one.

    Raises InputError for a file that does not say how it was made, ModelError where the weights are others.
    """
    facts, pixels = read(path)
    there = facts.get("device", "cpu")
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    place = device or (there if has.get(there) else "auto")
    with pool.lease(model or facts["model"], device=place, precision=facts.get("precision", "fp32"), offline=offline) as loaded:
        now = whence(loaded) | {"version": __version__}
        if now.get("weights_sha256") != facts.get("weights_sha256"):
            one, other = ((words.get("weights_sha256") or "none")[:12] for words in (facts, now))
            hint = "-m says where the weights lie with which it was made" if model is None else "these are other weights"
            raise ModelError(f"the picture was made with the weights {one}, and {loaded.reference} has {other}", where=path, hint=hint)
        try:
            latent = unpacked(facts["latent"]) if "latent" in facts else None
            position, size = facts.get("batch", [0, 1])
            if not 0 <= position < size <= 1 << 16:
                raise ValueError(position)
            labels = [int(facts["class"])] * size if "class" in facts else None
            check(loaded, facts["options"], plain=latent is None)
            latents = None if latent is None else latent[None].expand(size, *latent.shape)
            first, options = facts["index"] - position, facts["options"]
            with guide(options.get("classifier"), loaded, offline=offline, sha256=facts.get("classifier_sha256")) as guided:
                made = computed(loaded, size, facts["seed"], first, labels, latents, options, guided)[position]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"what the picture says of itself does not go with the model: {error}", where=path) from error
    then = {key: facts.get(key) for key in ("version", "torch", "device")}
    changed = [f"{key} {value}, now {now[key]}" for key, value in then.items() if value is not None and value != now[key]]
    again = Again(made, facts, other=changed)
    if made.shape != pixels.shape:
        raise ModelError(f"the picture is {pixels.shape[1]} x {pixels.shape[0]}, and the model makes {made.shape[1]} x {made.shape[0]}", where=path)
    differs = np.abs(made.astype(int) - pixels.astype(int))
    again.off, again.most = int((differs > 0).sum()), int(differs.max(initial=0))
    return again
