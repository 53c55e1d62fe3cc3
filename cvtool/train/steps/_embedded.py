"""Every picture of a data set as the model embeds it now."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cvtool.errors import InputError


@torch.no_grad()
def embedded(model: Any, loader: Any) -> np.ndarray:
    """N D float64, without augmentation, in eval mode; rows of NaN for pictures that cannot be read. Draws no random numbers."""
    dataset, was = loader.dataset, model.training
    device = next(model.parameters()).device
    model.eval()
    found: list[np.ndarray] = []
    places: list[int] = []
    try:
        for begin in range(0, len(dataset), loader.batch_size):
            pixels = []
            for index in range(begin, min(begin + loader.batch_size, len(dataset))):
                try:
                    pixels.append(dataset.pixels(index))
                    places.append(index)
                except InputError:
                    continue
            if pixels:
                found.append(model.embed(model.prepare(pixels).to(device)).double().cpu().numpy())
    finally:
        model.train(was)
    if not found:
        raise InputError("none of the pictures can be read", where=dataset.records[0].get("file_name"))
    out = np.full((len(dataset), found[0].shape[1]), np.nan)
    out[places] = np.concatenate(found)
    return out
