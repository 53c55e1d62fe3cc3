"""`visualize gram` and `visualize focal-cdf`: their numbers are those of the losses, and the pictures show them."""

import math

import numpy as np
import pytest
import torch

from cvtool.errors import UsageError
from cvtool.losses.focal import focal
from cvtool.losses.gram_style import gram as gram_matrix
from cvtool.render import figures
from cvtool.render.figures import _chart, focal_cdf, gram
from cvtool.render.palette import instance

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 84, 3), np.uint8)
GRAM = {"features": "vgg.tiny@none", "layers": "relu1_1,relu2_1", "tiles": 3}
CDF = {"gammas": "0,2", "detector": "", "truth": "", "pictures": 4}


@pytest.mark.system("gram-style")
def test_the_gram_figure_draws_the_losses_matrices():
    from cvtool.layers.features import shared

    (drawn,) = gram.matrices(PICTURE, "vgg.tiny@none", ["relu2_1"])
    (maps,) = shared("vgg.tiny@none")(torch.from_numpy(PICTURE).permute(2, 0, 1)[None] / 255, ["relu2_1"])
    np.testing.assert_allclose(drawn, gram_matrix(maps)[0].detach().numpy() / maps[0, 0].numel(), rtol=1e-5)
    np.testing.assert_allclose(drawn, drawn.T)


@pytest.mark.system("gram-style")
def test_the_gram_figure_shows_that_places_do_not_matter():
    mixed = gram.disordered(PICTURE, 6)
    assert sorted(map(tuple, mixed.reshape(-1, 3).tolist())) == sorted(map(tuple, PICTURE.reshape(-1, 3).tolist()))
    assert (mixed != PICTURE).mean() > 0.5
    even = np.full((60, 84, 3), (200, 40, 90), np.uint8)
    image = np.asarray(figures.draw("gram", even, GRAM))
    panel = image[-60 - 2 * gram.SIDE - 60 :, 400 : 400 + gram.SIDE]
    assert len({tuple(v) for v in panel.reshape(-1, 3)}) > 8  # a matrix in colours
    other = np.asarray(figures.draw("gram", PICTURE, GRAM))
    assert other.shape[1] == image.shape[1]
    assert (other != np.asarray(figures.draw("gram", PICTURE, GRAM | {"tiles": 2}))).any()


@pytest.mark.parametrize(("change", "says"), [({"layers": "relu9_1"}, "no layer"), ({"layers": ""}, "one to four"), ({"tiles": 0}, "between 1 and")])
def test_the_gram_figure_tells_what_is_wrong(change, says):
    with pytest.raises(UsageError, match=says):
        figures.draw("gram", PICTURE, GRAM | change)


@pytest.mark.system("focal")
def test_the_curves_are_cumulative_sums_of_the_focal_loss():
    rng = np.random.default_rng(1)
    p_t = rng.uniform(0.01, 0.99, 400)
    for gamma in (0.0, 0.5, 2.0):
        each = focal(torch.from_numpy(p_t).logit(), torch.ones(400, dtype=torch.float64), alpha=None, gamma=gamma, reduction="none").tolist()
        each.sort()
        found = focal_cdf.contributions(p_t, gamma)
        for share in (0, 50, 100, 150, 200):
            assert found[share] == pytest.approx(sum(each[: 2 * share]) / sum(each), abs=1e-6)
    assert found[0] == 0
    assert found[-1] == pytest.approx(1)
    assert (np.diff(found) >= 0).all()
    assert focal_cdf.contributions(np.ones(5), 2.0)[-1] == 0


@pytest.mark.system("focal")
def test_the_more_gamma_the_less_the_easy_background_counts_and_the_figure_shows_it():
    foreground, background = focal_cdf.made_up()
    hardest = {
        name: [1 - focal_cdf.contributions(p, gamma)[180] for gamma in (0, 0.5, 1, 2)] for name, p in (("fore", foreground), ("back", background))
    }
    assert hardest["back"] == sorted(hardest["back"])
    assert hardest["back"][-1] > 0.95
    assert hardest["back"][-1] - hardest["back"][0] > 1.5 * (hardest["fore"][-1] - hardest["fore"][0])
    image = np.asarray(figures.draw("focal-cdf", None, CDF))
    half = image.shape[1] // 2
    for i in range(2):
        for side in (image[:, :half], image[:, half:]):
            assert (side == instance(i)).all(axis=2).sum() > 300  # a curve of each exponent in each panel


@pytest.mark.system("focal")
def test_the_figure_of_a_real_detector(data):
    foreground, background = focal_cdf.measured("retinanet.small@bccd", str(data / "bccd"), 1)
    assert len(background) > 50 * len(foreground) > 0
    assert foreground.mean() > 0.2  # untrained it says 0.01 everywhere
    assert background.mean() > 0.95
    assert np.isfinite(foreground).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gammas": "-1"}, "not above"),
        ({"detector": "retinanet.small@bccd"}, "go together"),
        ({"gammas": ",".join("123456789")}, "eight"),
        ({"pictures": 0}, "between 1 and"),
    ],
)
def test_the_figure_tells_what_is_wrong(change, says):
    with pytest.raises(UsageError, match=says):
        figures.draw("focal-cdf", None, CDF | change)


def test_round_numbers_on_the_axes():
    assert _chart.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert _chart.ticks(-3, 3) == [-2, 0, 2]
    assert all(math.isclose(t, round(t, 6)) for t in _chart.ticks(0.1, 0.7))
