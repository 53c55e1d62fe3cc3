"""environment.json: on what a run was made, as far as its numbers and its speed depend on it. Nothing in it names a person, a machine or a place."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from cvtool import __version__
from cvtool.errors import CvtoolError
from cvtool.runtime.device import memory_total

FILE = "environment.json"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pycocotools", "safetensors", "transformers")
_HARDWARE = ("device", "processor", "threads", "torch", "cuda", "cudnn")  # on which the last bits of a result may depend


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, device, processor, threads."""
    found: dict[str, Any] = {"cvtool": __version__, "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpu = device.type == "cuda"
    return found | {
        "device": torch.cuda.get_device_name(device) if gpu else device.type,
        "device_memory": memory_total(device),
        "cuda": torch.version.cuda if gpu else None,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE") or 1),
    }


def keep(folder: Path, device: torch.device) -> list[str]:
    """Write the file; returns what has changed since it was written before ("threads was 2, now 1") of all that may change a result's last bits."""
    now, path = describe(device), folder / FILE
    before: dict[str, Any] = {}
    try:
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
        draft = path.with_name(f".{FILE}")
        draft.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    except ValueError:  # cut short by a crash
        path.unlink()
        return keep(folder, device)
    except OSError as error:
        raise CvtoolError(f"the run folder cannot be written to: {error.strerror}", where=path) from error
    return [f"{key} was {before[key]}, now {now[key]}" for key in _HARDWARE if key in before and before[key] != now[key]]


def _processor() -> str:
    """The model's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
