"""Handwritten digits of scikit-learn as folders of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def digit_folders(tmp_path_factory) -> Path:
    """Ten folders of 30 pictures each, 16 x 16, under train/, and of 10 others under val/."""
    from sklearn.datasets import load_digits

    found, root = load_digits(), tmp_path_factory.mktemp("digits")
    for digit in range(10):
        for place, index in enumerate(np.flatnonzero(found.target == digit)[:40]):
            folder = root / ("train" if place < 30 else "val") / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((found.images[index] * 255 / 16).astype(np.uint8)).resize((16, 16))
            picture.save(folder / f"{index}.png")
    return root
