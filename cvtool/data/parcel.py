"""What a worker process hands over: large tensors through shared memory, all else by value.

torch's own queue gives each tensor a file of shared memory, however small it is. A batch of 128 class labels costs 128 of them: ten times what it
takes to receive the pictures.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LARGE = 1 << 16  # bytes


@dataclass
class Parcel:
    """An object as bytes, and the tensors in it that are not among these."""

    data: bytes
    large: list[Tensor]

    def opened(self) -> Any:
        unpickler = pickle.Unpickler(io.BytesIO(self.data))
        unpickler.persistent_load = self.large.__getitem__  # type: ignore[method-assign]
        return unpickler.load()

    def pin_memory(self) -> Any:
        """For the worker pool, where it is told to: what is inside, pinned."""
        return self.opened().pin_memory()


def packed(value: Any) -> Parcel:
    """Of an object between two processes of this program. Strides and types of tensors stay; views of one memory become apart."""
    out, large = io.BytesIO(), list[Tensor]()
    _Pickler(out, large).dump(value)
    return Parcel(out.getvalue(), large)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, large: list[Tensor]) -> None:
        super().__init__(file, protocol=5)
        self.large = large

    def persistent_id(self, value: Any) -> int | None:
        """The number of a tensor that goes through shared memory; numpy knows neither bfloat16 nor every order of axes, so those do as well."""
        if type(value) is not Tensor or (value.nbytes < LARGE and value.is_contiguous() and value.dtype != torch.bfloat16):
            return None
        self.large.append(value)
        return len(self.large) - 1

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if type(value) is Tensor else NotImplemented
