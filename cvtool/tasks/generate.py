"""Pictures out of nothing: samples of a generator, ways between two of them, sweeps of a code's numbers, and directions to move along."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvtool import __version__, registry
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.records import Record, choose, made_by
from cvtool.registry import Reference
from cvtool.runtime.pool import Loaded, pool
from cvtool.tasks._guide import Guide, guide

GPU_BATCH = 8
FRAMES = 9  # of a way or a range
STRENGTH = 0.5  # how far a picture is taken back to noise, unless told
OPTIONS = ("steps", "guidance", "classifier", "sampler", "eta", "truncation", "temperature", "strength")  # of a model's `sample`, where it has them


@dataclass(frozen=True)
class Walk:
    """What becomes of the codes; at most one of the three, and nothing for plain samples.

    interpolate: numbers of samples (rows of a file of codes), each reached from the one before in `frames` pictures, both ends included.
    sweep: numbers of a code, set to each value of `span` in turn; () for none, None for every one.
    direction: added to the code, times each value of `span`.
    span: (first, last), in `frames` equal steps.
    """

    interpolate: tuple[int, ...] = ()
    sweep: tuple[int, ...] | None = ()
    direction: np.ndarray | None = None
    span: tuple[float, float] = (-3.0, 3.0)
    frames: int = FRAMES

    def values(self) -> list[float]:
        """Those of `span`: equal steps, its ends exact, and 0 exact where it lies in the middle."""
        low, high = self.span
        if self.frames == 1:
            return [low]
        return [low + (high - low) * i / (self.frames - 1) for i in range(self.frames - 1)] + [high]


@dataclass
class Made:
    """One picture. pixels: H W 3 uint8. facts: what makes it again, for the file. row, column: its place in a sheet of a walk, in words."""

    pixels: np.ndarray
    facts: dict[str, Any]
    index: int
    row: str = ""
    column: str = ""
    latent: np.ndarray | None = None
    category: dict[str, Any] | None = None
    two_tone: bool = False  # black and white and nothing between
    text: str | None = None  # what stands in the picture, of a model that draws text
    source: str | None = None  # the picture that it was made from

    def record(self, path: str, model: Any) -> Record:
        """The record of the new picture. model: the `weights.Info` of what made it."""
        height, width = self.pixels.shape[:2]
        told = {key: self.facts.get(key) for key in ("seed", "index", "options")}
        maker = made_by("generate", model, categories=None if self.category else [], **told)
        labels = {"labels": [{"category_id": self.category["id"], "category": self.category["name"]}]} if self.category else {}
        text = {} if self.text is None else {"text": self.text}
        source = {} if self.source is None else {"source": self.source}
        return Record(file_name=path, width=width, height=height, **source, made_by=[maker], **labels, **text)


@dataclass
class _Code:
    """What a picture is to be made of: a sample's number, or a code."""

    index: int
    label: int | None  # class, as the model counts
    latent: Tensor | None = None
    row: str = ""
    column: str = ""
    said: dict[str, Any] = field(default_factory=dict)


def generate(
    model: str | Reference,
    *,
    n: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    walk: Walk | None = None,
    latents: np.ndarray | None = None,
    inputs: Iterable[Record] | None = None,
    options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    command: str | None = None,
    infos: list[Any] | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Made, None, None]:
    """The pictures, one at a time, in order.

    n: samples (default 1; with `classes`, one of each). seed: sample i depends on (seed, i), its class and the options alone.
    classes: names or ids; sample i is of the i-th, over and over; a model that is told classes takes all of its own in turn unless told.
    latents: codes to begin with, instead of the seed's (N *latent_shape). walk: what becomes of the codes. inputs: pictures whose codes those are;
      n of each.
    options: some of `OPTIONS`. infos: gets what is known of the model. facts: gets device and precision, for people.
    Raises UsageError for what the model does not have, ModelError.
    """
    with pool.lease(model, device=device, precision=precision, offline=offline) as loaded, ExitStack() as held:
        if infos is not None:
            infos.append(loaded.info)
        if facts is not None:
            facts["device"] = f"{loaded.device} {precision}"
        chosen = {key: value for key, value in (options or {}).items() if value is not None}
        plain = walk is None and latents is None and inputs is None
        check(loaded, chosen, plain=plain)
        guided = held.enter_context(guide(chosen.get("classifier"), loaded, offline=offline))
        labels = _labels(loaded, classes, guided)
        sources = None
        if inputs is not None:
            if labels and not classes:
                raise UsageError(f"of which class? {loaded.reference} is told one", hint="--class NAME, or one for each of several pictures")
            if "strength" in inspect.signature(loaded.model.decode_latents).parameters:
                chosen.setdefault("strength", STRENGTH)
            latents, sources = codes_of(loaded, inputs, n, seed, chosen.get("strength"))
        codes = _samples(loaded, n or max(1, len(classes or ())), labels) if plain else _codes(loaded, walk or Walk(), n or 1, seed, labels, latents)
        size = batch_size or (1 if loaded.device.type == "cpu" else GPU_BATCH)
        common: dict[str, Any] = {"version": __version__, "verb": "generate", **whence(loaded), "seed": seed, "precision": precision}
        common |= {"command": command} if command else {}
        common |= {"classifier_sha256": guided.loaded.info.sha256} if guided else {}
        stream = iter(codes)
        while some := list(islice(stream, size)):
            for one in _made(loaded, some, seed, chosen, common, guided):
                one.source = sources[one.facts["sample"]] if sources and "sample" in one.facts else None
                yield one


