"""Activations by name: `activation("leaky-relu:0.2")`.

relu                 max(0, x); derivative 1 above zero, 0 below (and at zero)
leaky-relu[:slope]   x above zero, slope x below; 0.01 (Maas 2013), 0.2 in DCGAN (arXiv:1511.06434)
elu[:alpha]          x above zero, alpha (e^x - 1) below; alpha = 1 (Clevert 2015, arXiv:1511.07289)
gelu[:exact|tanh]    x Phi(x), or 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), less than 5e-4 apart (Hendrycks 2016, arXiv:1606.08415)
silu                 x sigmoid(x)
sigmoid              1 / (1 + e^-x); derivative s (1 - s), at most 1/4, and none to speak of beyond |x| = 10
tanh                 in (-1, 1) and centred on zero; derivative 1 - tanh^2
softmax              e^(x - max x) over their sum, along the channels
maxout[:pieces]      the largest of k = 2 neighbouring channels, k times as many of which must come in (`pieces`)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cvtool import calls
from cvtool.errors import UsageError, did_you_mean
from cvtool.ops.activations import maxout


class Maxout(nn.Module):
    """B kC ... -> B C ...: the largest of each k = `pieces` neighbouring channels (Goodfellow 2013, arXiv:1302.4389)."""

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return maxout(x, self.pieces)

    def extra_repr(self) -> str:
        return str(self.pieces)


_MADE: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "elu": (nn.ELU, {"alpha": 1.0}),
    "gelu": (lambda form: nn.GELU({"exact": "none", "tanh": "tanh"}[form]), {"form": "exact"}),
    "leaky-relu": (lambda slope, inplace: nn.LeakyReLU(slope, inplace), {"slope": 0.01}),
    "maxout": (Maxout, {"pieces": 2}),
    "relu": (nn.ReLU, {}),
    "sigmoid": (nn.Sigmoid, {}),
    "silu": (nn.SiLU, {}),
    "softmax": (lambda: nn.Softmax(dim=1), {}),
    "tanh": (nn.Tanh, {}),
}
_INPLACE = ("elu", "leaky-relu", "relu", "silu")
NAMES = tuple(_MADE)


def activation(text: str, *, inplace: bool = False) -> nn.Module:
    """The module that `text` calls for. inplace: those that can overwrite their input do. Raises UsageError with the right names for a wrong one."""
    call, values = _bound(text)
    return _MADE[call.name][0](**values, **({"inplace": inplace} if call.name in _INPLACE else {}))


def pieces(text: str) -> int:
    """How many channels must come in for each that goes out: maxout's k, 1 for all others. Raises UsageError."""
    return int(_bound(text)[1].get("pieces", 1))


def _bound(text: str) -> tuple[calls.Call, dict[str, Any]]:
    call = calls.one(text.replace("_", "-"), "activation")
    if call.name not in _MADE:
        raise UsageError(f"unknown activation '{call.name}'", hint=did_you_mean(call.name, NAMES) or "activations: " + ", ".join(NAMES))
    values = calls.bind(call, _MADE[call.name][1], "activation")
    if values.get("form", "exact") not in ("exact", "tanh") or values.get("pieces", 1) < 1:
        raise UsageError(f"activation: '{text}' is not one", hint="gelu:exact, gelu:tanh; maxout:2 and more")
    return call, values
