"""Real digits, 8 x 8, and how two players learn them without the loop's bookkeeping."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.results import Labels
from cvtool.train import recipe as recipes
from cvtool.train.steps import gan


@pytest.fixture(scope="session")
def digits():
    """The UCI digits that come with scikit-learn: pictures N 8 8 in [0, 1] and labels N."""
    found = load_digits()
    return SimpleNamespace(pictures=(found.images / 16).astype(np.float32), labels=found.target)


@pytest.fixture(scope="session")
def digit_folder(digits, tmp_path_factory):
    """Twelve of each of three classes as a data set."""
    folder = tmp_path_factory.mktemp("digits")
    for label in (0, 1, 3):
        (folder / str(label)).mkdir()
        for i in np.flatnonzero(digits.labels == label)[:12]:
            Image.fromarray((digits.pictures[i] * 255).astype(np.uint8)).save(folder / str(label) / f"{i:04}.png")
    return folder


@pytest.fixture
def taught(digits):
    """`taught("cgan.tiny", 600, gan_loss="wgan")`: the step after so many turns on the first 600 digits."""

    def teach(reference, turns, *, arguments=None, **settings):
        torch.manual_seed(0)
        model = weights.build(reference, categories=numbered(10), image_size=8, **(arguments or {})).train()
        step = gan.make(model, recipes.DEFAULTS | gan.SETTINGS | {"lr": 1e-3, "weight_decay": 0.0} | settings)
        pictures = torch.from_numpy(digits.pictures[:600])[:, None].expand(-1, 3, -1, -1) * (model.high - model.low) + model.low
        phases = step.phases()
        for turn in range(turns):
            chosen = torch.randint(600, (60,))
            targets = [Labels(torch.tensor([digits.labels[i]])) for i in chosen.tolist()]
            batch = Batch(pictures[chosen], torch.zeros(60, 8, 8, dtype=torch.bool), [None] * 60, targets)
            for phase in (one for one in phases if one.due(turn)):
                for other in phases:
                    for p in other.params:
                        p.requires_grad_(other is phase)
                phase.optimizer.zero_grad(set_to_none=True)
                torch.stack(list(phase.losses(batch).values())).sum().backward()
                phase.optimizer.step()
            step.after(batch)
        return step

    return teach
