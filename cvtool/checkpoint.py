"""Checkpoint files: one `.safetensors` file that rebuilds its model alone, and what others wrote.

The metadata of a checkpoint holds, under "cvtool", a JSON object (`Info`) with the model's reference, what was changed in its construction,
its categories, its pixels (`prepare`) and where it comes from. torch is imported only where tensors are touched; `read_info` needs none.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool import __version__, registry
from cvtool.categories import Categories
from cvtool.download import sha256
from cvtool.errors import CvtoolError, ModelError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

KEY = "cvtool"  # of the metadata
MAX_HEADER = 100_000_000  # bytes, the format's own bound
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "ema_state_dict", "ema", "params_ema", "params", "net", "network")
PREFIXES = ("module.", "_orig_mod.")
PIXELS = "prepare."  # before the names of the arrays of `Prepare.table`, which lie among the tensors
RUN_FILES = ("best.safetensors", "last.safetensors")


@dataclass
class Info:
    """What a checkpoint says of itself. Everything is plain JSON; `prepare` may be given as a `Prepare`."""

    reference: str = ""  # the model, as `registry.parse` understands it
    arguments: dict[str, Any] = field(default_factory=dict)  # constructor arguments that differ from the variant's
    categories: Categories = field(default_factory=list)
    prepare: Any = None
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    command: Any = None
    licence: str | None = None
    # known of a file, not written into it:
    sha256: str | None = None
    path: Path | None = None
    fresh: list[str] = field(default_factory=list)  # tensors that were not loaded, because other classes were asked for

    def to_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sha256", "path", "fresh")}
        return {k: v for k, v in _plain(values).items() if v not in (None, {}, [])}


def _plain(value: Any) -> Any:
    """Tuples, paths, numbers of numpy and torch, NaN: as JSON can hold them."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, str | int) else str(value)


# ---- reading without torch -----------------------------------------------------------------------------------------


