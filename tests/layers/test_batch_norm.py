"""Batch normalisation of a batch of one at 1 x 1, and torch's own everywhere else."""

import torch
from torch import nn

from cvtool.layers.batch_norm import BatchNorm


def pair():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4, eps=1e-3, momentum=0.03), nn.BatchNorm2d(4, eps=1e-3, momentum=0.03)
    nn.init.normal_(theirs.weight), nn.init.normal_(theirs.bias)
    theirs.running_mean.normal_(), theirs.running_var.uniform_(0.5, 2)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_it_is_torchs_own_where_there_is_a_deviation():
    ours, theirs = pair()
    for shape in [(2, 4, 1, 1), (1, 4, 3, 2), (3, 4, 5, 5)]:
        x = torch.randn(shape)
        torch.testing.assert_close(ours(x), theirs(x))
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)


def test_a_single_value_is_normalised_as_at_prediction():
    ours, theirs = pair()
    x = torch.randn(1, 4, 1, 1)
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