def codes_of(loaded: Loaded, inputs: Iterable[Record], n: int | None, seed: int, strength: float | None) -> tuple[np.ndarray, list[str]]:
    """The codes of pictures, `n` of each where noise makes them differ, and each one's name. Raises UsageError, InputError.

    The i-th variation of every picture has the same noise.
    """
    model = loaded.model
    if not hasattr(model, "codes_of"):
        hint = "a variational autoencoder or a diffusion does: -m vae, -m ddpm"
        raise UsageError(f"--input has no effect on {loaded.reference}: it knows no code of a picture", hint=hint)
    noisy = "strength" in inspect.signature(model.codes_of).parameters
    if n is not None and n > 1 and not noisy:
        raise UsageError(f"-n {n}: {loaded.reference} has one code of each picture", hint="leave -n out")
    more = {"strength": strength} if noisy and strength is not None else {}
    found, names = [], list[str]()
    for record in inputs:
        seen = model.prepare([record.pixels()]).images.to(loaded.device)
        with torch.inference_mode():
            found.append(model.codes_of(seen.expand(n or 1, -1, -1, -1), seed, **more).numpy())
        names += [str(record.get("file_name", ""))] * (n or 1)
    if not found:
        raise InputError("no picture to begin with", hint="--input names a file or a folder")
    return np.concatenate(found), names


def whence(loaded: Loaded) -> dict[str, Any]:
    """What a picture says of what made it: model, weights, device and torch."""
    name = str(loaded.reference)
    if loaded.reference.path is not None and not registry.is_path(name.partition("@")[0]):
        name = f"./{name}"  # a file here, and no model's name
    told = {"model": name, "weights_sha256": loaded.info.sha256, "device": loaded.device.type, "torch": torch.__version__}
    return {key: value for key, value in told.items() if value is not None}


def check(loaded: Loaded, options: Mapping[str, Any], *, plain: bool) -> None:
    """Raises UsageError for a model that makes no pictures, has no codes, or does not take one of the options."""
    model = loaded.model
    if not hasattr(model, "sample"):
        raise UsageError(f"{loaded.reference} makes no pictures of its own", hint="`cvtool models list --verb generate` shows what does")
    if not plain and not hasattr(model, "decode_latents"):
        raise UsageError(f"{loaded.reference} has no codes to walk among", hint="leave --interpolate, --sweep-dim, --direction and --latent out")
    takes = [name for name in OPTIONS if name in inspect.signature(model.sample if plain else model.decode_latents).parameters]
    own = getattr(model, "settings", ()) if plain else ()  # of a model that names more, for --set
    for name in options:
        if name not in takes and name not in own:
            known = [*(f"--{one}" for one in takes), *(f"--set {one}=" for one in own)]
            hint = f"it takes {', '.join(known)}" if known else "it takes none of that kind"
            raise UsageError(f"--{name} has no effect on {loaded.reference}" + ("" if plain else " where its codes are given"), hint=hint)


def _labels(loaded: Loaded, classes: Sequence[str] | None, guided: Guide | None = None) -> list[int]:
    """The classes to take in turn, as the model (or what guides it) counts them; [] for a model that is told none."""
    categories, count = loaded.info.categories, int(getattr(loaded.model, "conditional", 0))
    if guided is not None:
        categories, count = guided.categories, len(guided.categories)
    if not count:
        if classes:
            raise UsageError(f"{loaded.reference} is not told classes, so --class has no effect", hint="leave --class out")
        return []
    if not classes:
        return [i for i, category in enumerate(categories[:count]) if category is not None]
    places = {category["id"]: i for i, category in enumerate(categories) if category is not None}
    return [places[choose(categories, [name])[0]] for name in classes]


