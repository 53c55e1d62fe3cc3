"""PatchMatch: each hole patch takes after its nearest known patch, searched at random (Barnes 2009, doi:10.1145/1531326.1531330).

The hole is filled so that every patch that touches it looks like one somewhere outside (Wexler 2007, doi:10.1109/TPAMI.2007.60), from coarse to
fine. On each level two steps take turns. Search: for every target patch the nearest source patch, by random initialisation, propagation (a
neighbour's source, moved along) and random search (around the best so far, in windows that halve; Barnes sections 3.1 and 3.2). All targets move at
once, so that propagation jumps 8, 4, 2, 1 pixels instead of sweeping. Vote: a hole pixel becomes the mean of what the patches over it say, weighted
by likeness and by nearness to what is known, in the very last vote by likeness four times as much, so that edges stay sharp. The coarsest level
begins with the hole filled from its rim inwards, and texture is compared beside colour (both Newson 2014, arXiv:1503.05528), or large holes would
become flat.

Patches are compared by their first principal components, those of the picture's own patches: 24 numbers instead of 245 give nearly the same
distance for a tenth of the work. Nothing is learned, any size will do, and what is nowhere in the picture cannot be filled in.

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

VARIANTS = {"base": {}, "tiny": {"patch": 5, "components": 12, "turns": 2}}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
CATEGORIES: list = []
RECIPE: dict[str, object] = {}

JUMPS = (8, 4, 2, 1)  # pixels from which propagation takes, one after the other
NEAR = 1.3  # Wexler's gamma: what a vote loses for each pixel that its patch lies farther inside the hole
SHARP = 4.0  # how much more the likeliest count in the last vote, so that edges stay sharp
DEEPEST = 16  # pixels, beyond which it loses no more
MORE, WORK = 12, 100_000  # turns more where there are few targets: as many as take so many together
STRIP = 1 << 18  # pixels whose components are computed at once
FIRST = 8  # components that are compared before the others
SAMPLES = 8192  # patches that the components are computed of
SOURCES = 4096  # patches that are compared with each other one by one, on the coarsest level
TEXTURE = 7.0  # what texture counts beside colour: the root of Newson's lambda, 50
AROUND = 9  # pixels over which it is averaged


@dataclass
class _Level:
    """One level of the pyramid, with a margin of r pixels in which it is mirrored. Places are flat, of the picture with its margin; N of them.

    image: C H W, colours and texture. hole: H W bool. targets: T, places of the patches that touch the hole. number: N, a place's position in
    `targets`, or -1. source: N bool, whether the patch there is known and whole. near: T, the logarithm of the weight for being near to what is
    known. axes: K C p p. table: N K half, the components of every patch. first: N FIRST, the first of them.
    """

    image: Tensor
    hole: Tensor
    targets: Tensor
    number: Tensor
    source: Tensor
    near: Tensor
    axes: Tensor
    table: Tensor
    first: Tensor

    @property
    def width(self) -> int:
        return self.image.shape[2]

    @property
    def radius(self) -> int:
        return self.axes.shape[-1] // 2

    def inner(self) -> Tensor:
        """The picture without its margin."""
        r = self.radius
        return self.image[:, r:-r, r:-r]


class PatchMatch:
    """patch: side of the patches, odd. components: numbers by which two are compared. turns: of search and vote on a level; where there is
    little to fill, there are up to 12 more."""

    result = Picture
    largest = 3_000_000  # pixels, each of which takes 300 bytes

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
        levels[-1] = (_peeled(*levels[-1], side, chance), levels[-1][1])
        field: Tensor | None = None
        for depth in range(len(levels) - 1, -1, -1):
            level = self._level(*levels[depth], side, chance)
            sources = _start(level, field, chance)
            if field is not None:
                _vote(level, sources, _distances(level, sources))
                _look(level)
            turns = self.turns + min(MORE, WORK // len(level.targets))
            for turn in range(turns):
                sources, distances = _search(level, sources, chance, fresh=turn == 0 or len(level.targets) * MORE <= WORK)
                _vote(level, sources, distances, sharp=SHARP if depth == 0 and turn == turns - 1 else 1.0)
                if turn < turns - 1:
                    _look(level)
            field = _as_field(level, sources)
        return torch.where(hole, level.inner()[:3], image)

    def _level(self, image: Tensor, hole: Tensor, side: int, chance: torch.Generator) -> _Level:
        r = side // 2
        image, hole = _mirrored(image, r), _mirrored(hole[None].float(), r)[0] > 0
        inner = torch.zeros_like(hole)
        inner[r:-r, r:-r] = True
        touched = _grown(hole, side)
        targets = (touched & inner).view(-1).nonzero()[:, 0]
        number = targets.new_full((hole.numel(),), -1)
        number[targets] = torch.arange(len(targets), device=image.device)
        source = (~touched & inner).view(-1)
        axes = self._axes(image, source, side, chance)
        table = _components(image, axes)
        return _Level(image, hole, targets, number, source, _nearness(hole, targets), axes, table, table[:, :FIRST].contiguous())

    def _axes(self, image: Tensor, source: Tensor, side: int, chance: torch.Generator) -> Tensor:
        """The first principal components of some of the source patches (not centred: the mean is one of what counts), K C p p."""
        places = source.nonzero()[:, 0]
        some = places[torch.randint(len(places), (min(SAMPLES, len(places)),), generator=chance).to(places.device)]
        patches = _patches(image, some, side)
        _, vectors = torch.linalg.eigh((patches.T @ patches).double())
        return vectors.flip(1)[:, : self.components].T.float().contiguous().view(-1, len(image), side, side)


def _start(level: _Level, field: Tensor | None, chance: torch.Generator) -> Tensor:
    """Sources T to begin with: those of the level before, twice as far; random ones where there are none, or what they name is no source."""
    places = level.source.nonzero()[:, 0]
    random = places[torch.randint(len(places), (len(level.targets),), generator=chance).to(places.device)]
    if field is None:
        return random
    r, width, (high, wide) = level.radius, level.width, level.inner().shape[1:]
    rows, columns = level.targets // width - r, level.targets % width - r
    above = field[:, rows // 2, columns // 2]  # 2 T
    y, x = (2 * above[0] + rows % 2).clamp(0, high - 1), (2 * above[1] + columns % 2).clamp(0, wide - 1)
    found = (y + r) * width + x + r
    return torch.where((above[0] >= 0) & level.source[found], found, random)


def _distances(level: _Level, sources: Tensor) -> Tensor:
    """T: squared distance of each target from its source, in components."""
    return (level.table[sources].float() - level.table[level.targets].float()).square_().sum(1)


def _search(level: _Level, sources: Tensor, chance: torch.Generator, *, fresh: bool) -> tuple[Tensor, Tensor]:
    """Better sources T and their distances T. fresh: they began at random, so that better ones may be far away."""
    r, width, height = level.radius, level.width, len(level.hole)
    own, own_first = level.table[level.targets], level.first[level.targets]
    best, sources = _distances(level, sources), sources.clone()

    def consider(rows: Tensor, columns: Tensor, which: Tensor | None) -> None:
        """Candidates for the targets `which` (all), at rows and columns; those that are no source, or are the present ones, do not count."""
        here = rows.clamp_(r, height - r - 1).mul_(width).add_(columns.clamp_(r, width - r - 1))
        good = (level.source[here] & (here != (sources if which is None else sources[which]))).nonzero()[:, 0]
        which, here = good if which is None else which[good], here[good]
        least = (level.first[here].float() - own_first[which].float()).square_().sum(1)
        likely = (least < best[which]).nonzero()[:, 0]  # the other components can only add to it
        which, here = which[likely], here[likely]
        distance = (level.table[here].float() - own[which].float()).square_().sum(1)
        better = (distance < best[which]).nonzero()[:, 0]
        which = which[better]
        best[which] = distance[better]
        sources[which] = here[better]

    for jump in JUMPS if fresh else JUMPS[-2:]:
        for dy, dx in ((0, jump), (0, -jump), (jump, 0), (-jump, 0)):
            neighbour = level.number[(level.targets - (dy * width + dx)).clamp_(0, len(level.number) - 1)]
            which = (neighbour >= 0).nonzero()[:, 0]
            theirs = sources[neighbour[which]]
            consider(theirs // width + dy, theirs % width + dx, which)
    radius = max(height, width) / (1 if fresh else 8)
    while radius >= 1:
        dy, dx = ((torch.rand(2, len(sources), generator=chance).to(sources.device) * 2 - 1) * radius).round().long()
        consider(sources // width + dy, sources % width + dx, None)
        radius /= 2
    return sources, best


def _vote(level: _Level, sources: Tensor, distances: Tensor, *, sharp: float = 1.0) -> None:
    """Paint the hole by the mean of what the patches over each pixel say, weighted by near * exp(-sharp * d / mean d); Wexler has a quantile of the
    distances for the mean."""
    r, width, count = level.radius, level.width, len(level.number)
    # of every place; where there is no target it is infinitely unlikely
    facts = torch.stack([distances.new_full((count,), -math.inf), distances.new_zeros(count)], 1)
    facts[level.targets] = torch.stack([level.near, distances], 1)
    of = level.number.new_full((count,), r * width + r)
    of[level.targets] = sources
    pixels = level.hole[r:-r, r:-r].nonzero()
    places = (pixels[:, 0] + r) * width + pixels[:, 1] + r
    weights = facts[:, 0].exp()
    maps = torch.stack([weights * facts[:, 1], weights]).view(2, *level.hole.shape)
    high, low, left, right = _box(level.hole[r:-r, r:-r])
    window = F.avg_pool2d(maps[None, :, high : low + 2 * r, left : right + 2 * r], 2 * r + 1, 1)[0]
    means = window[:, pixels[:, 0] - high, pixels[:, 1] - left]
    scale = -sharp / (means[0] / means[1].clamp_min(1e-12)).clamp_min(1e-8)
    rows = level.image.flatten(1).T.contiguous()  # N C
    total, colours = scale.new_zeros(len(places)), scale.new_zeros(len(places), rows.shape[1])
    for step in (dy * width + dx for dy in range(-r, r + 1) for dx in range(-r, r + 1)):
        near, distance = facts[places - step].unbind(1)
        weight = (near + scale * distance).exp()
        said = rows[of[places - step] + step]
        colours.addcmul_(said, weight[:, None])
        total += weight
    level.image.flatten(1)[:, places] = (colours / total.clamp_min(1e-30)[:, None]).T
    level.image = _mirrored(level.inner(), r)


def _look(level: _Level) -> None:
    """The components of the targets, whose pixels have changed."""
    r, width = level.radius, level.width
    ys, xs = level.targets // width, level.targets % width
    high, low, left, right = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
    if len(level.targets) * 3 > (low - high) * (right - left):
        window = level.image[:, high - r : low + r, left - r : right + r]
        found = F.conv2d(window[None], level.axes)[0][:, ys - high, xs - left].T
    else:
        axes = level.axes.flatten(1).T
        found = torch.cat([_patches(level.image, some, 2 * r + 1) @ axes for some in level.targets.split(16384)])
    level.table[level.targets] = found.half()
    level.first[level.targets] = found[:, :FIRST].half()


def _as_field(level: _Level, sources: Tensor) -> Tensor:
    """Sources as rows and columns of the level without its margin, 2 H W; -1 where there is no target."""
    r, width = level.radius, level.width
    field = sources.new_full((2, *level.hole.shape), -1)
    field.view(2, -1)[:, level.targets] = torch.stack([sources // width - r, sources % width - r])
    return field[:, r:-r, r:-r]


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


def _grown(hole: Tensor, side: int) -> Tensor:
    """H W bool: the centres of all patches that touch the hole."""
    return F.max_pool2d(hole[None].float(), side, 1, side // 2)[0] > 0


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """Rows from, to, columns from, to of what is True in H W."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _components(image: Tensor, axes: Tensor) -> Tensor:
    """C H W -> H*W K half: every patch along every axis, some rows at a time; at places nearer than half a patch to the edge it is nonsense."""
    r, width = axes.shape[-1] // 2, image.shape[2]
    padded = F.pad(image, (r, r, r, r))
    table = torch.empty(image.shape[1], width, len(axes), dtype=torch.float16, device=image.device)
    step = max(1, STRIP // width)
    for top in range(0, len(table), step):
        rows = table[top : top + step]
        rows.copy_(F.conv2d(padded[None, :, top : top + len(rows) + 2 * r], axes)[0].permute(1, 2, 0))
    return table.view(-1, len(axes))


def _nearness(hole: Tensor, targets: Tensor) -> Tensor:
    """T: ln gamma^-depth, the depth in pixels inside the hole, up to DEEPEST."""
    high, low, left, right = _box(hole)
    inside = torch.zeros_like(hole, dtype=torch.float32)
    part = inside[high:low, left:right]
    shell = hole[high:low, left:right]
    for _ in range(DEEPEST):
        part += shell
        shell = shell & ~_grown(~shell, 3)
    return -math.log(NEAR) * inside.view(-1)[targets]


def _texture(image: Tensor, hole: Tensor) -> Tensor:
    """2 H W: how much the picture changes across and down, on average around each pixel (Newson 2014): it tells a wall from a shelf of
    the same colour, where the hole is so large that nothing else does."""
    gray, known = image.mean(0, keepdim=True), ~hole[None]
    found = []
    for axis in (1, 2):
        both = known.narrow(axis, 1, known.shape[axis] - 1) & known.narrow(axis, 0, known.shape[axis] - 1)
        change = gray.diff(dim=axis).abs() * both
        maps = F.pad(torch.stack([change, both.float()]), (0, axis - 1, 0, 2 - axis))  # 2 1 H W
        sums, shares = F.avg_pool2d(F.avg_pool2d(maps, (AROUND, 1), 1, (AROUND // 2, 0)), (1, AROUND), 1, (0, AROUND // 2))
        found.append(push_pull(sums / shares.clamp_min(1e-6), shares[0] > 0))
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


def _patches(image: Tensor, places: Tensor, side: int) -> Tensor:
    """The patches around places (flat), N 3pp."""
    width = image.shape[2]
    reach = torch.arange(-(side // 2), side // 2 + 1, device=image.device)
    around = (reach[:, None] * width + reach[None]).view(-1)
    return image.flatten(1)[:, places[:, None] + around].transpose(0, 1).flatten(1)


def build(*, classes: int = 0, patch: int = 7, components: int = 24, turns: int = 3) -> PatchMatch:
    """Raises UsageError."""
    for name, value in (("components", components), ("turns", turns)):
        if value < 1:
            raise UsageError(f"{name}={value} is below 1")
    return PatchMatch(patch=checked(patch), components=components, turns=turns)
