"""Stacks of dilated convolutions: the field doubles with every layer."""

import pytest
import torch
from torch import nn

from cvtool.layers.dilated import DilatedStack
from cvtool.metrics.cost import cost
from cvtool.ops.conv import receptive_field


def positive(stack):
    for layer in stack:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)
    return stack.double()


@pytest.mark.system("dilated-conv")
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_the_field_of_l_layers_is_2_to_the_l_plus_1_less_1(layers):
    stack = positive(DilatedStack(1, layers))
    assert stack.field == 2 ** (layers + 1) - 1
    assert receptive_field(stack, channels=1, size=81) == (stack.field, stack.field)
    assert stack(torch.ones(1, 1, 20, 30, dtype=torch.float64)).shape == (1, 1, 20, 30)


@pytest.mark.system("dilated-conv")
@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_counted_from_layer_nought_with_rate_2_to_the_l_it_is_2_to_the_l_plus_2_less_1(last):
    stack = positive(DilatedStack(1, rates=tuple(2**i for i in range(last + 1))))
    assert receptive_field(stack, channels=1, size=49)[0] == 2 ** (last + 2) - 1


@pytest.mark.system("dilated-conv")
def test_parameters_and_products_do_not_depend_on_the_rates():
    stacks = [DilatedStack(8, rates=rates) for rates in ((1, 1, 1), (1, 2, 4), (3, 3, 3))]
    x = torch.zeros(1, 8, 24, 24)
    found = [cost(stack, lambda stack=stack: stack(x)) for stack in stacks]
    assert len({(one.parameters, one.macs) for one in found}) == 1
    assert found[0].parameters == 3 * (8 * 8 * 9 + 8)
