"""The pool: loaded once, the holder's alone, dropped by age within a budget, and never stuck."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cvtool import weights
from cvtool.errors import ModelError, UsageError
from cvtool.registry import Reference
from cvtool.runtime import pool as module
from cvtool.runtime.pool import Pool, parse_bytes, size_of

KILO = 1024


class Library:
    """Loads fake models: `a`, `b` ... of one KiB each, unless their name says how many (`big.8`)."""

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.fail: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, reference: Reference, device: torch.device, offline: bool) -> tuple[Any, weights.Info]:
        self.gate.wait(10)
        self.loads[str(reference)] += 1
        if reference.name in self.fail:
            raise ModelError(f"no {reference.name}")
        model = nn.Module()
        model.weight = nn.Parameter(torch.zeros(int(reference.variant or 1) * KILO // 4))
        return model, weights.Info(reference=str(reference))


def ref(name: str, size: int | None = None) -> Reference:
    return Reference(name, variant=None if size is None else str(size), source="fake")


@pytest.fixture
def library() -> Library:
    return Library()


def names(pool: Pool) -> list[str]:
    return [loaded.reference.name for loaded in pool.resident()]


def use(pool: Pool, *chosen: Reference) -> None:
    for reference in chosen:
        with pool.lease(reference, device="cpu"):
            pass


def test_loads_once_and_keeps(library: Library) -> None:
    pool = Pool(10 * KILO, load=library)
    with pool.lease(ref("a"), device="cpu") as first:
        assert (first.info.reference, first.device, first.precision) == ("fake:a", torch.device("cpu"), "fp32")
    with pool.lease(ref("a"), device="cpu") as second:
        assert second.model is first.model
    assert library.loads == {"fake:a": 1}


def test_precision_is_part_of_the_identity(library: Library) -> None:
    pool = Pool(10 * KILO, load=library)
    with pool.lease(ref("a"), device="cpu") as full, pool.lease(ref("a"), device="cpu", precision="bf16") as half:
        assert full.model is not half.model
        assert half.model.weight.dtype == torch.float32
        with half.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_used_longest_ago_leaves_first(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    use(pool, ref("a"), ref("b"), ref("c"), ref("a"), ref("d"))
    assert names(pool) == ["c", "a", "d"]
    use(pool, ref("b"))
    assert names(pool) == ["a", "d", "b"]
    assert library.loads["fake:b"] == 2


def test_leased_models_never_leave(library: Library) -> None:
    pool = Pool(2 * KILO, load=library)
    with pool.lease(ref("a"), device="cpu") as held:
        use(pool, ref("b"), ref("c"), ref("d"))
        assert names(pool) == ["a", "d"] or names(pool) == ["d", "a"]
        use(pool, ref("big", 5))  # larger than the budget: loaded alone, and gone when done
        assert "a" in names(pool)
        assert held.model.weight.numel()
    assert library.loads["fake:a"] == 1


def test_larger_than_the_budget_still_works(library: Library) -> None:
    pool = Pool(2 * KILO, load=library)
    use(pool, ref("a"))
    with pool.lease(ref("big", 9), device="cpu") as loaded:
        assert names(pool) == ["big"]
        assert size_of(loaded.model) == 9 * KILO
    assert names(pool) == []


def test_budget_holds_after_every_lease(library: Library) -> None:
    pool = Pool(7 * KILO, load=library)
    for step in range(40):
        use(pool, ref("abcdefg"[step * 5 % 7], 1 + step * 5 % 7 % 4))
        assert sum(size_of(loaded.model) for loaded in pool.resident()) <= 7 * KILO


def test_failed_load_leaves_nothing_and_can_be_tried_again(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    library.fail.add("a")
    for _ in range(2):
        with pytest.raises(ModelError, match="no a"), pool.lease(ref("a"), device="cpu"):
            pass
    assert pool._slots == {}
    library.fail.clear()
    use(pool, ref("a"))
    assert library.loads["fake:a"] == 3


def test_waiters_of_a_failed_load_get_their_own_try(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    library.fail.add("a")
    library.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        tries = [threads.submit(use, pool, ref("a")) for _ in range(4)]
        library.gate.set()
        assert all(isinstance(t.exception(timeout=10), ModelError) for t in tries)
    assert pool._slots == {}


def test_an_error_inside_a_lease_releases_it(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    with pytest.raises(ZeroDivisionError), pool.lease(ref("a"), device="cpu"):
        _ = 1 / 0
    use(pool, ref("a"))
    assert library.loads["fake:a"] == 1


def test_one_thread_at_a_time(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    inside: list[int] = []
    most: list[int] = []

    def work(_: int) -> None:
        with pool.lease(ref("a"), device="cpu"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(40), timeout=20))
    assert max(most) == 1
    assert library.loads == {"fake:a": 1}


def test_two_models_run_side_by_side(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    meet = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with pool.lease(ref(name), device="cpu"):
            meet.wait()  # passes only if both are inside

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, "ab", timeout=20))


def test_loading_one_model_does_not_hold_up_another(library: Library) -> None:
    pool = Pool(3 * KILO, load=library)
    use(pool, ref("b"))
    library.gate.clear()
    slow = threading.Thread(target=use, args=(pool, ref("a")))
    slow.start()
    use(pool, ref("b"))
    library.gate.set()
    slow.join(10)
    assert not slow.is_alive()


def test_many_threads_many_models_small_budget(library: Library) -> None:
    """Loading, waiting and dropping all at once: everybody is served, the budget holds in the end."""
    pool = Pool(2 * KILO, load=library)

    def work(step: int) -> str:
        with pool.lease(ref("abcde"[step % 5]), device="cpu") as loaded:
            time.sleep(0.0005)
            return loaded.reference.name

    with ThreadPoolExecutor(8) as threads:
        served = list(threads.map(work, range(300), timeout=60))
    assert Counter(served) == dict.fromkeys("abcde", 60)
    assert sum(size_of(loaded.model) for loaded in pool.resident()) <= 2 * KILO
    assert all(slot.users == 0 for slot in pool._slots.values())


def test_out_of_memory_gives_up_what_is_not_in_use(library: Library) -> None:
    pool = Pool(9 * KILO, load=library)
    use(pool, ref("a"), ref("b"))
    failed: list[str] = []

    def load(reference: Reference, device: torch.device, offline: bool) -> tuple[Any, weights.Info]:
        if not failed:
            failed.append(reference.name)
            raise torch.OutOfMemoryError("no room")
        return library(reference, device, offline)

    pool._load = load
    use(pool, ref("c"))
    assert names(pool) == ["c"]


def test_clear(library: Library) -> None:
    pool = Pool(9 * KILO, load=library)
    use(pool, ref("a"))
    with pool.lease(ref("b"), device="cpu"):
        pool.clear()
        assert names(pool) == ["b"]


def test_a_changed_file_is_loaded_anew(library: Library, tmp_path: Path) -> None:
    pool = Pool(9 * KILO, load=library)
    file = tmp_path / "best.safetensors"
    file.write_bytes(b"one")
    use(pool, Reference(str(file), path=file), Reference(str(tmp_path), path=tmp_path))
    assert sum(library.loads.values()) == 1  # the run folder stands for the same file
    file.write_bytes(b"another")
    use(pool, Reference(str(file), path=file))
    assert sum(library.loads.values()) == 2


def test_unknown_device_or_precision_takes_no_place(library: Library) -> None:
    pool = Pool(9 * KILO, load=library)
    for options in ({"device": "gpu"}, {"device": "cpu", "precision": "fp16"}, {"device": "cpu", "precision": "int8"}):
        with pytest.raises(UsageError), pool.lease(ref("a"), **options):
            pass
    assert pool._slots == {}


def test_budget_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVTOOL_POOL_BUDGET", "1.5G")
    assert Pool().budget(torch.device("cpu")) == 3 << 29
    monkeypatch.delenv("CVTOOL_POOL_BUDGET")
    assert Pool().budget(torch.device("cpu")) > 100 << 20


@pytest.mark.parametrize(("text", "expected"), [("1000000", 10**6), ("800M", 800 << 20), ("6g", 6 << 30), ("2KiB", 2048), ("0", 0)])
def test_sizes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "many", "-3", "1X", "nan", "inf"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="CVTOOL_POOL_BUDGET"):
        parse_bytes(text)


def test_the_shared_pool() -> None:
    assert isinstance(module.pool, Pool)
    with pytest.raises(ModelError, match="unknown model"), module.pool.lease("no-such-model", device="cpu"):
        pass
