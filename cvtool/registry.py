"""Names to files: the directory is the registry, and nothing is imported to list it.

`cvtool/models/<verb>/<name>.py` is a model; its summary is the first line of its docstring, and its variants, weights, aliases and recipe
are literals read from the source text. Plugins add model files through the entry-point group `cvtool.models` and whole worlds of models,
addressed as `SOURCE:NAME`, through `cvtool.sources`. What ships with the program stands in `zoo/index.toml`. Standard library only.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from cvtool.errors import CvtoolError, MissingDependency, ModelError, did_you_mean
from cvtool.literals import NotPlainError, literal, summary

ROOT = Path(__file__).parent
ZOO = ROOT / "zoo"
PATH_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".onnx", ".xml")
_LITERALS: dict[str, Any] = {"VARIANTS": {}, "WEIGHTS": {}, "ALIASES": {}, "RECIPE": {}, "VERBS": None, "VERB": None, "ROLE": None}


@dataclass(frozen=True)
class Entry:
    """One model file. Everything but `name` and `module` is read from its source text on first use."""

    name: str
    module: str
    path: Path
    folder: str | None  # the verb, for built-in models; plugins state VERB in the file

    @cached_property
    def _text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def _literal(self, name: str) -> Any:
        """The value of a literal at the file's top level. Raises ModelError."""
        if name not in self._values:
            try:
                self._values[name] = literal(self._text, name, _LITERALS[name])
            except NotPlainError as error:
                raise ModelError(str(error), where=f"{self.path}:{error.line}") from error
        return self._values[name]

    @cached_property
    def _values(self) -> dict[str, Any]:
        return {}

    @cached_property
    def summary(self) -> str:
        """The docstring's first line. Read as text, because a listing needs nothing else of the file."""
        return summary(self.path)

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        return self._literal("VARIANTS")

    @property
    def arguments(self) -> dict[str, str]:
        """What its `build` takes beside the classes, `--NAME VALUE` when it is trained: name -> the default as it is written."""
        tree = ast.parse(self._text)
        build = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "build"), None)
        if build is None:
            return {}
        pairs = zip(build.args.kwonlyargs, build.args.kw_defaults, strict=True)
        return {arg.arg: ast.unparse(default) for arg, default in pairs if default is not None and arg.arg not in ("classes", "categories")}

    @property
    def weights(self) -> dict[str, dict[str, Any]]:
        """`variant@name` -> facts, the file's own; `weights_of` adds what ships."""
        return self._literal("WEIGHTS")

    @property
    def aliases(self) -> dict[str, str]:
        """Another spelling -> `variant`, `variant@weights` or "" (the model itself)."""
        return self._literal("ALIASES")

    @property
    def recipe(self) -> dict[str, Any]:
        return self._literal("RECIPE")

    @property
    def role(self) -> str | None:
        """What its verb takes it for where no model is named; of `ocr`: "documents", the finder of words on pages."""
        return self._literal("ROLE")

    @property
    def verb(self) -> str:
        """The verb whose folder the file stands in."""
        return self.folder or self._literal("VERB") or "plugin"

    @property
    def verbs(self) -> tuple[str, ...]:
        """All verbs that take this model, its own first. What classifies pictures also embeds them, by what it sees before it decides."""
        return tuple(self._literal("VERBS") or ((self.verb, "embed") if self.verb == "classify" else (self.verb,)))

    def load(self) -> ModuleType:
        """Import the model file. Raises MissingDependency for a package that it needs, ModelError for a plugin that does not import."""
        return _import(self.module, f"the model {self.name}", built_in=self.folder is not None)


OF_REFERENCES = ("ensemble",)  # sources whose names are references themselves, paths and `@` included


