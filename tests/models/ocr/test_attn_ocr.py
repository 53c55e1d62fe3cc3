"""Attn-OCR: one convolution passed through several times, and where the decoder looked for each character."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_words import word

from cvtool import weights
from cvtool.errors import UsageError
from cvtool.models.ocr.attn_ocr import Recursive
from cvtool.results import Text


def built(variant="tiny", seed=0, **changes):
    torch.manual_seed(seed)
    return weights.build(f"attn-ocr.{variant}", categories=[], **changes).eval()


@pytest.mark.system("attn-ocr")
@pytest.mark.parametrize("recursions", [0, 1, 3])
def test_a_recursive_layer_sees_farther_with_the_same_weights(recursions):
    torch.manual_seed(0)
    layer = Recursive(2, 4, recursions).eval()
    with torch.no_grad():  # nothing below 0, where a gradient would end
        layer.first.weight.abs_()
        layer.again.weight.abs_()
    assert sum(p.numel() for name, p in layer.named_parameters() if "norms" not in name) == 2 * 4 * 9 + 4 * 4 * 9
    x = torch.rand(1, 2, 15, 15, requires_grad=True)
    expected = F.relu(F.conv2d(x, layer.first.weight, padding=1) / (1 + 1e-5) ** 0.5)
    for _ in range(recursions):
        expected = F.relu(F.conv2d(expected, layer.again.weight, padding=1) / (1 + 1e-5) ** 0.5)
    found = layer(x)
    torch.testing.assert_close(found, expected)
    found[0, :, 7, 7].sum().backward()
    rows = (x.grad[0].abs().sum(0).sum(1) > 0).nonzero()[:, 0]
    assert (int(rows.min()), int(rows.max())) == (6 - recursions, 8 + recursions)


@pytest.mark.system("attn-ocr")
def test_it_learns_eight_words_by_heart_and_says_where_it_looked_for_each_character():
    texts = ["cat", "dog", "pool", "112", "fox", "ape", "zoo", "x"]
    rng = np.random.default_rng(0)
    model = built(widths=(8, 16, 32, 32), hidden=48).train()
    batch = model.prepare([word(text, rng) for text in texts], [Text(text) for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.losses(batch)["text"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if float(loss.detach()) < 0.01:
            break
    for _ in range(20):  # the norms' running statistics
        model(batch.images, batch.padding)
    model.eval()
    answers = model.predict(batch, attention=True)
    assert [answer.text for answer in answers] == texts
    for answer in answers:
        assert answer.attention.shape == (len(answer.text), 4, 8)
        torch.testing.assert_close(answer.attention.sum((1, 2)), torch.ones(len(answer.text)))
        assert answer.characters.shape == (len(answer.text),)
        assert answer.score > 0.5
    assert all(answer.attention is None for answer in model.predict(batch))
    assert [answer.text for answer in model.predict(batch, beam=3)] == texts
    assert [answer.text for answer in model.predict(batch, dictionary=[*texts, "zebra"])] == texts
    assert all(answer.text.isdigit() or not answer.text for answer in model.predict(batch, charset="digits"))


def test_a_straightened_picture_is_shown():
    model = built(rectify="tps")
    batch = model.prepare([np.zeros((20, 50, 3), np.uint8)])
    assert model.predict(batch, rectified=True)[0].rectified.shape == (32, 32, 3)
    with pytest.raises(UsageError, match="straightens nothing"):
        built().predict(batch, rectified=True)


@pytest.mark.parametrize(
    ("change", "what"), [({"widths": (8,)}, "four layers"), ({"cell": "rnn"}, "unknown cell"), ({"size": (30, 64)}, "multiple of 8")]
)
def test_what_cannot_be_built_is_said(change, what):
    with pytest.raises(UsageError, match=what):
        built(**change)
