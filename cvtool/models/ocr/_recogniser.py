"""What recognisers of words and lines share: their characters, and the part that straightens a picture before it is read.

A recogniser has `losses(batch)`, of targets that are `Text`, and `predict(batch, *, ...) -> list[Text]`. What `predict` can be told, and is refused
where it is not in its signature:

    charset     characters that may come out, a part of the model's own (`cvtool.charsets`)
    dictionary  words of which each answer is one
    beam        how many candidates are kept in mind at each step, where the answer is searched
    rectified   True: each answer has the picture as the rectifying part made it
    attention   True: each answer has where the model looked for each character
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvtool import charsets
from cvtool.batch import Batch, Place, Prepare
from cvtool.errors import UsageError
from cvtool.results import Text


class Recogniser(nn.Module):
    """charset: a name of `cvtool.charsets` or the characters themselves. rectify: "none", "affine" or "tps" (`layers/rectifier.py`)."""

    result = Text
    needs = ("text",)
    max_length: int | None = None  # of the texts that it can learn

    def __init__(self, charset: str, prepare: Prepare, rectify: str = "none") -> None:
        super().__init__()
        self.charset, self.prepare = charsets.charset(charset), prepare
        self.labels = {c: label for label, c in enumerate(self.charset)}
        self.rectifier: nn.Module | None = None
        if rectify != "none":
            from cvtool.layers.rectifier import rectifier

            self.rectifier = rectifier(rectify)

    def seen(self, images: Tensor, places: Sequence[Place] | None = None) -> Tensor:
        """B 3 H W -> what the reading part looks at: straightened, where there is a part for that.

        places: those of the batch, where its pictures are padded, so that a picture is straightened as it is alone.
        """
        if self.rectifier is None:
            return images
        extents = None if places is None else images.new_tensor([[place.inner_height, place.inner_width] for place in places])
        return self.rectifier(images, extents)

    def encoded(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text as labels, int64, in [0, len(charset)). Raises UsageError for a character that is not in the set."""
        try:
            return [torch.tensor([self.labels[c] for c in text], dtype=torch.int64) for text in texts]
        except KeyError as error:
            raise UsageError(f"the character '{error.args[0]}' is not in the model's set", hint="--charset names another, in training") from None

    def texts(self, batch: Batch) -> list[str]:
        """Those of a batch's targets."""
        return [target.text for target in batch.targets or []]

    @torch.no_grad()
    def certain(self, batch: Batch) -> list[tuple[str, float]]:
        """What stands in each picture, and how certain that is: the probability of the least certain character, 0 where there is none.

        Raises UsageError for a model that says nothing of its characters.
        """
        answers: list[Text] = self.predict(batch)  # type: ignore[operator]
        if any(answer.characters is None for answer in answers):
            raise UsageError("this model does not say how certain it is of each character", hint="such as -m abinet or -m crnn")
        return [(answer.text, float(answer.characters.min()) if len(answer.characters) else 0.0) for answer in answers]

    def allowed(self, charset: str | None) -> Tensor:
        """len(self.charset) bool: what may come out, all where None. Raises UsageError where nothing may, or more than the model knows."""
        if charset is None:
            return torch.ones(len(self.charset), dtype=torch.bool)
        wanted = set(charsets.charset(charset))
        if unknown := "".join(sorted(wanted - set(self.charset))):
            raise UsageError(f"--charset: the model does not know {unknown[:20]}", hint="it reads " + self.charset[:80])
        both = charset.lower() in ("alnum", "letters")  # small letters by name, capitals meant as well
        return torch.tensor([c in wanted or (both and c.isascii() and c.lower() in wanted) for c in self.charset])

    def pictures(self, images: Tensor, places: Sequence[Place] | None = None) -> list[Any]:
        """B 3 H W as the model sees them -> H W 3 uint8 each, without the padding where the batch's places are given."""
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.prepare.mean, self.prepare.std))
        shown = ((images * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
        if places is None:
            return list(shown.permute(0, 2, 3, 1))
        return [x.permute(1, 2, 0)[: place.inner_height, : place.inner_width] for x, place in zip(shown, places, strict=True)]

    def straightened(self, images: Tensor, wanted: bool, places: Sequence[Place] | None = None) -> list[Any]:
        """For each answer the picture that goes with it: what was `seen` where `wanted`, else None. Raises UsageError where nothing straightens."""
        if wanted and self.rectifier is None:
            raise UsageError("--save-rectified: this model straightens nothing", hint="train one with rectify=tps")
        return self.pictures(images, places) if wanted else [None] * len(images)
