"""A recurrent decoder that looks for each character where it stands (Bahdanau 2014, arXiv:1409.0473; Shi 2016, arXiv:1603.03915, section 3.3).

At step t its state s asks the memory m_1 .. m_M, columns of the picture or places of a map, where to look, and takes the last character y along:

    a_t = softmax_i(v^T tanh(W s_(t-1) + U m_i)),   g_t = sum_i a_ti m_i,   s_t = cell([g_t, E y_(t-1)], s_(t-1)),   y_t ~ softmax(V s_t)

until y_t is the end mark. In training y_(t-1) is the true one. Labels are those of the recogniser's charset, then the end mark; the start mark, which
is read and never written, comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.layers.rnn_attention import AdditiveAttention
from cvtool.models.ocr._autoregressive import Answer, beam_search, greedy
from cvtool.models.ocr._dictionary import Dictionary
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import ended
from cvtool.results import Text

CELLS: dict[str, Any] = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}
BEAM = 5  # candidates of a search through a dictionary, where no number is given


class AttentionDecoder(nn.Module):
    """forward: what is read, B L, of a memory B M D -> logits B L classes; those at i depend on what is read at 0..i.

    classes: characters and the end mark. cell: "gru" or "lstm". state: B hidden, what the cell begins with (0 where None).
    """

    def __init__(self, classes: int, features: int, hidden: int = 256, *, cell: str = "gru", embedding: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes + 1, embedding)
        self.attention = AdditiveAttention(hidden, features, hidden)
        self.cell = CELLS[cell](features + embedding, hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, before: Tensor, memory: Tensor, state: Tensor | None = None) -> Tensor:
        steps = self.stepping(memory, state)
        return self.out(torch.stack([steps.moved(tokens) for tokens in before.unbind(1)], 1))

    def stepping(self, memory: Tensor, state: Tensor | None = None) -> Steps:
        """The same one character at a time."""
        return Steps(self, memory, state)


class Steps:
    """A text as it is written. A call takes the latest label of each, B, and gives the next one's logits, B classes.

    looked: B M, a_t of the latest.
    """

    looked: Tensor

    def __init__(self, decoder: AttentionDecoder, memory: Tensor, state: Tensor | None) -> None:
        self.decoder, self.memory = decoder, memory
        self.keys = decoder.attention.of_memory(memory)
        self.state = memory.new_zeros(len(memory), decoder.cell.hidden_size) if state is None else state.to(memory.dtype)
        self.kept = torch.zeros_like(self.state)  # an LSTM's cell

    def __call__(self, tokens: Tensor) -> Tensor:
        return self.decoder.out(self.moved(tokens))

    def moved(self, tokens: Tensor) -> Tensor:
        """The state B hidden after one more character is known."""
        decoder = self.decoder
        self.looked = decoder.attention.weights(self.state, self.memory, keys=self.keys)
        glimpse = (self.looked[:, None] @ self.memory)[:, 0]
        told = torch.cat([glimpse, decoder.embedding(tokens).to(glimpse.dtype)], 1)
        if isinstance(decoder.cell, nn.LSTMCell):
            self.state, self.kept = decoder.cell(told, (self.state, self.kept))
        else:
            self.state = decoder.cell(told, self.state)
        return self.state

    def select(self, index: Tensor) -> None:
        """Go on with these of the texts, in this order, some maybe several times."""
        self.memory, self.keys, self.state, self.kept = (x[index] for x in (self.memory, self.keys, self.state, self.kept))


def taught(reader: Recogniser, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it is to write, B L each: "dog" is <start> d o g and d o g <end>. `IGNORED` after the end mark."""
    end = len(reader.charset)
    targets = ended(texts, reader.labels, end, longest=longest_of(reader))
    before = torch.cat([targets.new_full((len(targets), 1), end + 1), targets[:, :-1]], 1)
    return before.where(before >= 0, end), targets


def written(
    reader: Recogniser, steps: Any, size: Sequence[int], *, charset: str | None, dictionary: Sequence[str] | None, beam: int | None,
    attention: bool, rectified: list[Any] | None = None,
) -> list[Text]:  # fmt: skip
    """One text a picture: the likeliest character each time; with `beam` above 1 or a `dictionary` the likeliest text that a search finds.

    steps: a decoder before its first character. size: (h, w) of the map that its memory is, for `attention`. rectified: pictures that go with them.
    """
    count, end, longest = len(steps.memory), len(reader.charset), longest_of(reader)
    may = torch.cat([reader.allowed(charset), torch.ones(1, dtype=torch.bool)]).to(steps.memory.device)
    words = None if dictionary is None else Dictionary.of(dictionary, reader.charset, reader.allowed(charset), longest)
    if words is None and (beam or 1) == 1:
        answers = greedy(steps, count, end + 1, end, may, longest, looking=attention)
    else:
        answers = beam_search(steps, count, end + 1, end, may, longest, beam=beam or BEAM, words=words, looking=attention)
    return [_told(reader, answer, size, picture, words) for answer, picture in zip(answers, rectified or [None] * count, strict=True)]


def _told(reader: Recogniser, answer: Answer, size: Sequence[int], picture: Any, words: Dictionary | None) -> Text:
    looked = None if answer.looked is None else answer.looked.unflatten(1, tuple(size))
    text = "".join(reader.charset[label] for label in answer.labels)
    return Text(text if words is None else words.spelling(text), answer.score, answer.characters, attention=looked, rectified=picture)


def longest_of(reader: Recogniser) -> int:
    """How many characters a text may have."""
    assert reader.max_length is not None, "a decoder that nothing stops might never end"
    return reader.max_length
