"""LPIPS: how far apart a trained network's maps of two pictures are, weighted as people judge (Zhang 2018, arXiv:1801.03924, eq. 1)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool.errors import InputError, ModelError, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

KIND = "pictures"
ALIASES = ("learned-perceptual-image-patch-similarity",)
KEYS = {"LPIPS": "learned perceptual distance, mean over the pictures"}
LOWER = ("LPIPS",)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1]: the published heads were trained with these
BASE = "https://github.com/richzhang/PerceptualSimilarity/raw/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1"
# the classifier, the layers of its `features` behind which the maps are taken, and the published weights of the heads
NETS: dict[str, dict[str, Any]] = {
    "alex": {
        "trunk": "alexnet",
        "layers": (1, 4, 7, 9, 11),
        "heads": {"url": f"{BASE}/alex.pth", "sha256": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"},
    },
    "vgg": {
        "trunk": "vgg.16",
        "layers": (3, 8, 15, 22, 29),
        "heads": {"url": f"{BASE}/vgg.pth", "sha256": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"},
    },
    "squeeze": {
        "trunk": "squeezenet.1-1",
        "layers": (1, 4, 7, 9, 10, 11, 12),
        "heads": {"url": f"{BASE}/squeeze.pth", "sha256": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"},
    },
}


class LPIPS:
    """d(x, y) = sum over layers of the mean over places of w . (x' - y')^2, where x', y' are maps of length 1 in each place's channels.

    features: the trunk's chain of layers; places: behind which of them the maps are taken; heads: w of each, C float.
    """

    def __init__(self, features: Any, places: tuple[int, ...], heads: list[Any]) -> None:
        self.features, self.places, self.heads = features, places, heads

    def maps(self, pixels: np.ndarray) -> list[Any]:
        """H W 3 uint8 -> of each layer C h w, of length 1 over the channels."""
        import torch

        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1  # 1 3 H W
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x, found = (x - shift) / scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.places:
                found.append((x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))[0])
            if number == self.places[-1]:
                break
        return found

    def __call__(self, true: np.ndarray, found: np.ndarray) -> float:
        """Two pictures of one size -> the distance, 0 for equal ones. Raises InputError for pictures too small for the layers."""
        import torch

        with torch.inference_mode():
            try:
                pairs = list(zip(self.heads, self.maps(true), self.maps(found), strict=True))
            except RuntimeError as error:
                size = f"{true.shape[1]} x {true.shape[0]}"
                raise InputError(f"LPIPS cannot look at {size} pixels: {str(error).splitlines()[0]}", hint="its layers halve a picture") from error
            return float(sum((head[:, None, None] * (a - b).square()).sum(0).mean() for head, a, b in pairs))


def heads_of(path: Path) -> list[Any]:
    """The heads in a published file, `lin0.model.1.weight` (1 C 1 1) and so on -> C each. Raises ModelError for another file."""
    from cvtool.checkpoint import read_foreign

    state = read_foreign(path)
    names = sorted(
        (name for name in state if name.endswith(".weight")), key=lambda name: int("".join(c for c in name.partition(".")[0] if c.isdigit()) or 0)
    )
    if not names or any(state[name].ndim != 4 or state[name].shape[0] != 1 for name in names):
        raise ModelError("these are no heads of LPIPS", where=path, hint="a file such as lpips/weights/v0.1/alex.pth")
    return [state[name].flatten().float() for name in names]


def at_hand(net: str = "alex") -> bool:
    """Whether the heads and the trunk are on this machine, without looking into them."""
    from cvtool import download, registry, weights

    known = NETS[net]
    return bool(download.cached(known["heads"]) and download.cached(weights.facts_of(registry.parse(known["trunk"]))))


@cache
def make(*, net: str = "alex", trunk: str = "", heads: str = "", offline: bool = False) -> LPIPS:
    """net: alex (the authors' choice for measuring), vgg or squeeze. trunk: another reference or file of that network; heads: a file of its heads.

    Raises UsageError, and ModelError where weights cannot be had.
    """
    if net not in NETS:
        raise UsageError(f"lpips: unknown net '{net}'", hint=did_you_mean(net, NETS) or "nets: " + ", ".join(NETS))
    from cvtool import download, weights

    known = NETS[net]
    path = Path(heads) if heads else download.fetch(known["heads"], name=f"lpips {net}", offline=offline)
    found = heads_of(path)
    model, _ = weights.load(trunk or known["trunk"], offline=offline)
    chain = getattr(getattr(model, "net", None), "features", None)
    if chain is None or len(chain) <= known["layers"][-1]:
        raise ModelError(f"{trunk} has no chain of layers as {net} has", hint=f"lpips:net={net} compares the maps of {known['trunk']}")
    if len(found) != len(known["layers"]):
        raise ModelError(f"{net} is compared at {len(known['layers'])} layers, and these are {len(found)} heads", where=path)
    for module in chain:
        if hasattr(module, "inplace"):
            module.inplace = False  # else a map would be overwritten by the layer behind it
    return LPIPS(chain, known["layers"], found)


def compute(true: np.ndarray, found: np.ndarray, *, net: str = "alex", trunk: str = "", heads: str = "") -> dict[str, float]:
    """Two H W 3 uint8 pictures -> `LPIPS`."""
    return {"LPIPS": make(net=net, trunk=trunk, heads=heads)(true, found)}
