"""Features of sets of pictures by a named network, with the protocol by which they were made; kept in a file, and read from it."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvtool.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from cvtool.registry import Reference
    from cvtool.runtime.pool import Loaded

BATCH = 32


@dataclass
class Features:
    """Of one set. vectors: N D float32. shares: N C, of the classes p(y|x), where they were asked for. names: of the pictures.

    protocol: all that the numbers depend on beside the pictures. extractor: the network as it was named. lost: lines about pictures that could not
    be read.
    """

    names: list[str]
    vectors: np.ndarray
    protocol: dict[str, Any]
    where: str
    extractor: str
    shares: np.ndarray | None = None
    lost: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """As .npz, whole or not at all; nothing in it is pickled."""
        arrays: dict[str, Any] = {"vectors": self.vectors, "file_name": np.array(self.names, str), "protocol": np.array(json.dumps(self.protocol))}
        arrays["extractor"] = np.array(self.extractor)
        if self.shares is not None:
            arrays["shares"] = self.shares
        draft = path.with_name(f".{path.name}.{os.getpid()}.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez_compressed(draft, **arrays)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def stored(path: Path) -> Features | None:
    """What `save` has written; None for an .npz without a protocol. Raises InputError for no such file."""
    try:
        with np.load(path, allow_pickle=False) as table:
            if "protocol" not in table.files:
                return None
            shares = table["shares"] if "shares" in table.files else None
            names = [str(name) for name in table["file_name"]]
            found = Features(names, table["vectors"], json.loads(str(table["protocol"])), str(path), str(table["extractor"]), shares)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("not a file of features", where=path, hint="`--save-features FILE.npz` writes one") from error
    if found.vectors.ndim != 2 or len(found.vectors) != len(names) or not np.isfinite(found.vectors).all():
        raise InputError(f"{len(names)} names do not go with finite features of shape {found.vectors.shape}", where=path)
    return found


def extractor(name: str | None, default: str) -> Reference:
    """The reference of the network asked for, else of the default where its weights are on this machine. Raises ModelError with what to do."""
    from cvtool import registry, weights

    reference = registry.parse(name or default)
    if name is None:
        try:
            weights.locate(reference, offline=True)
        except ModelError as error:
            hint = f"--extractor REF takes another network (handcrafted needs no weights), or `cvtool models pull {reference}` gets them"
            raise ModelError(f"the weights of {reference} are not on this machine", hint=hint) from error
    return reference


def of(source: Any, reference: Reference, *, shares: bool = False, stdin: Any = None) -> Features:
    """The features of the pictures of a folder, list or JSON lines, or of a list of files. Raises InputError, ModelError and UsageError.

    shares: also the classes' probabilities, which only a network that knows classes has.
    """
    from cvtool.data.inputs import read
    from cvtool.runtime.pool import pool
    from cvtool.tasks._runner import decoded

    inputs = source if isinstance(source, list) else [str(source)]
    where, names, lost = str(inputs[0]), [], []
    vectors: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    with pool.lease(reference) as loaded:
        if not hasattr(loaded.model, "embed") and not hasattr(loaded.model, "judge"):
            raise UsageError(f"{reference} gives no features", hint="`cvtool models list --verb embed` shows what does")
        if shares and not hasattr(loaded.model, "logits"):
            raise UsageError(f"{reference} knows no classes, which this metric asks for", hint="--extractor names a classifier")
        protocol = protocol_of(loaded)
        waiting: list[np.ndarray] = []

        def show() -> None:
            vectors.append(_asked(loaded, waiting, classes if shares else None))
            waiting.clear()

        for record, pixels in decoded(read(inputs, stdin=stdin)):
            if pixels is None:
                lost.append(f"{record.name}: {record['error']}")
                continue
            if waiting and _entering(loaded, pixels) != _entering(loaded, waiting[0]):
                show()  # only pictures that enter in one size share a batch, so that none sees padding
            names.append(record.name)
            waiting.append(pixels)
            if len(waiting) == BATCH:
                show()
        if waiting:
            show()
    if not names:
        raise InputError("none of the pictures can be read", where=where, hint=lost[0] if lost else None)
    return Features(names, np.concatenate(vectors), protocol, where, str(reference), np.concatenate(classes) if shares else None, lost)


def _entering(loaded: Loaded, pixels: np.ndarray) -> Any:
    """The size in which a picture enters the network, None where all enter in one."""
    prepare = loaded.model.prepare
    return None if prepare.resize in ("stretch", "crop") else prepare.target_size(*pixels.shape[:2])


def _asked(loaded: Loaded, pictures: list[np.ndarray], classes: list[np.ndarray] | None) -> np.ndarray:
    """The features N D float32 of one batch; with `classes`, that gets the shares."""
    import torch

    from cvtool.layers import judged

    model = loaded.model
    batch = model.prepare(pictures).to(loaded.device)
    with torch.inference_mode(), loaded.autocast():
        found = (model.embed(batch) if hasattr(model, "embed") else judged.features(model, batch.images)).float().cpu().numpy()
        if classes is not None:
            classes.append(model.logits(batch.images).double().softmax(-1).cpu().numpy())
    return found


def protocol_of(loaded: Loaded) -> dict[str, Any]:
    """What the numbers depend on: the network, its weights, and how pictures enter it."""
    prepare = loaded.model.prepare
    filters = f"{prepare.interpolation}, {'antialiased' if prepare.antialias else 'no antialias'}" if prepare.resize else "none"
    return {
        "network": str(loaded.info.reference or loaded.reference),
        "weights_sha256": loaded.info.sha256,
        "resize": prepare.resize or "none",
        "filter": filters,
        "size": list(prepare.size) if isinstance(prepare.size, tuple) else prepare.size,
        "mean": list(prepare.mean),
        "std": list(prepare.std),
        "precision": loaded.precision,
        "library": "torch.nn.functional.interpolate",
    }


def agreed(sides: Iterable[Features]) -> dict[str, Any]:
    """The protocol that all share. Raises InputError naming what differs."""
    listed = list(sides)
    first = listed[0]
    for other in listed[1:]:
        keys = [key for key in {**first.protocol, **other.protocol} if first.protocol.get(key) != other.protocol.get(key)]
        if keys:
            said = "; ".join(f"{key} {other.protocol.get(key)} against {first.protocol.get(key)}" for key in keys[:3])
            hint = "distances between features made by different protocols mean nothing: make both by one"
            raise InputError(f"the features were made otherwise than those of {first.where}: {said}", where=other.where, hint=hint)
        if first.vectors.shape[1] != other.vectors.shape[1]:
            raise InputError(f"features of {other.vectors.shape[1]} numbers, the others have {first.vectors.shape[1]}", where=other.where)
    return first.protocol


def digest(values: Any) -> str:
    """The first 16 digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
