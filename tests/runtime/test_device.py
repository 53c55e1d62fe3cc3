"""Devices by name, precision, seeds."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from cvtool.errors import ModelError, UsageError
from cvtool.runtime import device


def test_auto_is_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.pick_device("auto").type == expected
    assert device.pick_device() == device.pick_device("auto")
    assert device.pick_device("CPU") == torch.device("cpu")


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "cpu:a", "mps:1", "cuda:-1", ""])
def test_words_that_are_no_device(text: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        device.pick_device(text)


@pytest.mark.parametrize(("built", "words"), [(None, "built without CUDA"), ("12.4", "no CUDA device was found")])
def test_no_cuda(built: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(ModelError, match=words) as caught:
        device.pick_device("cuda")
    assert "--device auto or cpu" in str(caught.value)


def test_too_few_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ModelError, match="2 CUDA devices"):
        device.pick_device("cuda:2")
    assert device.pick_device("cuda:1") == torch.device("cuda:1")


def test_no_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match="Metal"):
        device.pick_device("mps")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(precision: str, dtype: torch.dtype) -> None:
    with device.autocast("cpu", precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="fp16") as caught:
        device.autocast("cpu", "fp16")
    assert "bf16" in str(caught.value)
    with pytest.raises(UsageError, match="unknown precision"):
        device.autocast("cpu", "fp8")


def test_seeds_everything() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    device.seed_everything(2**40 + 3)
    first = draw()
    device.seed_everything(2**40 + 3)
    assert draw() == first
    device.seed_everything(4)
    assert draw() != first


def test_deterministic() -> None:
    try:
        device.deterministic()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        device.deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_memory() -> None:
    assert 1 << 20 < device.memory_total("cpu") <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    place = device.pick_device("cuda")
    assert place.index is not None
    assert 0 < torch.cuda.mem_get_info(place)[0] <= device.memory_total(place)
    for precision, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        with device.autocast(place, precision):
            assert (torch.ones(2, 2, device=place) @ torch.ones(2, 2, device=place)).dtype == dtype