def _samples(loaded: Loaded, n: int, labels: Sequence[int]) -> Iterator[_Code]:
    return (_Code(i, labels[i % len(labels)] if labels else None) for i in range(n))


def _codes(loaded: Loaded, walk: Walk, n: int, seed: int, labels: Sequence[int], given: np.ndarray | None) -> Iterator[_Code]:
    """The codes of a walk, or those given as they are. Raises UsageError for codes of another size and numbers that are not there."""
    shape = tuple(loaded.model.latent_shape)
    bases = None if given is None else torch.from_numpy(fitting(given, shape, "--latent", many=True))

    def base(i: int) -> Tensor:
        if bases is None:
            return loaded.model.latents(1, seed, start=i)[0]
        if i >= len(bases):
            raise UsageError(f"there is no code {i}: --latent holds {len(bases)}", hint=f"they count from 0 to {len(bases) - 1}")
        return bases[i]

    def label(i: int) -> int | None:
        return labels[i % len(labels)] if labels else None

    if walk.interpolate:
        ends = [base(i) for i in walk.interpolate]
        yield from _ways(walk, ends, label(walk.interpolate[0]), getattr(loaded.model, "between", _straight))
        return
    count = n if bases is None else len(bases)
    direction = None if walk.direction is None else torch.from_numpy(fitting(walk.direction, shape, "--direction", many=False))
    size = int(np.prod(shape))
    dims = range(size) if walk.sweep is None else walk.sweep
    if wrong := [d for d in dims if not 0 <= d < size]:
        raise UsageError(f"--sweep-dim {wrong[0]}: a code of {loaded.reference} has the numbers 0 to {size - 1}")
    place = 0
    for i in range(count):
        z, number = base(i), f"{i}  " if count > 1 else ""
        if direction is not None:
            for value in walk.values():
                yield _Code(place, label(i), z + value * direction if value else z, number.strip(), f"{value:+.4g}", {"sample": i, "alpha": value})
                place += 1
        elif dims:
            for d in dims:
                for value in walk.values():
                    moved = z.clone()
                    moved.view(-1)[d] = value
                    yield _Code(place, label(i), moved, f"{number}z{d}", f"{value:+.4g}", {"sample": i, "dim": d, "value": value})
                    place += 1
        else:
            yield _Code(i, label(i), z, said={"sample": i})


def _ways(walk: Walk, ends: Sequence[Tensor], label: int | None, way: Callable[[Tensor, Tensor, float], Tensor]) -> Iterator[_Code]:
    """`way(z0, z1, t)`, t from 0 to 1, whose ends are z0 and z1 themselves; between several, each but the first begins after its start."""
    place = 0
    for number, ((a, b), (x, y)) in enumerate(zip(pairwise(walk.interpolate), pairwise(ends), strict=True)):
        for i in range(1 if number else 0, walk.frames):
            t = i / (walk.frames - 1)
            z = x if i == 0 else y if i == walk.frames - 1 else way(x, y, t)
            yield _Code(place, label, z, f"{a} to {b}", f"{t:.3g}", {"between": [a, b], "t": t})
            place += 1


def _straight(one: Tensor, other: Tensor, t: float) -> Tensor:
    return one + t * (other - one)


def fitting(found: np.ndarray, shape: tuple[int, ...], option: str, *, many: bool) -> np.ndarray:
    """Codes as float32, N *shape (`many`) or *shape. Raises UsageError for another size and for numbers that are not finite."""
    if many and found.shape == shape:
        found = found[None]
    if not many and found.shape == (1, *shape):
        found = found[0]
    if (found.shape[1:] if many else found.shape) != shape or not found.size:
        have, want = (" x ".join(map(str, s)) or "one number" for s in (found.shape, shape))
        raise UsageError(f"{option} holds {have} numbers, and a code of this model is {want}")
    if not np.isfinite(found).all():
        raise UsageError(f"{option} holds a number that is not finite")
    return np.ascontiguousarray(found, np.float32)


