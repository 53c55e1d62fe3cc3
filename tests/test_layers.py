"""Who may import whom, and what a start may cost in modules. Each failure names the line."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cvtool"

# A room may import its own level and those below it (to the right in the design's line), at module level.
LEVELS = [
    {"cli"},
    {"tasks"},
    {"train", "render", "data", "metrics"},
    {"models", "sources"},
    {"losses"},
    {"layers"},
    {"ops"},
    {
        "runtime",
        "weights",
        "checkpoint",
        "download",
        "registry",
        "annotations",
        "archives",
        "images",
        "batch",
        "records",
        "results",
        "categories",
        "charsets",
        "page",
        "pdf",
        "calls",
        "literals",
    },
    {"errors"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
NO_TORCH = (
    "cli", "registry", "annotations", "archives", "calls", "records", "images", "categories", "charsets", "checkpoint", "download", "errors",
    "results", "page", "pdf", "data/formats", "data/pages", "data/inputs.py", "data/roots.py", "render", "tasks/evaluate.py", "tasks/evaluation",
    "tasks/visualize.py", "literals", "tasks/_choose.py", "sources", "__main__.py",
)  # fmt: skip


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported."""
    for node in body:
        if isinstance(node, ast.If):
            test = node.test
            if not (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"):
                yield from module_level(node.body)
            yield from module_level(node.orelse)
        elif isinstance(node, ast.Try):
            yield from module_level([*node.body, *node.orelse, *node.finalbody, *(s for handler in node.handlers for s in handler.body)])
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from module_level(node.body)
        else:
            yield node


def imported(path: Path, nodes: Iterator[ast.stmt] | Iterator[ast.AST]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import; `from cvtool import weights` gives cvtool.weights."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = path.relative_to(ROOT).parent.parts
                prefix = ".".join([*base[: len(base) - node.level + 1], *([node.module] if node.module else [])])
            else:
                prefix = node.module or ""
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def room(parts: tuple[str, ...]) -> str | None:
    return parts[0].removesuffix(".py") if parts and parts[0].removesuffix(".py") in LEVEL else None


def test_rooms_import_to_the_right() -> None:
    wrong = []
    for path in files():
        own = room(path.relative_to(PACKAGE).parts)
        if own is None:
            continue
        for line, name in imported(path, module_level(tree(path).body)):
            parts = name.split(".")
            other = room(tuple(parts[1:])) if parts[0] == "cvtool" else None
            if other is not None and LEVEL[other] < LEVEL[own]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {other}, which stands to its left")
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_room_has_a_level() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("**/*.py"))}
    rooms |= {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert rooms <= set(LEVEL), f"say where {rooms - set(LEVEL)} stands, in LEVELS"


def test_no_torch_where_starts_must_be_fast() -> None:
    wrong = []
    for path in files():
        inside = path.relative_to(PACKAGE).as_posix()
        if not any(inside == part or inside == f"{part}.py" or inside.startswith(f"{part}/") for part in NO_TORCH):
            continue
        heavy = ("torch", "torchvision", "timm", "transformers") + (("numpy", "PIL") if inside.startswith("cli/") else ())
        for line, name in imported(path, module_level(tree(path).body)):
            if name.split(".")[0] in heavy:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: imports {name} at module level")
    assert not wrong, "\n" + "\n".join(wrong)


def test_torchvision_comes_through_the_one_cheap_door() -> None:
    wrong = []
    for path in files():
        if path.relative_to(PACKAGE).as_posix() == "runtime/torchvision.py":
            continue
        parsed = tree(path)
        inside = {
            id(child)
            for node in ast.walk(parsed)
            if isinstance(node, ast.With) and any("cheap_import" in ast.unparse(item.context_expr) for item in node.items)
            for child in ast.walk(node)
        }
        typing = {
            id(child)
            for node in ast.walk(parsed)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for child in ast.walk(node)
        }
        nodes = (node for node in ast.walk(parsed) if id(node) not in inside | typing)
        for line, name in imported(path, nodes):
            if name.split(".")[0] in ("torchvision", "timm"):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: imports {name} outside `with cheap_import()`")
    assert not wrong, "\n" + "\n".join(wrong)


def test_only_the_command_line_prints_and_exits() -> None:
    wrong = []
    for path in files():
        inside = path.relative_to(PACKAGE).as_posix()
        if inside.startswith("cli/") or inside == "__main__.py":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in ("print", "exit", "quit", "sys.exit", "os._exit"):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: calls {called}()")
    assert not wrong, "\n" + "\n".join(wrong)


def test_only_model_files_know_models_by_name() -> None:
    from cvtool import registry

    names = set(registry.catalogue()) - {"seed"}  # which is what a generator of random numbers begins with, in every room
    wrong = []
    for path in files():
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "tasks", "train"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and node.value in names:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: knows the model {node.value!r} by name")
    assert not wrong, "\n" + "\n".join(wrong)


# --- what is loaded after a start ------------------------------------------------------------------------------------------------------------

HEAVY = ("torch", "numpy", "PIL", "rich", "pydantic", "torchvision", "timm", "scipy", "pycocotools")
PROBE = """
import contextlib, io, json, sys
from cvtool.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
    code = main(json.loads(sys.argv[1]))
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules}), out.getvalue(), err.getvalue()]))
"""


def started(words: list[str], **environment: str) -> tuple[int, set[str], str, str]:
    """Exit code, top-level modules loaded, stdout and stderr of one command line in a fresh interpreter."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", PROBE, json.dumps(words)], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    code, modules, out, err = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules), out, err


@pytest.mark.parametrize(
    ("words", "code", "light"),
    [
        (["--help"], 0, ()),
        (["--version"], 0, ("typer",)),
        (["detect", "--help"], 0, ()),
        (["detect", "a.jpg", "--nonsense"], 2, ()),
        (["detect", "a.jpg", "--conf", "lots"], 2, ()),
        (["detect", "a.jpg", "-m", "no-such-model"], 4, ()),
        (["detct"], 2, ("typer",)),
        (["models", "list"], 0, ()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_light_start_loads_nothing_heavy(words: list[str], code: int, light: tuple[str, ...]) -> None:
    if words[0] == "models" and not (PACKAGE / "cli" / "models.py").exists():
        pytest.skip("no models verb")
    got, modules, _, err = started(words)
    assert got == code, err
    assert not modules & {*HEAVY, *light}


def test_completion_loads_nothing_heavy() -> None:
    env = {"_CVTOOL_COMPLETE": "complete_bash", "COMP_WORDS": "cvtool detect -m faster", "COMP_CWORD": "3"}
    _, modules, out, err = started([], **env)
    assert "faster-rcnn" in out.split(), err
    assert not modules & {"torch", "numpy", "PIL", "pydantic"}


def test_data_rooms_load_without_torch() -> None:
    modules = ["cvtool.records", "cvtool.images", "cvtool.registry", "cvtool.checkpoint", "cvtool.data.inputs", "cvtool.tasks._choose"]
    modules += [f"cvtool.data.formats.{p.stem}" for p in sorted((PACKAGE / "data/formats").glob("[!_]*.py"))]
    modules += [f"cvtool.render.{p.stem}" for p in sorted((PACKAGE / "render").glob("*.py"))]
    modules += [f"cvtool.tasks.{name}" for name in ("evaluate", "visualize") if (PACKAGE / "tasks" / f"{name}.py").exists()]
    modules += [f"cvtool.cli.{p.stem}" for p in sorted((PACKAGE / "cli").glob("*.py"))]
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name); assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