@dataclass(frozen=True)
class Reference:
    """A model as it is named on a command line, resolved: `NAME.VARIANT@WEIGHTS`, `SOURCE:NAME` or a path.

    weights: a key of the variant, "none" (untrained), or the path of a foreign file to load into the model.
    """

    name: str
    variant: str | None = None
    weights: str | None = None
    source: str | None = None
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path) if is_path(str(self.path)) else f"./{self.path}"
        text = f"{self.source}:{self.name}" if self.source else self.name
        return text + (f".{self.variant}" if self.variant else "") + (f"@{self.weights}" if self.weights else "")

    @property
    def entry(self) -> Entry | None:
        """The model file, or None for a path or a source's model."""
        return catalogue()[self.name] if self.path is None and self.source is None else None

    @property
    def key(self) -> str:
        """What `WEIGHTS` calls it: `variant@weights`."""
        return f"{self.variant}@{self.weights}"

    @property
    def weights_path(self) -> Path | None:
        """The foreign file of `model@PATH`, or None."""
        return Path(self.weights).expanduser() if self.weights and is_path(self.weights) else None


def is_path(text: str) -> bool:
    """A path has a slash or ends in a checkpoint's suffix; a name never does (a source's name may: `timm:beit3_base_patch16_224.pt`)."""
    world, colon, _ = text.partition(":")
    if colon and ("/" not in text or world in OF_REFERENCES) and world in sources():
        return False
    return "/" in text or "\\" in text or text.lower().endswith(PATH_SUFFIXES) or text in (".", "..")


@cache
def catalogue() -> dict[str, Entry]:
    """Every model, by name, sorted."""
    found: dict[str, Entry] = {}
    for path in sorted((ROOT / "models").glob("*/[!_]*.py")):
        _add(found, Entry(path.stem.replace("_", "-"), f"cvtool.models.{path.parent.name}.{path.stem}", path, path.parent.name))
    for point in _points("cvtool.models"):
        if point.name not in broken() and (file := _module_path(point)) is not None:
            _add(found, Entry(point.name, point.module, file, None))
    return dict(sorted(found.items()))


@cache
def broken() -> dict[str, str]:
    """Plugin models that cannot be used, name -> reason; they are left out, so that one bad plugin takes nothing else away."""
    own = {path.stem.replace("_", "-") for path in (ROOT / "models").glob("*/[!_]*.py")}
    found: dict[str, str] = {}
    for point in _points("cvtool.models"):
        try:
            if point.name in own:
                raise ModelError("a model of this name is built in")
            if (path := _module_path(point)) is None:
                raise ModelError(f"its module {point.module} is not there")
            entry = Entry(point.name, point.module, path, None)
            ast.parse(entry._text)
            _ = entry.variants, entry.weights, entry.aliases, entry.verbs
        except (ModelError, SyntaxError, OSError, UnicodeDecodeError) as error:
            found[point.name] = error.what if isinstance(error, CvtoolError) else f"{type(error).__name__}: {error}"
        own.add(point.name)
    return found


def _add(found: dict[str, Entry], entry: Entry) -> None:
    if other := found.get(entry.name):
        raise ModelError(f"two model files are called {entry.name}", where=f"{other.path} and {entry.path}", hint="rename or uninstall one")
    found[entry.name] = entry


def _points(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda point: point.name)