def _made(
    loaded: Loaded, codes: Sequence[_Code], seed: int, options: Mapping[str, Any], common: Mapping[str, Any], guided: Guide | None
) -> Iterator[Made]:
    """The pictures of one batch."""
    labels = None if codes[0].label is None else [code.label for code in codes]
    first = codes[0].latent
    latents = None if first is None else torch.stack([code.latent for code in codes if code.latent is not None])
    pixels = computed(loaded, len(codes), seed, codes[0].index, labels, latents, options, guided)
    categories = loaded.info.categories if guided is None else guided.categories
    two_tone = getattr(loaded.model, "two_tone", False)
    texts: list[str] = loaded.model.texts(len(codes), seed, start=codes[0].index, **options) if hasattr(loaded.model, "texts") else []
    for position, (code, picture) in enumerate(zip(codes, pixels, strict=True)):
        category = None if code.label is None else categories[code.label]
        said: dict[str, Any] = {**common, "index": code.index, "options": dict(options), **code.said}
        said |= {"batch": [position, len(codes)]} if len(codes) > 1 else {}
        said |= {"class": code.label, "class_name": category["name"]} if category else {}
        said |= {"latent": packed(code.latent)} if code.latent is not None else {}
        latent = code.latent
        if latent is None and hasattr(loaded.model, "latents"):
            latent = loaded.model.latents(1, seed, start=code.index)[0]
        yield Made(picture, said, code.index, code.row, code.column, None if latent is None else latent.numpy(), category, two_tone,
                   texts[position] if texts else None)  # fmt: skip


def computed(
    loaded: Loaded, n: int, seed: int, start: int, labels: Sequence[int | None] | None, latents: Tensor | None, options: Mapping[str, Any],
    guided: Guide | None = None,
) -> np.ndarray:  # fmt: skip
    """n pictures as n H W 3 uint8: those of the codes, or the samples from `start` on. Raises ModelError for values that are no number."""
    options = options if guided is None else {**options, "classifier": guided}
    with torch.inference_mode(), loaded.autocast():
        if latents is not None:
            found = loaded.model.decode_latents(latents, labels, **options)
        else:
            found = loaded.model.sample(n, seed, labels, start=start, **options)
    if not found.isfinite().all():
        raise ModelError(f"{loaded.reference} made a picture that is NaN or infinite", hint="its weights are damaged, or fp16 is too narrow for it")
    return (found.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def packed(latent: Tensor) -> dict[str, Any]:
    """A code as JSON can hold it, to the bit."""
    return {"shape": list(latent.shape), "float32": base64.b64encode(latent.numpy().astype("<f4").tobytes()).decode("ascii")}


def unpacked(found: Mapping[str, Any]) -> Tensor:
    """The code that `packed` wrote. Raises ValueError, KeyError, TypeError for anything else."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(found["float32"]), "<f4").reshape(found["shape"]).astype(np.float32))


# ---- files of codes ------------------------------------------------------------------------------------------------


def read_latents(path: Path) -> np.ndarray:
    """The codes in a .npy file, or in an .npz that this verb (`latents`) or `embed` (`vectors`) wrote. Raises InputError."""
    try:
        found: Any = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            with found as table:
                found = table[next(key for key in ("latents", "vectors", *table.files) if key in table.files)]
    except FileNotFoundError as error:
        raise InputError("no such file of codes", where=path, hint="--save-latents FILE.npz writes one") from error
    except Exception as error:  # whatever a damaged archive may raise
        raise InputError("not a file of codes", where=path, hint=".npy or .npz, as --save-latents and `cvtool embed -o` write it") from error
    if found.dtype.kind not in "fiu":
        raise InputError(f"not numbers but {found.dtype}", where=path)
    return found.astype(np.float32)


def save_latents(path: Path, latents: Sequence[np.ndarray], model: str) -> None:
    """`latents` N ... and the model's name, all or nothing."""
    save_array(path, {"latents": np.stack(latents) if latents else np.zeros((0,), np.float32), "model": np.array(model)})


def save_array(path: Path, what: np.ndarray | Mapping[str, np.ndarray]) -> None:
    """A .npy file of an array, or an .npz of several; under a temporary name that is renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with draft.open("wb") as file:
            if isinstance(what, np.ndarray):
                np.save(file, what)
            else:
                np.savez_compressed(file, **what)  # type: ignore[arg-type]
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink()


def direction(with_it: Path, without: Path) -> np.ndarray:
    """mean(codes with something) - mean(codes without it): added to a code, it brings it in (Radford 2015, arXiv:1511.06434, section 6.3.2)."""
    one, other = read_latents(with_it), read_latents(without)
    if one.ndim < 2 or one.shape[1:] != other.shape[1:] or not len(one) or not len(other):
        raise UsageError(f"the codes do not go together: {one.shape} and {other.shape}", where=f"{with_it}, {without}")
    return (one.mean(0, dtype=np.float64) - other.mean(0, dtype=np.float64)).astype(np.float32)
