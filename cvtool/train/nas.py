"""Architecture search: a recurrent controller writes an architecture choice by choice and learns from how it did (Zoph 2016, arXiv:1611.01578).

The choices of one architecture are the words of a sentence: the controller's LSTM reads the word before and gives a distribution over the next
(section 3.1). Its parameters follow the REINFORCE gradient (eq. 3), sum over choices of grad log P(choice) (R - b), where b is a moving average of
earlier rewards (section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Space = Mapping[str, Sequence[Any]]  # choice -> the values that it may have


class Controller(nn.Module):
    """An LSTM over the choices of a space, in their order."""

    def __init__(self, space: Space, *, width: int = 32) -> None:
        super().__init__()
        self.space = {name: list(values) for name, values in space.items()}
        counts = [len(values) for values in self.space.values()]
        self.start = nn.Parameter(torch.zeros(1, width))
        self.embeddings = nn.ModuleList(nn.Embedding(count, width) for count in counts)
        self.cell = nn.LSTMCell(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in counts)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)  # section 4.1: at first all architectures are about equally likely

    def forward(self, chosen: Tensor | None = None, *, count: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """`count` architectures drawn, or those given (B C int64): the choices B C, log P of each architecture B, and its entropy B, in nats."""
        size = count if chosen is None else len(chosen)
        x = self.start.expand(size, -1)
        state: tuple[Tensor, Tensor] | None = None
        picks, log_p, entropy = [], x.new_zeros(size), x.new_zeros(size)
        for i, (embedding, head) in enumerate(zip(self.embeddings, self.heads, strict=True)):
            state = self.cell(x, state)
            logs = head(state[0]).log_softmax(-1)  # B V
            pick = torch.multinomial(logs.exp(), 1)[:, 0] if chosen is None else chosen[:, i]
            log_p = log_p + logs.gather(1, pick[:, None])[:, 0]
            entropy = entropy - (logs.exp() * logs).sum(-1)
            picks.append(pick)
            x = embedding(pick)
        return torch.stack(picks, 1), log_p, entropy

    def named(self, choices: Tensor) -> dict[str, Any]:
        """The values of one architecture (C int64)."""
        return {name: values[int(i)] for (name, values), i in zip(self.space.items(), choices, strict=True)}

    @torch.no_grad()
    def probability(self, architecture: Mapping[str, Any]) -> float:
        """P of an architecture given by its values."""
        chosen = torch.tensor([[values.index(architecture[name]) for name, values in self.space.items()]])
        return float(self(chosen)[1].exp())

    @torch.no_grad()
    def likeliest(self) -> dict[str, Any]:
        """The architecture whose every choice is the likeliest after those before it."""
        x, state, picks = self.start, None, []
        for embedding, head in zip(self.embeddings, self.heads, strict=True):
            state = self.cell(x, state)
            picks.append(head(state[0]).argmax(-1))
            x = embedding(picks[-1])
        return self.named(torch.cat(picks))


class Search:
    """The controller's turns: `turn(reward)` draws architectures, asks for the reward of each and moves the controller.

    lr: of Adam. memory: of the baseline's moving average. batch: architectures a turn. entropy: how much an undecided controller is liked,
    which keeps it looking around.
    """

    def __init__(self, space: Space, *, seed: int = 0, lr: float = 0.02, memory: float = 0.8, batch: int = 4, entropy: float = 0.0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.controller = Controller(space)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=lr)
        self.memory, self.batch, self.entropy = memory, batch, entropy
        self.baseline: float | None = None

    def turn(self, reward: Callable[[dict[str, Any]], float], *, count: int | None = None) -> list[tuple[dict[str, Any], float]]:
        """Draw `count` (default: `batch`) architectures; their values and rewards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=self.generator)))
            choices, log_p, entropy = self.controller(count=count or self.batch)
        found = [(architecture, float(reward(architecture))) for architecture in map(self.controller.named, choices)]
        rewards = torch.tensor([value for _, value in found])
        if self.baseline is None:
            self.baseline = float(rewards.mean())
        loss = -(log_p * (rewards - self.baseline)).mean() - self.entropy * entropy.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.baseline = self.memory * self.baseline + (1 - self.memory) * float(rewards.mean())
        return found
