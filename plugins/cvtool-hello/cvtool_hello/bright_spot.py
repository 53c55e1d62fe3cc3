"""Bright spot: the connected region around the brightest pixel, as one box (an example, 2026)."""

import torch
import torch.nn.functional as F

from cvtool.batch import Batch, Prepare
from cvtool.results import Boxes

VERB = "detect"
CATEGORIES = ["bright spot"]  # what it finds; a model that is trained has that in its weights
VARIANTS = {"spot": {"share": 0.9}, "tiny": {"share": 0.9, "size": 64}}


class BrightSpot:
    """share: a pixel belongs to the spot if it is at least so bright, as a part of the brightest pixel's luminance."""

    def __init__(self, share: float, size: int) -> None:
        self.share, self.prepare = share, Prepare(resize="longest", size=size, mean=(0, 0, 0), std=(1, 1, 1))

    def predict(self, batch: Batch) -> list[Boxes]:
        """One box a picture, in its own pixels; its score is the brightest pixel's luminance."""
        luminance = (batch.images * batch.images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1)  # B H W
        return [self._one(image, place) for image, place in zip(luminance, batch.places, strict=True)]

    def _one(self, image, place) -> Boxes:
        bright, spot = image >= self.share * image.max(), torch.zeros_like(image)
        spot.view(-1)[image.argmax()] = 1
        while spot.sum() < (spot := F.max_pool2d(spot[None], 3, stride=1, padding=1)[0] * bright).sum():
            pass  # it grows into the bright pixels around, until nothing is added
        rows, columns = spot.any(dim=1).nonzero(), spot.any(dim=0).nonzero()
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        return Boxes(boxes=place.boxes_back(box[None]), labels=torch.zeros(1, dtype=torch.long), scores=image.max().view(1))


def build(*, classes: int = 1, share: float, size: int = 640) -> BrightSpot:
    return BrightSpot(share, size)
