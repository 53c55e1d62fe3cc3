"""PatchMatch: each hole patch takes after its nearest known patch, searched at random (Barnes 2009, doi:10.1145/1531326.1531330).

The hole is filled so that every patch that touches it looks like one somewhere outside (Wexler 2007, eq. 1), from coarse to fine. On each level two
steps take turns. Search: for every target patch the nearest source patch, by random initialisation, propagation (a neighbour's source, moved along)
and random search (around the best so far, in windows that halve; Barnes sections 3.1 to 3.2). All targets move at once, so that propagation jumps 8,
4, 2, 1 pixels instead of sweeping. Vote: a hole pixel becomes the mean of what the patches over it say, weighted by likeness and by nearness to
what is known (Wexler eq. 4 to 6); on the finest level at last it becomes what the likeliest of them says, so that edges stay sharp.

Patches are compared by their first principal components, those of the picture's own patches: 24 numbers instead of 147 give nearly the same
distance for a sixth of the work. Nothing is learned, any size will do, and what is nowhere in the picture cannot be filled in.

    cvtool inpaint photo.jpg --mask hole.png -m patchmatch -o clean.jpg
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import Prepare
from cvtool.errors import UsageError
from cvtool.ops.pyramid import halved, push_pull
from cvtool.results import Picture

VARIANTS = {"base": {}, "tiny": {"patch": 5, "components": 12, "turns": 3}}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
CATEGORIES: list = []
RECIPE: dict[str, object] = {}

JUMPS = (8, 4, 2, 1)  # pixels from which propagation takes, one after the other
SHARP = 1.0  # how far a vote reaches, in mean distances of the patches over a pixel
NEAR = 1.3  # Wexler's gamma: what a vote loses for each pixel that its patch lies farther inside the hole
SAMPLES = 8192  # patches that the components are computed of
SOURCES = 4096  # patches that are compared with each other one by one, on the coarsest level
TEXTURE = 7.0  # what texture counts beside colour: the root of Newson's lambda, 50
AROUND = 9  # pixels over which it is averaged


@dataclass
class _Level:
    """One level of the pyramid, with a margin of r pixels in which the picture is mirrored.

    image: 3 H W. hole: H W bool. targets: T, places (flat, of the picture with its margin) of the patches that touch the hole. number: H*W, a
    place's position in `targets`, or -1. source: H*W bool, whether the patch there is known and whole. table: H*W K, the components of every patch.
    """

    image: Tensor
    hole: Tensor
    targets: Tensor
    number: Tensor
    source: Tensor
    near: Tensor  # T, weight by nearness to what is known
    axes: Tensor  # K 3 p p
    table: Tensor

    @property
    def width(self) -> int:
        return self.image.shape[2]


class PatchMatch:
    """patch: side of the patches, odd. components: numbers by which two are compared. turns: of search and vote on the finest level; coarser levels
    have more."""

    result = Picture
    conditional = 0

    def __init__(self, *, patch: int, components: int, turns: int) -> None:
        self.patch, self.components, self.turns = patch, components, turns
        self.prepare = Prepare(mean=(0.0,) * 3, std=(1.0,) * 3)

    @torch.no_grad()
    def fill(self, images: Tensor, masks: Tensor, seed: int = 0, *, patch: int | None = None) -> Tensor:
        """B 3 H W in [0, 1] and B 1 H W bool, True = hole -> B 3 H W, outside the hole as it was. patch: side of the patches, odd.

        Raises UsageError for a patch that is no odd number from 3 to 31.
        """
        side = checked(self.patch if patch is None else patch)
        return torch.stack([self._filled(image, mask[0], seed, side) for image, mask in zip(images.float(), masks.bool(), strict=True)])

    def _filled(self, image: Tensor, hole: Tensor, seed: int, side: int) -> Tensor:
        if not hole.any() or hole.all():
            return image
        chance = torch.Generator().manual_seed(seed)
        smooth = push_pull(image, ~hole)
        while side >= 3 and not _whole(hole, side):  # a hole so scattered that no patch is whole
            side -= 2
        if side < 3:
            return smooth
        levels = [(torch.cat([smooth, _texture(smooth, hole)]), hole)]
        while _deep(levels[-1][1], side) and min(levels[-1][1].shape) >= 4 * side:
            smaller = halved(*levels[-1])
            if not _whole(smaller[1], side):
                break
            levels.append(smaller)
        field: Tensor | None = None  # target places' sources as rows and columns of the level before
        levels[-1] = (_peeled(*levels[-1], side, chance), levels[-1][1])
        for depth in range(len(levels) - 1, -1, -1):
            level = self._level(*levels[depth], side, chance)
            sources = self._start(level, field, side, chance)
            if field is not None:
                _vote(level, sources, self._distances(level, sources), side)
            for turn in range(self.turns + 3 * depth):
                sources, distances = self._search(level, sources, side, chance)
                last = depth == 0 and turn == self.turns - 1
                _vote(level, sources, distances, side, best=last)
            radius = side // 2
            made = level.image[:, radius:-radius, radius:-radius]
            field = _as_field(level, sources, side)
        return torch.where(hole, made[:3], image)

    def _level(self, image: Tensor, hole: Tensor, side: int, chance: torch.Generator) -> _Level:
        r = side // 2
        image = _mirrored(image, r)
        hole = _mirrored(hole[None].float(), r)[0] > 0
        height, width = hole.shape
        inner = torch.zeros_like(hole)
        inner[r : height - r, r : width - r] = True
        touched = F.max_pool2d(hole[None].float(), side, 1, r)[0] > 0
        targets = (touched & inner).view(-1).nonzero()[:, 0]
        number = torch.full((height * width,), -1, dtype=torch.int64, device=image.device)
        number[targets] = torch.arange(len(targets), device=image.device)
        source = (~touched & inner).view(-1)
        inside = torch.zeros_like(hole, dtype=torch.float32)
        shell, depth = hole, 0
        while shell.any() and depth < 24:  # how deep in the hole, up to where its weight no longer counts
            inside += shell
            shell = F.max_pool2d((~shell)[None].float(), 3, 1, 1)[0] < 1
            depth += 1
        near = (NEAR ** -inside.view(-1)[targets]).clamp_min(1e-3)
        axes = self._axes(image, source, side, chance)
        return _Level(image, hole, targets, number, source, near, axes, _components(image, axes))

    def _axes(self, image: Tensor, source: Tensor, side: int, chance: torch.Generator) -> Tensor:
        """The first principal components of some of the source patches (not centred: the mean is one of what counts), K 3 p p."""
        places = source.nonzero()[:, 0]
        some = places[torch.randint(len(places), (min(SAMPLES, len(places)),), generator=chance).to(places.device)]
        patches = _patches(image, some, side)  # S 3pp
        _, vectors = torch.linalg.eigh((patches.T @ patches).double())
        count = min(self.components, vectors.shape[1])
        return vectors.flip(1)[:, :count].T.float().contiguous().view(count, len(image), side, side)

    def _start(self, level: _Level, field: Tensor | None, side: int, chance: torch.Generator) -> Tensor:
        """Sources T to begin with: those of the level before, twice as far; random ones where there are none, or what they name is no source."""
        places = level.source.nonzero()[:, 0]
        count = len(level.targets)
        random = places[torch.randint(len(places), (count,), generator=chance).to(places.device)]
        if field is None:
            return random
        r, width = side // 2, level.width
        rows, columns = level.targets // width - r, level.targets % width - r
        above = field[:, (rows // 2).clamp(max=field.shape[1] - 1), (columns // 2).clamp(max=field.shape[2] - 1)]  # 2 T
        height = level.hole.shape[0]
        y = (2 * above[0] + rows % 2).clamp(0, height - 2 * r - 1) + r
        x = (2 * above[1] + columns % 2).clamp(0, width - 2 * r - 1) + r
        found = y * width + x
        return torch.where((above[0] >= 0) & level.source[found], found, random)

    def _distances(self, level: _Level, sources: Tensor) -> Tensor:
        """T: squared distance of each target from its source, in components."""
        own = level.table[level.targets].float()
        return (level.table[sources].float() - own).square_().sum(1)

    def _search(self, level: _Level, sources: Tensor, side: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        """Better sources T and their distances T."""
        r, width, height = side // 2, level.width, level.hole.shape[0]
        device = sources.device
        own = level.table[level.targets].float()
        best = (level.table[sources].float() - own).square_().sum(1)

        def consider(rows: Tensor, columns: Tensor, which: Tensor | None) -> None:
            """Candidates for the targets `which` (all), at rows and columns; those that are no source do not count."""
            nonlocal sources, best
            here = rows.clamp_(r, height - r - 1) * width + columns.clamp_(r, width - r - 1)
            good = level.source[here]
            which = good.nonzero()[:, 0] if which is None else which[good]
            here = here[good]
            distance = (level.table[here].float() - own[which]).square_().sum(1)
            better = distance < best[which]
            which = which[better]
            best[which] = distance[better]
            sources[which] = here[better]

        sources = sources.clone()
        for jump in JUMPS:
            for step, dy, dx in ((jump, 0, jump), (-jump, 0, -jump), (jump * width, jump, 0), (-jump * width, -jump, 0)):
                place = level.targets - step
                neighbour = level.number[place.clamp(0, len(level.number) - 1)]
                which = (neighbour >= 0).nonzero()[:, 0]
                theirs = sources[neighbour[which]]
                consider(theirs // width + dy, theirs % width + dx, which)
        radius = float(max(height, width))
        while radius >= 1:
            moves = (torch.rand(2, len(sources), generator=chance).to(device) * 2 - 1) * radius
            dy, dx = moves.round().long()
            consider(sources // width + dy, sources % width + dx, None)
            radius /= 2
        return sources, best


def checked(patch: int) -> int:
    """A side of patches. Raises UsageError."""
    if not 3 <= patch <= 31 or patch % 2 == 0:
        raise UsageError(f"--patch {patch}: the side of a patch is an odd number from 3 to 31")
    return patch


def _mirrored(maps: Tensor, margin: int) -> Tensor:
    """C H W with `margin` pixels more at each side: mirrored where the picture is large enough, else its edge repeated."""
    mode = "reflect" if min(maps.shape[1:]) > margin else "replicate"
    return F.pad(maps[None], (margin,) * 4, mode=mode)[0]


def _whole(hole: Tensor, side: int) -> bool:
    """Whether some patch of H W lies outside the hole."""
    return min(hole.shape) >= side and bool((F.max_pool2d(hole[None].float(), side, 1) < 1).any())


def _deep(hole: Tensor, side: int) -> bool:
    """Whether some patch is hole and nothing else, so that a coarser level has to say what is in it."""
    return bool((F.avg_pool2d(hole[None].float(), min(side, *hole.shape), 1) > 0.999).any())


def _texture(image: Tensor, hole: Tensor) -> Tensor:
    """2 H W: how much the picture changes across and down, on average around each pixel (Newson 2014, section 3.3): it tells a wall from a shelf of
    the same colour, where the hole is so large that nothing else does."""
    gray, known = image.mean(0, keepdim=True), (~hole)[None].float()
    found = []
    for axis in (1, 2):
        change, both = F.pad(gray.diff(dim=axis).abs(), (0, axis - 1, 0, 2 - axis)), F.pad(known[:, 1:] * known[:, :-1] if axis == 1 else known[..., 1:] * known[..., :-1], (0, axis - 1, 0, 2 - axis))
        around = [F.avg_pool2d(x[None], AROUND, 1, AROUND // 2)[0] for x in (change * both, both)]
        found.append(push_pull(around[0] / around[1].clamp_min(1e-6), around[1][0] > 0))
    return TEXTURE * torch.cat(found)


def _peeled(image: Tensor, hole: Tensor, side: int, chance: torch.Generator) -> Tensor:
    """3 H W with the hole filled from its rim inwards, a pixel at a time: each takes after the patch that is nearest in what is known by then."""
    r = side // 2
    image, unknown = _mirrored(image, r).clone(), _mirrored(hole[None].float(), r)[0] > 0
    inner = torch.zeros_like(unknown)
    inner[r:-r, r:-r] = True
    places = ((F.max_pool2d(unknown[None].float(), side, 1, r)[0] < 1) & inner).view(-1).nonzero()[:, 0]
    if len(places) > SOURCES:
        places = places[torch.randperm(len(places), generator=chance)[:SOURCES].to(places.device)]
    sources = _patches(image, places, side)  # S 3pp
    squares = sources.square()
    flat = image.view(len(image), -1)
    while bool((rim := unknown & inner & (F.max_pool2d((~unknown)[None].float(), 3, 1, 1)[0] > 0)).any()):
        for here in rim.view(-1).nonzero()[:, 0].split(1024):
            weights = _patches((~unknown)[None].expand(len(image), -1, -1).float(), here, side)
            own = _patches(image, here, side)
            distances = weights @ squares.T - 2 * (weights * own) @ sources.T  # less what all sources of a target have in common
            flat[:, here] = flat[:, places[distances.argmin(1)]]
        unknown = unknown & ~rim
        unknown = _mirrored(unknown[None, r:-r, r:-r].float(), r)[0] > 0
        image = _mirrored(image[:, r:-r, r:-r], r)
        flat = image.view(len(image), -1)
    return image[:, r:-r, r:-r]


def _components(image: Tensor, axes: Tensor) -> Tensor:
    """3 H W -> H*W K half: every patch along every axis; places nearer than half a patch to the edge have nonsense."""
    found = F.conv2d(image[None], axes, padding=axes.shape[-1] // 2)[0]
    return found.flatten(1).T.half().contiguous()


def _patches(image: Tensor, places: Tensor, side: int) -> Tensor:
    """The patches around places (flat), N 3pp."""
    width = image.shape[2]
    reach = torch.arange(-(side // 2), side // 2 + 1, device=image.device)
    around = (reach[:, None] * width + reach[None]).view(-1)
    return image.flatten(1)[:, places[:, None] + around].transpose(0, 1).flatten(1)


def _vote(level: _Level, sources: Tensor, distances: Tensor, side: int, *, best: bool = False) -> None:
    """Paint the hole by what the patches over each pixel say; then the components of the patches that changed.

    best: what the likeliest says, else the mean, weighted by exp(-d / 2 sigma^2) with sigma^2 the distances' third quartile (Wexler section 3.2).
    """
    r, width = side // 2, level.width
    near = torch.cat([level.near, level.near.new_zeros(1)])  # the last: of no target
    distances = torch.cat([distances, distances.new_zeros(1)])
    sources = torch.cat([sources, sources.new_full((1,), r * width + r)])
    flat = level.image.flatten(1)  # 3 H*W, a view
    pixels = level.hole[r:-r, r:-r].nonzero()
    places = (pixels[:, 0] + r) * width + pixels[:, 1] + r
    steps = [dy * width + dx for dy in range(-r, r + 1) for dx in range(-r, r + 1)]
    mean, total = flat.new_zeros(len(places)), flat.new_zeros(len(places))
    for step in steps:
        which = level.number[places - step]
        mean += distances[which] * near[which]
        total += near[which]
    scale = -1 / (SHARP * mean / total.clamp_min(1e-12)).clamp_min(1e-8)
    total.zero_()
    colours = flat.new_zeros(len(places), len(flat))
    rows = flat.T.contiguous()  # H*W 3
    for step in steps:
        which = level.number[places - step]
        weight = near[which] * torch.exp(scale * distances[which])
        said = rows[sources[which] + step]
        if best:
            better = weight > total
            colours = torch.where(better[:, None], said, colours)
            total = torch.where(better, weight, total)
        else:
            colours.addcmul_(said, weight[:, None])
            total += weight
    flat[:, places] = (colours if best else colours / total.clamp_min(1e-20)[:, None]).T
    inner = level.image[:, r:-r, r:-r]
    level.image = _mirrored(inner, r)
    if not best:
        ys, xs = level.targets // width, level.targets % width
        top, bottom, left, right = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
        window = level.image[:, top - r : bottom + r, left - r : right + r]
        found = F.conv2d(window[None], level.axes)[0].permute(1, 2, 0)  # rows columns K
        level.table[level.targets] = found[ys - top, xs - left].half()


def _as_field(level: _Level, sources: Tensor, side: int) -> Tensor:
    """Sources as rows and columns of the level without its margin, 2 H W; -1 where there is no target."""
    r, width = side // 2, level.width
    field = torch.full((2, *level.hole.shape), -1, dtype=torch.int64, device=sources.device)
    field.view(2, -1)[:, level.targets] = torch.stack([sources // width - r, sources % width - r])
    return field[:, r:-r, r:-r]


def build(*, classes: int = 0, patch: int = 7, components: int = 24, turns: int = 4) -> PatchMatch:
    """Raises UsageError."""
    for name, value in (("components", components), ("turns", turns)):
        if value < 1:
            raise UsageError(f"{name}={value} is below 1")
    return PatchMatch(patch=checked(patch), components=components, turns=turns)
