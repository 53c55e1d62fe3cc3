"""The one door to torchvision, which keeps its import cheap.

`import torchvision` runs `torchvision/ops/roi_align.py`, whose single line `from torch._dynamo.utils import is_compile_supported` drags in
over a thousand modules (sympy, inductor, torch.distributed) and doubles the start-up. The name is only needed when a model is compiled. So
a stand-in answers during the import, delegates to the real function at the first call, and is gone again afterwards. timm decorates with
`torch._dynamo.disable` in one file; the stand-in offers that too. Where torch._dynamo is loaded already, nothing is done.

Import torchvision's parts like this, nowhere else:

    from cvtool.runtime.torchvision import cheap_import

    with cheap_import():
        from torchvision.models.detection import FasterRCNN
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import Any

_lock = RLock()  # two threads must not take the stand-in for the real module


@contextmanager
def cheap_import() -> Iterator[None]:
    """While inside, `torch._dynamo` is a stand-in; the real one is never removed once it has been loaded."""
    with _lock:
        import torch

        if "torch._dynamo" in sys.modules:
            yield
            return
        dynamo, utils = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")
        dynamo.__path__ = []  # type: ignore[attr-defined]
        dynamo.utils = utils  # type: ignore[attr-defined]
        dynamo.disable = _disable  # type: ignore[attr-defined]
        utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        had = "_dynamo" in vars(torch)
        sys.modules["torch._dynamo"], sys.modules["torch._dynamo.utils"] = dynamo, utils
        try:
            yield
        finally:
            for name, module in (("torch._dynamo", dynamo), ("torch._dynamo.utils", utils)):
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            if not had and vars(torch).get("_dynamo") is dynamo:
                delattr(torch, "_dynamo")


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Marks nothing: what timm excludes from compilation is only ever compiled after the real module has been loaded."""
    return function if function is not None else lambda inner: inner
