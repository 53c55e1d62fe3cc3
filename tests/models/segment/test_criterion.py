"""A chosen loss in the semantic networks: of the logits at the pictures' size, of both heads, with weights where it asks for them."""

import numpy as np
import pytest
import torch

from cvtool import losses, weights
from cvtool.categories import numbered
from cvtool.errors import InputError
from cvtool.losses.cross_entropy import cross_entropy
from cvtool.losses.dice import dice
from cvtool.models.segment._semantic import enlarge
from cvtool.results import SemanticMap


@pytest.fixture
def model():
    torch.manual_seed(0)
    return weights.build("deeplab-v3.tiny", categories=numbered(3)).eval()


def batch_of(model, *, weighted=False):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (60, 84, 3), dtype=np.uint8) for _ in range(2)]
    maps = [torch.from_numpy(rng.integers(0, 3, (60, 84))) for _ in range(2)]
    maps[0][:5] = 255
    beside = [torch.from_numpy(rng.uniform(1, 11, (60, 84)).astype(np.float32)) if weighted else None for _ in range(2)]
    return model.prepare(pictures, [SemanticMap(m, weights=w) for m, w in zip(maps, beside, strict=True)])


@pytest.mark.system("dice")
def test_a_sum_of_losses_on_both_heads(model):
    batch = batch_of(model)
    labels = torch.stack([t.labels for t in batch.targets])
    raw = model(batch)
    out = enlarge(raw["out"], batch)
    plain = model.losses(batch)
    torch.testing.assert_close(plain["pixels"], cross_entropy(out, labels))
    model.criterion = losses.compose("dice+0.5*ce", model.criterion_kind)
    found = model.losses(batch)
    torch.testing.assert_close(found["dice"], dice(out, labels))
    torch.testing.assert_close(found["cross_entropy"], 0.5 * cross_entropy(out, labels))
    if "aux" in raw:
        aux = enlarge(raw["aux"], batch)
        torch.testing.assert_close(found["aux"], model.aux_weight * (dice(aux, labels) + 0.5 * cross_entropy(aux, labels)))


@pytest.mark.system("weighted-ce")
def test_pixel_weights_come_with_the_targets_and_follow_them(model):
    model.criterion = losses.compose("weighted-ce", "semantic")
    with pytest.raises(InputError, match="no objects"):
        model.losses(batch_of(model))
    batch = batch_of(model, weighted=True)
    inner = batch.targets[0].weights
    assert inner.shape == batch.images.shape[-2:]
    place = batch.places[0]
    assert (inner[place.inner_height :] == 0).all()  # nothing beyond the picture
    labels, beside = (torch.stack([getattr(t, key) for t in batch.targets]) for key in ("labels", "weights"))
    out = enlarge(model(batch)["out"], batch)
    surprise = torch.nn.functional.cross_entropy(out, labels, ignore_index=255, reduction="none")
    torch.testing.assert_close(model.losses(batch)["weighted_ce"], (beside * surprise).sum() / (labels != 255).sum())
