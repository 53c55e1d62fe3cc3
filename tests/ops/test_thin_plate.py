"""Thin-plate splines beside scipy's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from cvtool.ops.thin_plate import kernel, solver, spline


@pytest.mark.system("stn-rectify")
@settings(max_examples=25, deadline=None)
@given(st.integers(4, 20), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_it_equals_scipys(centres, points, seed):
    rng = np.random.default_rng(seed)
    c, v, p = rng.uniform(-1, 1, (centres, 2)), rng.normal(size=(2, centres, 2)), rng.uniform(-1.5, 1.5, (points, 2))
    ours = spline(*(torch.from_numpy(a) for a in (c, v, p)))
    for values, found in zip(v, ours, strict=True):
        wanted = RBFInterpolator(c, values, kernel="thin_plate_spline", degree=1)(p)
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(found.numpy() / scale, wanted / scale, atol=1e-6)


@pytest.mark.system("stn-rectify")
def test_it_goes_through_its_points_and_bends_no_plane():
    g = torch.Generator().manual_seed(0)
    c, v = torch.rand(8, 2, generator=g), torch.rand(1, 8, 3, generator=g)
    torch.testing.assert_close(spline(c, v, c), v, atol=1e-4, rtol=0)
    plane = lambda at: at @ torch.tensor([[2.0, -1.0], [0.5, 3.0]]) + torch.tensor([4.0, 5.0])  # noqa: E731
    at = torch.rand(1, 50, 2, generator=g) * 3 - 1
    torch.testing.assert_close(spline(c, plane(c)[None], at), plane(at), atol=1e-3, rtol=0)


def test_the_kernel_is_0_at_its_centre_and_the_weights_meet_the_conditions():
    c = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    rows = kernel(c, c)
    assert rows[:, :4].diagonal().tolist() == [0, 0, 0, 0]
    assert rows[0, 3] == pytest.approx(13 * np.log(13) / 2)  # r = sqrt(13)
    w = solver(c)[:4]  # for each value the weights
    assert w.sum(0).abs().max() < 1e-9
    assert (c.T @ w).abs().max() < 1e-9
