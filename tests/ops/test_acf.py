"""Aggregate channel features: what each channel sums, and a boosted detector that finds again what it was taught."""

import numpy as np

from cvtool.ops import acf
from cvtool.ops.adaboost import Stumps, adaboost


def stripes(height, width, degrees):
    y, x = np.mgrid[:height, :width]
    return (0.5 + 0.5 * np.sin((x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))) * 0.8)).astype(np.float32)


def test_gradients_go_to_the_channels_of_their_directions():
    for degrees, channel in ((0, 0), (30, 1), (60, 2), (90, 3), (120, 4), (150, 5)):
        cells = acf.channels(stripes(48, 64, degrees)[None])[0, 2:-2, 2:-2]
        share = cells[..., 1:7].mean((0, 1))
        assert share.argmax() == channel
        assert np.allclose(cells[..., 1:7].sum(-1), cells[..., 0], atol=1e-4)
    assert acf.channels(np.full((1, 16, 16), 0.3, np.float32)).shape == (1, 4, 4, acf.CHANNELS)
    assert np.allclose(acf.channels(np.full((1, 16, 16), 0.3, np.float32))[..., 7], 0.3)


def test_crops_show_their_boxes():
    grey = np.arange(40 * 60, dtype=np.float64).reshape(40, 60) % 251
    grey = grey.astype(np.uint8)
    some = acf.crops(grey, np.array([[10, 8, 34, 20], [-5, -5, 200, 200]]), (12, 24))
    assert np.allclose(some[0] * 255, grey[8:20, 10:34], atol=1)
    assert some.shape == (2, 12, 24)
    assert acf.features(grey, np.zeros((0, 4)), (12, 24)).shape == (0, 3 * 6 * 8)


def test_the_detector_finds_its_pattern_at_another_size():
    """Stumps that each ask one cell for upright edges: most say yes where the stripes fill the window."""
    cells = np.arange(3 * 6)
    ones = np.ones(18)
    stumps = Stumps(cells * acf.CHANNELS + 1, 0.4 * ones, ones, ones, 0 * ones)
    grey = np.full((80, 120), 120, np.uint8)
    grey[30:54, 40:88] = (stripes(24, 48, 0) * 255).astype(np.uint8)
    boxes, votes = acf.detect(grey, stumps, (12, 24), count=20)
    x0, y0, x1, y1 = boxes[:5].mean(0)
    shared = max(0, min(x1, 88) - max(x0, 40)) * max(0, min(y1, 54) - max(y0, 30))
    assert shared / ((x1 - x0) * (y1 - y0)) > 0.8
    assert votes[0] == 1
    assert (np.diff(votes) <= 0).all()
    assert len(acf.detect(grey, stumps, (12, 24), count=10**5, least=0.99)[0]) < len(acf.detect(grey, stumps, (12, 24), count=10**5)[0])
    assert len(acf.detect(grey[:5], stumps, (12, 24))[0]) == 0


def test_boosting_on_features_tells_stripes_from_noise():
    rng = np.random.default_rng(0)
    window, whole = (12, 24), np.array([[0, 0, 24, 12]])
    pictures = [rng.integers(90, 160, (12, 24)).astype(np.uint8) for _ in range(20)] + [
        np.clip(255 * stripes(12, 24, 0) + rng.normal(0, 30, (12, 24)), 0, 255).astype(np.uint8) for _ in range(20)
    ]
    x, y = np.concatenate([acf.features(p, whole, window) for p in pictures]).astype(np.float64), np.repeat([-1, 1], 20)
    votes = adaboost(x, y, rounds=10).decide(x)
    assert ((votes >= 0) == (y > 0)).all()