def _module_path(point: EntryPoint) -> Path | None:
    """Where a plugin's module lies, found without importing it; None for a broken installation."""
    try:
        spec = importlib.util.find_spec(point.module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


@cache
def sources() -> dict[str, str]:
    """Worlds of models, SOURCE -> the module that knows them."""
    own = {path.stem: f"cvtool.sources.{path.stem}" for path in sorted((ROOT / "sources").glob("[!_]*.py"))}
    return own | {point.name: point.module for point in _points("cvtool.sources")}


def source(name: str) -> ModuleType:
    """The module of one source."""
    if name not in sources():
        raise ModelError(f"unknown source '{name}:'", hint=did_you_mean(name, sources()) or "sources: " + ", ".join(sources()))
    return _import(sources()[name], f"the source {name}:", built_in=sources()[name].startswith("cvtool.sources."))


def _import(module: str, what: str, *, built_in: bool) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "cvtool":
            raise
        raise MissingDependency(f"{what} needs the package {package}, which is not installed", hint=f"pip install {package}") from error
    except CvtoolError:
        raise
    except Exception as error:
        if built_in:
            raise
        raise ModelError(f"{what} does not import: {type(error).__name__}: {error}", where=module, hint="repair or uninstall the plugin") from error


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """`NAME.VARIANT@WEIGHTS` -> facts, for the weights that come with the program."""
    import tomllib

    index = ZOO / "index.toml"
    return tomllib.loads(index.read_text(encoding="utf-8")) if index.exists() else {}


def weights_of(entry: Entry) -> dict[str, dict[str, Any]]:
    """`variant@weights` -> facts: the file's literals first, then what ships."""
    prefix = entry.name + "."
    return entry.weights | {key.removeprefix(prefix): facts for key, facts in shipped().items() if key.startswith(prefix)}


@cache
def aliases() -> dict[str, str]:
    """Another spelling -> the reference it stands for, over all models."""
    found: dict[str, str] = {}
    for entry in sorted(catalogue().values(), key=lambda entry: entry.folder is None):
        for alias, tail in entry.aliases.items():
            if alias in found or alias in catalogue():
                if entry.folder is None:  # a plugin's: the one that was there stays
                    continue
                raise ModelError(f"the name {alias} is taken twice", where=entry.path)
            found[alias] = entry.name + (f".{tail}" if tail else "")
    return found


def names() -> list[str]:
    """Every reference without weights that can be typed: models, variants and aliases; for completion and suggestions."""
    every = [f"{entry.name}.{variant}" for entry in catalogue().values() for variant in entry.variants]
    return [*catalogue(), *every, *aliases()]


def find(name: str) -> Entry:
    """The model file of a name (`-` or `_`, any case)."""
    plain = name.lower().replace("_", "-")
    if plain in catalogue():
        return catalogue()[plain]
    if plain in broken():
        raise ModelError(f"the plugin model {plain} cannot be used: {broken()[plain]}", hint="repair or uninstall the plugin")
    known = [*catalogue(), *aliases(), *(f"{s}:" for s in sources())]
    raise ModelError(f"unknown model '{name}'", hint=did_you_mean(plain, known) or "`cvtool models list` shows all of them")


def parse(text: str) -> Reference:
    """Resolve what a user typed: aliases, the default variant (the first; the first that has the weights) and the default weights (the variant's
    first, else one that ships).

    Raises ModelError (exit code 4) with a suggestion for an unknown source, model, variant or weights.
    """
    if not text:
        raise ModelError("the model's name is empty", hint="`cvtool models list` shows all of them")
    if (world := text.partition(":")[0]) in OF_REFERENCES and world != text:
        return Reference(name=text.removeprefix(f"{world}:"), source=world)
    head, at, weights = text.partition("@")
    if is_path(text if not at else head):  # a name has no slash, so `./name@data.safetensors` is a path
        return Reference(name=text, path=Path(text).expanduser())
    if re.match(r"^[A-Za-z][\w-]*:", head) and not is_path(head.partition(":")[0]):
        world, _, name = head.partition(":")
        source(world)
        return Reference(name=name, source=world, weights=weights or None)
    if head in aliases():
        head, _, own = aliases()[head].partition("@")
        weights = weights or own
    name, _, variant = head.partition(".")
    entry = find(name)
    reference = Reference(entry.name, _variant(entry, variant), weights or None)
    if weights and not variant and reference.key not in weights_of(entry):  # of another variant than the first, where only that has them
        others = [key.partition("@")[0] for key in weights_of(entry) if key.partition("@")[2] == weights]
        reference = replace(reference, variant=others[0]) if others else reference
    if not weights:
        have = [key.partition("@")[2] for key in weights_of(entry) if key.partition("@")[0] == reference.variant]
        return replace(reference, weights=have[0] if have else None)
    if weights != "none" and reference.weights_path is None and reference.key not in weights_of(entry):
        have = [key.partition("@")[2] for key in weights_of(entry) if key.partition("@")[0] == reference.variant]
        hint = f"{reference.name}.{reference.variant} has: " + ", ".join([*have, "none"]) + "; a file is given as @./file.pth"
        raise ModelError(f"unknown weights '@{weights}' for {reference.name}.{reference.variant}", hint=hint)
    return reference


def _variant(entry: Entry, typed: str) -> str | None:
    if not typed:
        return next(iter(entry.variants), None)
    plain = typed.lower().replace("_", "-")
    if plain in entry.variants:
        return plain
    hint = did_you_mean(plain, entry.variants) or "its variants: " + ", ".join(entry.variants)
    raise ModelError(f"{entry.name} has no variant '{typed}'", hint=hint)
