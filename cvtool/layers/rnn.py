"""Recurrent layers by name: `rnn|lstm|gru`: a state that is carried from token to token.

rnn   h = tanh(W x + U h + b) (Elman 1990): what a step adds is multiplied by U again at each later one, so that gradients fade in a few dozen
lstm  c = f c + i g, h = o tanh(c) (Hochreiter 1997): while the gate f stays open the cell keeps what it has, and the gradient
gru   h = (1 - z) n + z h (Cho 2014, arXiv:1406.1078): the same with two gates and no cell
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cvtool.errors import UsageError, did_you_mean

KINDS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def recurrent(name: str, inputs: int, hidden: int, *, layers: int = 1, both_ways: bool = False, dropout: float = 0.0, memory: int = 0) -> nn.RNNBase:
    """The layer of that name, batch first: B N inputs -> (B N hidden, state); torch's module, key for key.

    both_ways: a second pass from the end, outputs side by side (2 x hidden). memory: about how many steps an LSTM should remember at the start: its
    forget gates begin at log(memory) and its input gates at the opposite (Tallec 2018, arXiv:1804.11188, eq. 16); 0: its forget gates begin at 1
    (Jozefowicz 2015). Raises UsageError for another name, and for a memory of what has no cell.
    """
    if name not in KINDS:
        raise UsageError(f"unknown recurrent layer '{name}'", hint=did_you_mean(name, KINDS) or "recurrent layers: " + ", ".join(KINDS))
    if memory and name != "lstm":
        raise UsageError(f"memory has no effect on '{name}', which has no forget gate", hint="lstm has one")
    module = KINDS[name](inputs, hidden, layers, batch_first=True, bidirectional=both_ways, dropout=dropout if layers > 1 else 0.0)
    if name == "lstm":
        _open(module, hidden, memory)
    return module


@torch.no_grad()
def _open(module: nn.RNNBase, hidden: int, memory: int) -> None:
    """torch adds two biases, of gates in the order input, forget, cell, output."""
    forget = torch.log(torch.linspace(1, memory, hidden)) if memory > 1 else torch.ones(hidden)
    for key, bias in module.named_parameters():
        if key.startswith("bias_hh"):
            bias.zero_()
        elif key.startswith("bias_ih"):
            bias[hidden : 2 * hidden] = forget
            if memory > 1:
                bias[:hidden] = -forget
