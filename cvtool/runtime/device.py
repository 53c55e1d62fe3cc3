"""Devices, precision and seeds."""

from __future__ import annotations

import os
import random
import sys
from contextlib import AbstractContextManager, nullcontext

import torch

from cvtool.errors import ModelError, UsageError, did_you_mean

PRECISIONS = ("fp32", "fp16", "bf16")
_KINDS = ("auto", "cpu", "cuda", "mps")


def pick_device(text: str | torch.device = "auto") -> torch.device:
    """`auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises UsageError for a word that is none of these, ModelError for a device that this machine or this build of torch lacks.
    """
    text = str(text).strip().lower()
    kind, _, index = text.partition(":")
    if kind not in _KINDS or (index and not (index.isdigit() and kind in ("cuda", "cpu"))):
        raise UsageError(f"unknown device '{text}'", hint=did_you_mean(kind, _KINDS) or "devices: auto, cpu, cuda, cuda:N, mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            reason = "this torch was built without CUDA" if torch.version.cuda is None and torch.version.hip is None else "no CUDA device was found"
            raise ModelError(f"--device {text}: {reason}", hint="use --device auto or cpu")
        if int(index or 0) >= count:
            raise ModelError(f"--device {text}: this machine has {count} CUDA device{'s' * (count > 1)}", hint=f"cuda:0 to cuda:{count - 1}")
        return torch.device("cuda", int(index or torch.cuda.current_device()))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("--device mps: no Metal device was found", hint="use --device auto or cpu")
    return torch.device(kind)


def check_precision(device: torch.device, precision: str) -> None:
    """Raises UsageError for an unknown precision, or one that the device cannot do."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}'", hint="precisions: " + ", ".join(PRECISIONS))
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 does not work on the CPU", hint="use bf16, or --device cuda")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError(f"--precision bf16 does not work on {torch.cuda.get_device_name(device)}", hint="use fp16")


def autocast(device: torch.device | str, precision: str = "fp32") -> AbstractContextManager:
    """A context in which float32 models compute in `precision` ("fp32", "fp16" or "bf16"); their weights stay as they are."""
    device = torch.device(device)
    check_precision(device, precision)
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators (every device)."""
    random.seed(seed)
    torch.manual_seed(seed)
    import numpy as np

    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from the global generator


def deterministic(on: bool = True) -> None:
    """Only algorithms that give the same bits each time; where torch has none, it warns and goes on."""
    if on:  # cuBLAS reads it when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on, warn_only=True)
    torch.backends.cudnn.deterministic = on
    torch.backends.cudnn.benchmark = False


def peak_memory(device: torch.device | str) -> int:
    """Bytes that this process has used at most: of the device, or of main memory where that is the device. 0 where nothing tells."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_total(device: torch.device | str) -> int:
    """Bytes that the device has in all; of main memory, a container's own limit counts where it is lower."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if not hasattr(os, "sysconf"):  # Windows: nothing in the standard library tells
        return 8 << 30
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            return min(total, int(file.read()))
    except (OSError, ValueError):  # no Linux, or no limit ("max")
        return total
