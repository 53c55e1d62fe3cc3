"""What goes between processes comes out as it went in, small tensors without shared memory."""

from __future__ import annotations

import pytest
import torch

from cvtool.batch import Batch, Place
from cvtool.data.loader import Loaded
from cvtool.data.parcel import LARGE, packed
from cvtool.results import Boxes, Labels


def loaded(count: int, size: int) -> Loaded:
    images = torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)
    targets = [Labels(torch.tensor([i])) for i in range(count - 1)] + [Boxes(boxes=torch.rand(2, 4), labels=torch.tensor([0, 1]))]
    batch = Batch(images, torch.zeros(count, size, size, dtype=torch.bool), [Place(size, size, size, size)] * count, targets)
    return Loaded(batch, [f"{i}.png" for i in range(count)], list(range(count)))


def test_a_batch_comes_out_as_it_went_in() -> None:
    one = loaded(32, 48)
    parcel = packed(one)
    assert [tensor.shape for tensor in parcel.large] == [one.batch.images.shape, one.batch.padding.shape]
    other = parcel.opened()
    assert (other.names, other.indices, other.batch.places) == (one.names, one.indices, one.batch.places)
    assert torch.equal(other.batch.images, one.batch.images)
    assert other.batch.images.stride() == one.batch.images.stride()
    for mine, theirs in zip(one.batch.targets, other.batch.targets, strict=True):
        assert type(mine) is type(theirs)
        assert torch.equal(mine.labels, theirs.labels)
    assert torch.equal(other.batch.targets[-1].boxes, one.batch.targets[-1].boxes)
    other.batch.targets[0].labels.add_(1)  # what came by value may be written to


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, dtype=torch.bfloat16),
        torch.arange(12.0).view(3, 4).t(),
        torch.zeros(0, 4),
        torch.tensor(2),
        torch.tensor([True]),
        torch.zeros(LARGE, dtype=torch.uint8),
    ],
)
def test_every_kind_of_tensor_stays_what_it_is(tensor: torch.Tensor) -> None:
    found = packed({"it": tensor}).opened()["it"]
    assert (found.dtype, found.shape, found.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert torch.equal(found, tensor)
