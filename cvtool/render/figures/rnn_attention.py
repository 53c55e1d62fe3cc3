"""Attention computed by a small network, soft and hard, while it learns to read a sequence backwards (it takes some seconds).

Bahdanau 2014 (arXiv:1409.0473) weighs all tokens; Xu 2015 (arXiv:1502.03044) draws one and learns by the sampled gradient of the expectation.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.render.figures._heat import cells, heat
from cvtool.render.figures._page import Panel, page, positive
from cvtool.render.palette import Colour

PICTURE = False
OPTIONS = {
    "tokens": {"default": 8, "metavar": "N", "help": "length of the sequence"},
    "turns": {"default": 300, "metavar": "N", "help": "steps of training"},
}
SIDE, ALPHABET, HIDDEN, BATCH = 400, 12, 32, 64


def learned(tokens: int, turns: int, *, hard: bool, seed: int = 0) -> tuple[np.ndarray, float, np.ndarray]:
    """Train on random sequences; returns the weights of each output over the inputs (N N), the share of right tokens, and, for `hard`, how often
    each place was drawn in the last turns (N N)."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from cvtool.layers.rnn_attention import AdditiveAttention
    from cvtool.losses.reinforce import reinforce
    from cvtool.ops.sinusoid import sinusoid

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        code = torch.from_numpy(sinusoid(tokens, HIDDEN)).float()
        embed, attend, say = nn.Embedding(ALPHABET, HIDDEN), AdditiveAttention(HIDDEN, HIDDEN, 2 * HIDDEN), nn.Linear(HIDDEN, ALPHABET)
        optimizer = torch.optim.Adam([*embed.parameters(), *attend.parameters(), *say.parameters()], lr=0.01)
        drawn = torch.zeros(tokens, tokens)
        right = 0.0
        for turn in range(turns):
            said = torch.randint(ALPHABET, (BATCH, tokens))
            memory, asks = embed(said) + code, code.expand(BATCH, -1, -1)
            if hard:
                look = attend.hard(asks.flatten(0, 1), memory.repeat_interleave(tokens, 0))
                context = look.context
                if turn >= turns * 3 // 4:
                    drawn += F.one_hot(look.place, tokens).view(BATCH, tokens, tokens).sum(0)
            else:
                context = attend(asks, memory)[0].flatten(0, 1)
            logits, truth = say(context), said.flip(1).flatten()
            each = F.cross_entropy(logits, truth, reduction="none")
            loss = each.mean()
            if hard:
                loss = loss + reinforce(look.log_probability, each, baseline=each.mean())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right = float((logits.argmax(-1) == truth).float().mean())
        with torch.no_grad():
            weights = attend.weights(asks, memory).mean(0)
    return weights.numpy(), right, (drawn / drawn.sum(1, keepdim=True).clamp(min=1)).numpy()


def figure(*, tokens: int, turns: int) -> Image.Image:
    """The weights of soft attention, those of hard attention, and what it drew."""
    positive(tokens, "tokens", 24), positive(turns, "turns", 3000)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the products are too small to share
    try:
        soft, right, _ = learned(tokens, turns, hard=False)
        hard, hit, drawn = learned(tokens, turns, hard=True)
    finally:
        torch.set_num_threads(threads)
    panels = [
        _panel(soft, "soft: the weights", f"{right:.0%} of the tokens right", "sum of a_i m_i, with its own gradient"),
        _panel(hard, "hard: the probabilities", f"{hit:.0%} right", "learned by cost x gradient of log p"),
        _panel(drawn, "hard: the draws", "of the last quarter of the turns", "one place an output"),
    ]
    return page("Attention over a sequence", f"{tokens} random tokens, to be read backwards; a row an output, a column an input", panels)


def _panel(weights: np.ndarray, title: str, *lines: str) -> Panel:
    words = [[f"{value:.2f}" if value >= 0.005 else "" for value in row] for row in weights]
    told: list[tuple[str, Colour | None]] = [(line, None) for line in lines]
    return Panel(cells(heat(weights, 0, 1), SIDE, words, gap=1), title, told)
