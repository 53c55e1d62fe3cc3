"""Feature distance: how far apart a network's maps of two pictures are, like LPIPS without learned weights (Zhang 2018, arXiv:1801.03924).

For machines without LPIPS's published weights. As there (eq. 1 with w = 1, their cosine distance of section 3), the maps are taken at several depths
and scaled to length 1 in each place's channels: the last map of each size, until maps grow again. The default network ships: it was trained on
photographs through microscopes, so that its figures rank what is made of pictures and are no LPIPS.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from cvtool.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

KIND = "pictures"
ALIASES = ("perceptual-distance",)
KEYS = {"feature_distance": "distance of a network's features, mean over the pictures"}
LOWER = ("feature_distance",)
DEFAULT = "unet.small@nuclei"


class FeatureDistance:
    """d(x, y) = mean over the sizes of maps of the mean over places of |x' - y'|^2, x', y' of length 1 in each place: from 0 to 4."""

    def __init__(self, model: Any, reference: str) -> None:
        self.model, self.reference = model, reference
        self.prepare = replace(model.prepare, resize=None)  # pictures are seen in their own pixels

    def maps(self, *pictures: np.ndarray) -> list[Any]:
        """H W 3 uint8 of one size each -> of each size B C h w, of length 1 over the channels; what lies over padding is cut off.

        Raises InputError for pictures that the network cannot see, UsageError for a network without such maps.
        """
        import torch

        batch = self.prepare(list(pictures))
        seen: list[torch.Tensor] = []

        def keep(module: Any, given: Any, out: Any) -> None:
            if isinstance(out, torch.Tensor) and out.ndim == 4 and len(out) == len(pictures):
                seen.append(out.clone())  # what follows may write over it

        handles = [module.register_forward_hook(keep) for module in self.model.modules()]
        try:
            with torch.inference_mode():
                (self.model.embed if hasattr(self.model, "embed") else self.model.predict)(batch)
        except (RuntimeError, ValueError) as error:
            size = f"{pictures[0].shape[1]} x {pictures[0].shape[0]}"
            what = f"{self.reference} cannot look at {size} pixels: {(str(error).splitlines() or [''])[0]}"
            raise InputError(what, hint="another network: feature-distance:extractor=REF") from error
        finally:
            for handle in handles:
                handle.remove()
        (height, width), (high, wide) = pictures[0].shape[:2], batch.images.shape[-2:]
        found: list[torch.Tensor] = []
        for out in seen:
            if found and out.shape[-1] > found[-1].shape[-1]:
                break
            if found and out.shape[-2:] == found[-1].shape[-2:]:
                found[-1] = out
            elif min(out.shape[-2:]) > 1:
                found.append(out)
        if seen and not found:
            raise InputError(f"{width} x {height} pixels are too few for {self.reference}", hint="another network: feature-distance:extractor=REF")
        if not found:
            raise UsageError(f"{self.reference} makes no maps of a picture", hint="feature-distance:extractor=REF takes a convolutional network")
        cut = [out[..., : -(-height * out.shape[-2] // high), : -(-width * out.shape[-1] // wide)].float() for out in found]
        return [out / (out.square().sum(1, keepdim=True).sqrt() + 1e-10) for out in cut]

    def __call__(self, true: np.ndarray, found: np.ndarray) -> float:
        """Two pictures of one size -> the distance, 0 for equal ones."""
        each = [(out[0] - out[1]).square().sum(0).mean() for out in self.maps(true, found)]
        return float(sum(each) / len(each))


@cache
def make(*, extractor: str = DEFAULT, offline: bool = False) -> FeatureDistance:
    """extractor: a reference. Raises UsageError, and ModelError where its weights cannot be had."""
    from cvtool import weights

    model, _ = weights.load(extractor, offline=offline)
    if not hasattr(getattr(model, "prepare", None), "sized") or not (hasattr(model, "embed") or hasattr(model, "predict")):
        raise UsageError(f"feature-distance: {extractor} does not look at pictures as they are", hint=f"the default is {DEFAULT}")
    return FeatureDistance(model.eval(), extractor)


def compute(true: np.ndarray, found: np.ndarray, *, extractor: str = DEFAULT) -> dict[str, float]:
    """Two H W 3 uint8 pictures -> `feature_distance`."""
    return {"feature_distance": make(extractor=extractor)(true, found)}
