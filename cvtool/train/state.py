"""state.pt: everything a run needs to go on, written in one rename."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvtool.errors import CvtoolError, InputError


def rng_state() -> dict[str, Any]:
    """The global generators of Python, numpy, torch and CUDA, as plain values and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - models and libraries draw from it
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])


def save(state: dict[str, Any], path: Path) -> None:
    """To a temporary name beside it, to the disk, then renamed: a crash or a full disk leaves the old one. Raises CvtoolError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer says "unexpected pos" where the disk is full
        temporary.unlink(missing_ok=True)
        kept = "the last good state is kept" if path.exists() else "nothing was saved yet"
        raise CvtoolError(f"the state cannot be saved: {error}", where=path, hint=f"{kept}; make room and use --resume") from error


def load(path: Path) -> dict[str, Any]:
    """Raises InputError for a file that is no state."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        hint = f"it is damaged; weights that were saved are whole: `cvtool train -m {path.parent}` starts a new run from them"
        raise InputError("this is not the state of a training run", where=path, hint=hint) from error
