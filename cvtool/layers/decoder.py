"""From features to a sequence of tokens, by name: `rnn|lstm|gru|transformer`, for captions and lines of text.

All learn by teacher forcing, every token in one pass: the input is START t1 .. tn, the target t1 .. tn END. All write one token after the other,
each depending on the ones before it (Vaswani 2017, arXiv:1706.03762, section 3.1; Xu 2015, arXiv:1502.03044, section 3.1.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.patch_embed import TokenEmbed
from cvtool.layers.positional import Sinusoidal
from cvtool.layers.rnn import KINDS, recurrent
from cvtool.layers.rnn_attention import AdditiveAttention
from cvtool.layers.transformer import Decoder

NAMES = (*KINDS, "transformer")


class RecurrentDecoder(nn.Module):
    """A recurrent layer that begins with the features' mean and looks at them again before each token it says (additive attention).

    forward: features B M D and tokens B N -> logits B N V. The state runs over the tokens first; then each state asks the features, so that the
    whole sequence is one pass.
    """

    def __init__(self, name: str, tokens: int, features: int, hidden: int = 256, *, layers: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, hidden)
        self.begin = nn.Linear(features, hidden * layers * (2 if name == "lstm" else 1))
        self.rnn = recurrent(name, hidden, hidden, layers=layers)
        self.attention = AdditiveAttention(hidden, features, hidden)
        self.out = nn.Linear(hidden + features, tokens)

    def state(self, features: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What the layer knows before the first token: layers B hidden, for an LSTM twice."""
        parts = self.begin(features.mean(1)).unflatten(1, (-1, self.rnn.num_layers, self.rnn.hidden_size)).tanh().permute(1, 2, 0, 3).contiguous()
        return (parts[0], parts[1]) if len(parts) == 2 else parts[0]

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        states, _ = self.rnn(self.embed(tokens), self.state(features))
        context, _ = self.attention(states, features)
        return self.out(torch.cat([states, context], -1))


class TransformerDecoder(nn.Module):
    """Causal self-attention over the tokens, cross-attention to the features. forward: features B M D and tokens B N -> logits B N V."""

    def __init__(self, tokens: int, features: int, hidden: int = 256, *, layers: int = 2, heads: int = 8) -> None:
        super().__init__()
        self.embed = TokenEmbed(tokens, hidden)
        self.positions = Sinusoidal(hidden)
        self.decoder = Decoder(layers, hidden, heads, memory_channels=features)
        self.out = nn.Linear(hidden, tokens)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.out(self.decoder(self.positions(self.embed(tokens)), features))


def decoder(name: str, tokens: int, features: int, hidden: int = 256, *, layers: int = 1, heads: int = 8) -> nn.Module:
    """The decoder of that name: (features B M D, tokens B N int64) -> logits B N V. Raises UsageError for another name."""
    if name == "transformer":
        return TransformerDecoder(tokens, features, hidden, layers=layers, heads=heads)
    if name not in KINDS:
        raise UsageError(f"unknown decoder '{name}'", hint=did_you_mean(name, NAMES) or "decoders: " + ", ".join(NAMES))
    return RecurrentDecoder(name, tokens, features, hidden, layers=layers)


def shifted(tokens: Tensor, start: int) -> Tensor:
    """What the decoder reads for the targets B N: START t1 .. t(n-1)."""
    return torch.cat([torch.full_like(tokens[:, :1], start), tokens[:, :-1]], 1)


@torch.no_grad()
def write(model: nn.Module, features: Tensor, *, start: int, end: int, longest: int) -> Tensor:
    """The likeliest token after the other, until each sequence has said END or is `longest` tokens long: B N, END where it is over."""
    said = features.new_full((len(features), 1), start, dtype=torch.int64)
    over = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    for _ in range(longest):
        token = model(features, said)[:, -1].argmax(-1).masked_fill(over, end)
        over |= token == end
        said = torch.cat([said, token[:, None]], 1)
        if over.all():
            break
    return said[:, 1:]
