"""Training by several processes: two on the CPU give what one gives, end together, and go on after one of them was killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvtool import registry, weights
from cvtool.data import source, synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader, share
from cvtool.errors import CvtoolError
from cvtool.runtime import torchrun
from cvtool.tasks import train as task
from cvtool.train import sharded
from cvtool.train.distributed import World
from cvtool.train.log import TIMES, Reporter
from cvtool.train.validate import Validation

MODEL = "lenet.tiny"
# 21 pictures by 4: the last batch is one picture, of which the second process gets none
SETTINGS = {"epochs": 2, "batch_size": 4, "accumulate": 2, "augment": "flip", "optimizer": "momentum", "lr": 0.05, "ema": 0.9, "clip": 0.5}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in three colours, 21 to train and 9 to validate on."""
    weights.build(registry.parse(MODEL), categories=[{"id": 0, "name": "red"}])  # imported once, before processes are forked
    root, draw = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for part, count in (("train", 7), ("val", 3)):
        for channel, name in enumerate(("red", "green", "blue")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 120, (28, 28, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def together(work: Callable[[int], None], folder: Path, size: int = 2) -> list[tuple[int | None, str]]:
    """`work(rank)` in forked processes with torchrun's environment: the exit code of each, and the error that it would have told."""
    port = free_port()

    def run(rank: int) -> None:
        torch.set_num_threads(1)
        if size > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CVTOOL_RANK_TIMEOUT": "240"}
        try:
            work(rank)
        except CvtoolError as error:
            (folder / f"said.{rank}").write_text("\n".join(error.lines()))
            os._exit(error.exit_code)
        os._exit(0)

    folder.mkdir(parents=True, exist_ok=True)
    processes = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(500)
        process.kill()
    said = [path.read_text() if (path := folder / f"said.{rank}").exists() else "" for rank in range(size)]
    return [(process.exitcode, text) for process, text in zip(processes, said, strict=True)]


def trained(drawn: Path, folder: Path, *, size: int = 2, model: str = MODEL, **changes: Any) -> Path:
    """A whole run by `size` processes."""
    done = together(lambda rank: start(drawn, folder, model=model, **changes), folder, size)
    assert done == [(0, "")] * size
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["0001"]
    return folder / "0001"


def start(drawn: Path, folder: Path, *, model: str = MODEL, reporter: Reporter | None = None, **changes: Any) -> None:
    task.train(model, drawn, output=folder, device="cpu", layers=[SETTINGS | changes], reporter=reporter)


def diary(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same(one: Path, other: Path, within: float = 1e-5) -> None:
    """The same lines in both logs, the same weights in both checkpoints."""
    mine, theirs = diary(one), diary(other)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a == pytest.approx(b, abs=within)
    weights_of = [weights.load(str(run / "last.safetensors"))[0].state_dict() for run in (one, other)]
    torch.testing.assert_close(*weights_of, atol=within, rtol=within)


def words(drawn: Path, folder: Path, **changes: Any) -> list[str]:
    """The command line of such a run."""
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | changes).items()]
    return ["-m", "cvtool", "train", "-m", MODEL, "--data", str(drawn), "-o", str(folder), "--device", "cpu", *settings]


@pytest.fixture(scope="module")
def alone(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    return trained(drawn, tmp_path_factory.mktemp("alone"), size=1)


def test_torchrun_gives_the_losses_of_one_process(drawn: Path, alone: Path, environment, tmp_path: Path) -> None:
    """Augmented, accumulated, clipped, averaged; the log, the validation and the weights."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()), *words(drawn, tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "0001")]
    assert done.stderr.count("epoch 2/2") == 1
    assert_same(alone, tmp_path / "0001")
    assert json.loads((tmp_path / "0001" / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_torchrun_goes_on_after_a_process_was_killed(drawn: Path, environment, tmp_path: Path) -> None:
    """The same command, started anew by torchrun, goes on in the same folder from where it was saved last, to the same numbers."""
    whole = trained(drawn, tmp_path / "whole", epochs=30)
    options = ["--nproc-per-node", "2", "--max-restarts", "1", "--master-port", str(free_port())]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *words(drawn, tmp_path / "killed", epochs=30)]
    with (tmp_path / "said").open("w") as said, subprocess.Popen(command, env=environment(), stdout=said, stderr=said) as agent:
        log = tmp_path / "killed" / "0001" / "log.jsonl"
        until(lambda: log.exists() and log.read_text().count('"epoch",') > 3, agent)
        os.kill(worker(agent.pid, 1), signal.SIGKILL)
        agent.wait(500)
    told = (tmp_path / "said").read_text()
    assert agent.returncode == 0, told
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["0001"]
    assert [told.count(f"epoch {number}/30") for number in (1, 2, 3, 30)] == [1, 1, 1, 1], told
    assert_same(whole, tmp_path / "killed" / "0001", within=0)


def until(true: Callable[[], bool], agent: subprocess.Popen) -> None:
    limit = time.monotonic() + 500
    while not true():
        assert agent.poll() is None, "it ended too early"
        assert time.monotonic() < limit, "it takes too long"
        time.sleep(0.01)


def worker(agent: int, rank: int) -> int:
    """The process of that rank."""
    for folder in Path("/proc").iterdir():
        try:
            own = folder.name.isdigit() and f"PPid:\t{agent}\n" in (folder / "status").read_text()
            if own and f"\0RANK={rank}\0".encode() in b"\0" + (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process of rank {rank}")


class Signalled(Reporter):
    """Sends this process a signal in the third turn."""

    def turn(self, *, turn: int, **_: Any) -> None:
        if turn == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_to_one_process_saves_once_and_ends_all(drawn: Path, alone: Path, tmp_path: Path) -> None:
    done = together(lambda rank: start(drawn, tmp_path, reporter=Signalled() if rank else None), tmp_path)
    assert [code for code, _ in done] == [143, 143]
    assert "everything is saved" in done[0][1]
    assert "--resume" in done[0][1]
    assert done[1][1] == ""
    run = tmp_path / "0001"

    class Noted(Reporter):
        def note(self, text: str) -> None:
            with (tmp_path / "notes").open("a") as file:
                file.write(text + "\n")

    assert together(lambda rank: task.resume(run, device="cpu", reporter=Noted()) and None, tmp_path / "resumed", size=1) == [(0, "")]
    assert "saved by 2 processes, resumed by 1" in (tmp_path / "notes").read_text()
    assert_same(alone, run)


def test_a_loss_that_is_not_finite_in_one_process_ends_all_and_names_it(drawn: Path, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        if rank:
            from cvtool.layers.classifier import Classifier

            own = Classifier.losses
            Classifier.losses = lambda self, batch: {k: v / 0 for k, v in own(self, batch).items()}  # type: ignore[method-assign]
        start(drawn, tmp_path)

    (first, told), (second, nothing) = together(work, tmp_path)
    assert (first, second, nothing) == (1, 1, "")
    assert told.startswith("process 1 of 2: the loss is not finite: cross_entropy = inf")
    assert ".png" in told


def test_what_is_wrong_in_all_is_told_once(drawn: Path, tmp_path: Path) -> None:
    (first, told), (second, nothing) = together(lambda rank: start(drawn, tmp_path, batch_size=1), tmp_path)
    assert (first, second, nothing) == (2, 2, "")
    assert "batch_size 1 is too small for 2 processes" in told
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_statistics_of_batches_are_those_of_all_processes(drawn: Path, tmp_path: Path) -> None:
    """`sync_batch_norm`: forward, gradients, running statistics, on the CPU; with a moving average of the weights, whose layers are copies."""
    changes: dict[str, Any] = {"model": "resnet.tiny", "batch_size": 7, "accumulate": 1, "clip": 0.0, "lr": 0.01}
    one = trained(drawn, tmp_path / "one", size=1, **changes)
    two = trained(drawn, tmp_path / "two", sync_batch_norm=True, **changes)
    assert_same(one, two)
    apart = trained(drawn, tmp_path / "apart", **changes)
    assert abs(diary(apart)[0]["loss"] - diary(one)[0]["loss"]) > 1e-3


def test_sharded_weights_give_the_losses_of_one_process(drawn: Path, alone: Path, tmp_path: Path) -> None:
    """`fsdp`: what it saves is whole, and one process goes on with it."""
    plain = trained(drawn, tmp_path / "plain", size=1, ema=0.0)
    run = trained(drawn, tmp_path / "sharded", ema=0.0, fsdp=True)
    assert_same(plain, run)
    whole, parts = (torch.load(one / "state.pt", weights_only=True)["step"] for one in (plain, run))
    torch.testing.assert_close(parts["model"], whole["model"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts["optimizer"]["state"], whole["optimizer"]["state"], atol=1e-5, rtol=1e-5)
    more = {"epochs": 3}
    assert together(lambda rank: task.resume(run, settings=more, device="cpu") and None, tmp_path / "again") == [(0, "")] * 2
    assert together(lambda rank: task.resume(plain, settings=more, device="cpu") and None, tmp_path / "other", size=1) == [(0, "")]
    assert_same(plain, run)


def test_what_fsdp_leaves_no_room_for_is_refused() -> None:
    from cvtool.train.recipe import DEFAULTS

    sharded.check(DEFAULTS)
    for key, value in {"ema": 0.9, "precision": "fp16", "step": "distill", "statistics": 5}.items():
        with pytest.raises(CvtoolError, match=key if key != "precision" else "fp16"):
            sharded.check(DEFAULTS | {key: value})


def test_two_processes_measure_the_precision_that_one_measures(tmp_path: Path) -> None:
    """Five batches, so that the second process has one fewer; AP, losses and their order of summation."""
    drawn = synth.write_shapes(tmp_path, 9, 64, seed=3)
    records, _, categories = source.read({"data": str(drawn), "split_val": "none"})
    torch.manual_seed(0)
    model = weights.build(registry.parse("faster-rcnn.tiny"), categories=categories)
    dataset = Dataset(records, categories)

    def measure(rank: int, world: World) -> None:
        part = (rank, world.size)
        loader = Loader(dataset, model.prepare, batch_size=2, shuffle=False, unreadable="drop", part=part, deal="batches")
        torch.manual_seed(0)
        values = Validation(loader, device=torch.device("cpu"), kind="boxes", world=world)(model)
        (tmp_path / f"{world.size}.{rank}").write_text(json.dumps(values))

    def work(rank: int) -> None:
        world = World(torchrun.place())
        world.open(torch.device("cpu"))
        measure(rank, world)
        world.close()

    assert together(work, tmp_path / "two") == [(0, "")] * 2
    assert together(lambda rank: measure(0, World()), tmp_path / "one", size=1) == [(0, "")]
    one, *two = (json.loads((tmp_path / name).read_text()) for name in ("1.0", "2.0", "2.1"))
    figures = {key: value for key, value in one.items() if "loss" not in key and not key.startswith("val_")}
    assert figures
    for values in two:
        assert {key: values[key] for key in figures} == figures
        assert values.keys() == one.keys()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 2))
def test_each_picture_of_a_batch_goes_to_one_process(pictures: int, size: int, least: int) -> None:
    entries = list(range(pictures))
    parts = [share(entries, rank, size, least=least) for rank in range(size)]
    assert [entry for mine, counted in parts for entry in mine[:counted]] == entries
    assert all(mine for mine, _ in parts)
    assert all(counted in (0, len(mine)) for mine, counted in parts)
    counts = [counted for _, counted in parts if counted]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= min(least, pictures)