def read_header(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """(metadata, tensors: name -> dtype, shape, data_offsets) of a safetensors file. Raises ModelError where it is damaged or none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= MAX_HEADER or length > size - 8:
                raise ValueError("it is no safetensors file, or cut short")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"{8 + length + end:,} bytes were written, {size:,} are there")
        return dict(metadata), header
    except OSError as error:
        raise missing(path) if isinstance(error, FileNotFoundError) else ModelError(f"cannot read: {error.strerror}", where=path) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        detail = error if type(error) is ValueError else "its header is unreadable"
        raise ModelError(f"corrupt checkpoint: {detail}", where=path, hint="fetch or save it again") from error


def read_info(path: Path | str) -> Info:
    """What a checkpoint (or the one that a run folder stands for) says of itself. Needs no torch."""
    path = checkpoint_of(Path(path))
    if path.suffix != ".safetensors":
        raise foreign(path)
    metadata, _ = read_header(path)
    if KEY not in metadata:
        raise foreign(path)
    try:
        values = json.loads(metadata[KEY])
        info = Info(**{f.name: values[f.name] for f in fields(Info) if f.name in values})
        if not isinstance(info.reference, str) or not info.reference or registry.is_path(info.reference.partition("@")[0]):
            raise ValueError(info.reference)
        tables = [info.arguments, info.recipe, info.metrics, {} if info.prepare is None else info.prepare]
        if not all(isinstance(table, dict) for table in tables) or not isinstance(info.categories, list):
            raise TypeError("not as `save` writes them")
        if not all(c is None or (isinstance(c, dict) and isinstance(c.get("name"), str) and "id" in c) for c in info.categories):
            raise TypeError("categories")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("corrupt checkpoint: what it says of itself is unreadable", where=path) from error
    return replace(info, path=path, sha256=sha256(path))


def is_own(path: Path) -> bool:
    """Whether a file is a checkpoint that says what it is. Raises ModelError for a damaged one."""
    return path.suffix == ".safetensors" and KEY in read_header(path)[0]


def checkpoint_of(path: Path) -> Path:
    """The file itself; a run folder's best checkpoint, else its last."""
    if not path.is_dir():
        if not path.exists():
            raise missing(path)
        return path
    for name in RUN_FILES:
        if (path / name).is_file():
            return path / name
    runs = sorted(child for child in path.iterdir() if any((child / name).is_file() for name in RUN_FILES))
    hint = f"did you mean {runs[-1]}?" if runs else "a run folder holds best.safetensors or last.safetensors"
    raise ModelError("the folder holds no checkpoint", where=path, hint=hint)


def missing(path: Path) -> ModelError:
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = did_you_mean(path.name, near)
    return ModelError("no such checkpoint", where=path, hint=close or "a model's name has no slash and no suffix; `cvtool models list` shows all")


def foreign(path: Path) -> ModelError:
    hint = f"say which it is: -m NAME@{path if '/' in str(path) else f'./{path}'}, or `cvtool models import {path} --as NAME -o X.safetensors`"
    return ModelError("the file does not say which model it belongs to", where=path, hint=hint)


# ---- saving --------------------------------------------------------------------------------------------------------


def save(model: Any, path: Path | str, info: Info, *, half: bool = False) -> Path:
    """Write a checkpoint that rebuilds `model`, all or nothing (a temporary name, flushed to the disk, renamed).

    Categories and pixels that `info` leaves open are the model's own. half: matrices and filters as float16 (vectors, such as the running
    variances of a norm, and what float16 cannot hold stay as they are); they are float32 again after loading.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    prepare = info.prepare if info.prepare is not None else getattr(model, "prepare", None)
    info = replace(info, categories=info.categories or getattr(model, "categories", []), prepare=prepare, versions=info.versions or versions())
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in _state(model).items():
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        if half and tensor.is_floating_point() and tensor.ndim > 1 and (not tensor.numel() or tensor.abs().max() < 65504):
            tensor = tensor.half()
        if tensor.numel() and tensor.data_ptr() in seen:  # the format has no tied tensors
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        tensors[_bare(name)] = tensor
    tables = [getattr(some, "table", None) for some in (prepare, getattr(model, "prepare", None))]
    table = next((table for table in tables if table is not None), None)
    if table is not None:
        tensors |= {PIXELS + key: value.cpu().contiguous() for key, value in table.arrays().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.touch()
        mode = draft.stat().st_mode & 0o777  # as the umask has it; `save_file` makes a file of its own, for the user alone
        save_file(tensors, draft, metadata={"format": "pt", KEY: json.dumps(info.to_dict(), ensure_ascii=False, allow_nan=False)})
        draft.chmod(mode)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except SafetensorError as error:
        raise CvtoolError(f"cannot write the checkpoint: {error}", where=path) from error
    finally:
        draft.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # the rename itself outlives a power cut
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def _state(model: Any) -> dict[str, Tensor]:
    """The model's tensors; one that is computed from others (a normalised weight) as the forward pass takes it, under its own name."""
    import torch

    state = dict(model.state_dict())
    for name, module in getattr(model, "named_modules", dict)():
        for key, parts in getattr(module, "parametrizations", {}).items():
            place = f"{name}.{key}".lstrip(".")
            for other in parts.state_dict():
                del state[f"{name}.parametrizations.{key}.{other}".lstrip(".")]
            mode = parts.training
            with torch.no_grad():
                state[place] = parts.eval()()  # in training mode, looking would move the estimate of a norm
            parts.train(mode)
    return state


def versions() -> dict[str, str]:
    """Of cvtool, Python and what is loaded of the libraries that models are made of."""
    loaded = {name: str(sys.modules[name].__version__) for name in ("torch", "torchvision", "timm") if hasattr(sys.modules.get(name), "__version__")}
    return {"cvtool": __version__, "python": ".".join(map(str, sys.version_info[:3])), **loaded}


# ---- tensors of files ----------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The model's tensors in a safetensors file, floating ones as float32. Raises ModelError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return {key: _float32(value) for key, value in load_file(path).items() if not key.startswith(PIXELS)}
    except SafetensorError as error:
        raise ModelError(f"corrupt checkpoint: {error}", where=path, hint="fetch or save it again") from error


def read_prepare(info: Info) -> Any:
    """The `Prepare` that a checkpoint says of itself, with its arrays; None where it says none. Raises ModelError where they are missing."""
    if info.prepare is None:
        return None
    from cvtool.batch import Prepare

    arrays: dict[str, Tensor] = {}
    if info.prepare.get("table"):
        from safetensors import safe_open

        assert info.path is not None
        with safe_open(str(info.path), "pt") as file:
            arrays = {key.removeprefix(PIXELS): file.get_tensor(key) for key in file.keys() if key.startswith(PIXELS)}  # noqa: SIM118
        if "mean" not in arrays or list(arrays["mean"].shape) != info.prepare["table"]:
            raise ModelError("corrupt checkpoint: its statistics of the pixels are missing", where=info.path, hint="fetch or save it again")
    return Prepare.from_dict(info.prepare, arrays)


def read_foreign(path: Path | str) -> dict[str, Tensor]:
    """The tensors of somebody else's file: .safetensors, or .pth, .pt, .th, .bin as torch writes them.

    Wrappers (`state_dict`, `model`, `ema` ...) and prefixes (`module.`, `_orig_mod.`) are taken off. A pickle that holds anything but
    tensors and plain values is refused: it is never run.
    """
    import pickle
    import zipfile

    import torch

    path = Path(path)
    if not path.is_file():
        raise missing(path)
    if path.suffix.lower() == ".safetensors":
        return {_bare(key): value for key, value in read_tensors(path).items()}
    try:
        path.open("rb").close()
    except OSError as error:
        raise ModelError(f"cannot read: {error.strerror}", where=path) from error
    try:
        with torch.serialization.safe_globals(_plain_types()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if path.read_bytes()[:1] not in (b"P", b"\x80"):
            raise ModelError("corrupt checkpoint: it is no file of torch's", where=path) from error
        hint = "only tensors and plain values are read; have it saved again as `torch.save(model.state_dict(), ...)` or .safetensors"
        raise ModelError(f"refused: the pickle holds code{_globals(error)}", where=path, hint=hint) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, struct.error, zipfile.BadZipFile) as error:
        said = "" if isinstance(error, LookupError | struct.error) else str(error)  # what text is to a reader of pickles: a KeyError of a byte
        told = said.splitlines()[0] if said else "it is no file of torch's"
        raise ModelError(f"corrupt checkpoint: {told}", where=path) from error
    found = _unwrapped(state)
    if not found:
        raise ModelError("the file holds no tensors", where=path)
    versions = {_bare(f"{key}.").rstrip("."): value for key, value in (getattr(found, "_metadata", None) or {}).items()}
    return with_versions({_bare(key): _float32(value) for key, value in found.items()}, versions)


def with_versions(tensors: Mapping[str, Tensor], versions: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """The tensors with the versions of the modules that saved them, by which modules know what has been renamed since (torch's `_metadata`)."""
    state = OrderedDict(tensors)
    state._metadata = versions  # type: ignore[attr-defined]
    return state


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state of a network as that of a model that holds it as `prefix`."""
    versions = {f"{prefix}.{key}".rstrip("."): value for key, value in (getattr(state, "_metadata", None) or {}).items()}
    tensors = {f"{prefix}.{key}": value for key, value in state.items()}
    return with_versions(tensors, versions) if hasattr(state, "_metadata") else tensors


def _unwrapped(state: Any) -> dict[str, Tensor]:
    """The dict of tensors inside, at most three wrappers deep."""
    import torch

    for _ in range(4):
        if not isinstance(state, Mapping):
            break
        if inner := next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), None):
            state = inner
            continue
        tensors = {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
        return with_versions(tensors, getattr(state, "_metadata", None))
    return {}


def _bare(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name.replace("._orig_mod.", ".")


def _plain_types() -> list[Any]:
    """What training scripts leave beside the tensors and holds no code: their options, and numpy's numbers."""
    import argparse

    import numpy as np

    core = getattr(np, "_core", None) or np.core
    return [argparse.Namespace, core.multiarray.scalar, np.dtype, *{type(np.dtype(t)) for t in (bool, np.int32, np.int64, np.float32, np.float64)}]


def _globals(error: Exception) -> str:
    """The name that the pickle wanted to call, out of torch's message."""
    match = re.search(r"GLOBAL\s+([\w.]+)", str(error))
    return f" ({match[1]})" if match else ""


def _float32(tensor: Tensor) -> Tensor:
    import torch

    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
