"""Mode collapse, seen: a GAN on points around a few centres, the order of its two problems, and a discriminator against a frozen generator.

min_G max_D is not max_D min_G: where the discriminator is the inner problem (`d`: it takes `inner` turns for one of the generator), the generator
must follow the whole distribution; where the generator is (`g`), it may put all it makes where the discriminator is deceived best (Metz 2016,
arXiv:1611.02163). A frozen generator is told apart almost surely where the two distributions hardly overlap (Arjovsky 2017, arXiv:1701.04862).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvtool.batch import Batch, Place
from cvtool.metrics.mode_coverage import centres, hit, shares, split
from cvtool.models.generate._points import Points
from cvtool.train import optim
from cvtool.train.log import Nowhere
from cvtool.train.loop import Loop
from cvtool.train.run import Nobody
from cvtool.train.schedule import constant
from cvtool.train.steps.gan import GAN

COUNT = 2000  # points that are measured
BATCH = 128
INNER = ("d", "g", "frozen")


@dataclass(frozen=True)
class World:
    """Gaussians of `deviation` around the centres of a `layout`."""

    layout: str = "ring"
    modes: int = 8
    deviation: float = 0.1

    @property
    def centres(self) -> np.ndarray:
        return centres(self.layout, self.modes)

    def points(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` 2, as many of each mode on average."""
        which = torch.randint(self.modes, (count,), generator=generator)
        middle = torch.from_numpy(self.centres).float()[which]
        return middle + self.deviation * torch.randn(count, 2, generator=generator)


@dataclass
class Outcome:
    """real, made: points N 2. hit: share of the modes that are made. quality: share of what is made within three deviations of one. coverage,
    excess: the halves of JS over the modes and what lies in none. accuracy: of the discriminator, on points it has not seen.
    history: (turn, share of the modes hit)."""

    real: np.ndarray
    made: np.ndarray
    hit: float
    quality: float
    coverage: float
    excess: float
    accuracy: float
    history: list[tuple[int, float]]


class _Order(GAN):
    """inner: which player's problem is the inner one, with `turns` turns for one of the other's; "frozen": the generator does not learn at all."""

    def __init__(self, model: Points, *, lr: float, inner: str, turns: int) -> None:
        first, second = (optim.make("adam:beta1=0.5", lr=lr, weight_decay=0.0) for _ in range(2))
        super().__init__(model, first, second)
        self.inner, self.inner_turns = inner, turns

    def when(self, name: str) -> Callable[[int], bool]:
        outer = "generator" if self.inner == "d" else "discriminator"
        if self.inner == "frozen":
            return lambda turn: name == "discriminator"
        every = self.inner_turns if name == outer else 1
        return lambda turn: turn % every == every - 1


@dataclass
class _Item:
    batch: Batch
    names: list[str]


class _Drawn:
    """An endless set: `turns` batches an epoch, each drawn anew."""

    def __init__(self, world: World, turns: int, seed: int) -> None:
        self.world, self.turns, self.generator = world, turns, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.turns

    def epoch(self, epoch: int, start: int = 0) -> Iterator[_Item]:
        for _ in range(start, self.turns):
            points = self.world.points(BATCH, self.generator)
            yield _Item(Batch(points, torch.zeros(BATCH, 1, 1, dtype=torch.bool), [Place(1, 1, 1, 1)] * BATCH), [])


def experiment(
    world: World, *, inner: str = "d", turns: int = 1500, inner_turns: int = 5, latent: int = 2, lr: float = 1e-3, seed: int = 0, looks: int = 10
) -> Outcome:
    """Train for `turns` turns of the faster player. latent: numbers of z. looks: at the modes on the way. The same seed gives the same outcome."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Points(noise=latent)
        step = _Order(model, lr=lr, inner=inner, turns=inner_turns)
        loop = Loop(step, _Drawn(world, max(1, turns // looks), seed), Nobody(), Nowhere(), torch.device("cpu"), looks, constant, log_every=turns + 1)
        history = [(0, _hits(model, world, seed))]
        while loop.at.epoch < looks:
            loop.one_epoch()
            history.append((loop.at.turn, _hits(model, world, seed)))
        return _measured(model, world, seed, history)


def _made(model: Points, seed: int) -> Tensor:
    z = torch.randn(COUNT, model.noise, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        return model.generate(z)


def _found(model: Points, world: World, seed: int) -> tuple[np.ndarray, float]:
    return shares(_made(model, seed).numpy(), world.centres, world.deviation)


def _hits(model: Points, world: World, seed: int) -> float:
    return float(hit(np.full(world.modes, 1 / world.modes), _found(model, world, seed)[0][:-1]))


def _measured(model: Points, world: World, seed: int, history: list[tuple[int, float]]) -> Outcome:
    real, made = world.points(COUNT, torch.Generator().manual_seed(seed + 2)), _made(model, seed)
    with torch.no_grad():
        right = torch.cat([model.judge(real) > 0, model.judge(made) <= 0]).float().mean()
    found, quality = _found(model, world, seed)
    true = np.append(np.full(world.modes, 1 / world.modes), 0.0)
    coverage, excess = (float(part) for part in split(true, found))
    return Outcome(real.numpy(), made.numpy(), history[-1][1], quality, coverage, excess, float(right), history)
