"""List, show, fetch, check and import models and their weights.

Examples:

    cvtool models list --verb segment
    cvtool models show faster-rcnn
    cvtool models show runs/0001
    cvtool models cost resnet.50 timm:convnext_tiny
    cvtool models gradcheck resnet.tiny
    cvtool models pull faster-rcnn timm:resnet50.a1_in1k
    cvtool models verify
    cvtool models import old.pth --as faster-rcnn --categories names.txt -o detector.safetensors
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.cli import _options as opt
from cvtool.cli._console import Console
from cvtool.cli._table import aligned
from cvtool.errors import GateFailed, ModelError, UsageError
from cvtool.tasks import models

app = typer.Typer(no_args_is_help=True)

References = Annotated[list[str], typer.Argument(metavar="REF...", help="Models, as -m takes them.", autocompletion=models.names)]
AnyReferences = Annotated[list[str] | None, typer.Argument(metavar="REF...", help="Models, as -m takes them.", autocompletion=models.names)]


@app.command("list")
def list_models(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="A source of models, such as timm.")] = None,
    verb: Annotated[str | None, typer.Option("--verb", metavar="NAME", help="Only models that this verb takes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List models: name, verbs, variants, weights, summary.

    A table on a terminal; in a pipe, columns separated by tabs (lists by commas), or JSON lines with --json.
    """
    from cvtool import registry

    table = sys.stdout.isatty() and not as_json
    rows = list(models.listing(source, verb=verb)) if table else models.listing(source, verb=verb)
    if table:
        _show_table(rows, source)
    else:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False) if as_json else "\t".join(_cell(row.get(k)) for k in _COLUMNS).rstrip("\t"))
    for name, reason in registry.broken().items():
        Console("models").error(f"the plugin model {name} cannot be used: {reason}")


_COLUMNS = ("name", "verbs", "variants", "weights", "summary")


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else "" if value is None else str(value)


def _show_table(rows: Any, source: str | None) -> None:
    cells = [[row["name"], ",".join(row["verbs"]), " ".join(row.get("variants", ())), row.get("summary", "")] for row in rows]
    print("\n".join(aligned(cells, indent="")))
    if source is None:
        from cvtool import registry

        worlds = ", ".join(f"{name}:" for name in registry.sources())
        print(f"\nand the models of {worlds} (`cvtool models list timm`); `cvtool models show NAME` tells the rest")


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="NAME|REF|PATH", help="A model, its weights, or a checkpoint.", autocompletion=models.names)],
    as_json: opt.Json = False,
) -> None:
    """Show all about a model, weights or a checkpoint.

    For a checkpoint that is what it finds, how well, who trained it on what, and the command that did.
    """
    facts = models.show(model)
    print(json.dumps(facts, ensure_ascii=False, indent=2) if as_json else "\n".join(_lines(facts)))


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """A dict as lines; dicts inside indented, short lists in a row."""
    lines: list[str] = []
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            shown = [str(item["name"]) if isinstance(item, dict) and "name" in item else "-" if item is None else str(item) for item in value]
            more = f", ... ({len(shown)} in all)" if len(shown) > 20 else ""
            lines.append(f"{indent}{key}: {', '.join(shown[:20])}{more}")
        else:
            missing = "(not on this machine)" if key == "path" else ""
            lines.append(f"{indent}{key}: {missing if value is None else 'none' if value == {} else value}".rstrip())
    return lines


@app.command()
def cost(
    context: typer.Context,
    references: References,
    img_size: opt.ImgSize = None,
    measure: Annotated[bool, typer.Option("--time", help="Also run it and measure the median time of a prediction.")] = False,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    batch_size: opt.BatchSize = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Count what a model costs: parameters, multiply-adds, activations, memory.

    For one picture, in all and for each part; no weights are needed. MACs are multiply-adds, which most papers print as FLOPs; GFLOPs count
    both halves, so they are twice as many. Memory is that of a prediction in float32. --device, --precision and --batch-size go with --time.
    """
    from cvtool.tasks import cost as task

    for option in ("device", "precision", "batch_size"):
        typed = getattr(context.get_parameter_source(option), "name", "") == "COMMANDLINE"
        opt.needs(f"--{option.replace('_', '-')}", typed, "--time", measure)
    for i, reference in enumerate(references):
        facts = task.cost(reference, img_size=img_size)
        if measure:
            facts["time"] = task.latency(reference, img_size=img_size, device=device, precision=precision, batch_size=batch_size or 1)
        print(json.dumps(facts) if as_json else "\n".join([*([""] if i else []), *_cost_lines(facts)]), flush=True)


def _cost_lines(facts: dict[str, Any]) -> list[str]:
    """Two or three lines of totals and a table of the parts: aligned on a terminal, columns separated by tabs in a pipe."""
    if facts["macs"] is None:
        return [f"{facts['model']}: {facts['parameters']:,} values; nothing is counted of what is fitted, before it is"]
    height, width = facts["image"]
    lines = [
        f"{facts['model']} at {height} x {width}: {facts['parameters']:,} parameters, {facts['macs'] / 1e9:,.3f} GMACs "
        f"({facts['flops'] / 1e9:,.3f} GFLOPs), {facts['activations'] / 1e6:,.2f} M activations",
        f"memory: {_mebibytes(facts['weight_bytes'])} weights, {_mebibytes(facts['peak_bytes'])} at most while it predicts",
    ]
    if timing := facts.get("time"):
        lines.append(
            f"time on {timing['device']}, {timing['precision']}, batch of {timing['batch_size']}: {timing['milliseconds']:.2f} ms, "
            f"{timing['pictures_per_second']:.1f} pictures a second"
        )
    rows = [["part", "kind", "output", "parameters", "MMACs", "M activations"]]
    for part in facts["parts"]:
        shape = "x".join(map(str, part["output"][1:])) if part["output"] else "-"
        counts = [f"{part['parameters']:,}", f"{part['macs'] / 1e6:,.2f}", f"{part['activations'] / 1e6:,.3f}"]
        rows.append([part["name"], part["kind"] or "-", shape, *counts])
    return lines + (aligned(rows) if sys.stdout.isatty() else ["\t".join(row) for row in rows])


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


@app.command()
def gradcheck(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A model, as -m takes it; its `tiny` variant is quick.", autocompletion=models.names)
    ],
    img_size: opt.ImgSize = None,
    samples: Annotated[int, typer.Option("--samples", min=1, metavar="N", help="Elements of each parameter that are tried.")] = 4,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0.0, metavar="F", help="Relative error above which a gradient is wrong.")] = 1e-4,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Compare a model's gradients with finite differences of its losses.

    Untrained and in float64, on made-up pictures: name, shape and largest relative error of each parameter, separated by tabs. Exit code 6 where
    one is above --tolerance; what a loss takes for a constant by design, as a two-stage detector does its proposals, rightly is.
    """
    from cvtool.tasks import gradcheck as task

    rows = task.gradcheck(reference, img_size=img_size, samples=samples)
    cells = [[row["name"], "x".join(map(str, row["shape"])) or "scalar", f"{row['error']:.1e}"] for row in rows]
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        print("\n".join(aligned([["parameter", "shape", "error"], *cells], indent="") if sys.stdout.isatty() else ["\t".join(row) for row in cells]))
    wrong = [row for row in rows if not row["error"] <= tolerance]
    if wrong:
        worst = ", ".join(f"{row['name']} ({row['error']:.1e})" for row in sorted(wrong, key=lambda row: -row["error"])[:3])
        hint = "right for weights that the loss takes for constants, such as those behind the proposals of a two-stage detector"
        raise GateFailed(f"{len(wrong)} of {len(rows)} gradients are not the slope of the loss: {worst}", hint=hint)
    Console("models").say(f"{len(rows)} gradients are the slope of the loss, to {max(row['error'] for row in rows):.1e}")


@app.command()
def pull(references: References, offline: opt.Offline = False, quiet: opt.Quiet = False) -> None:
    """Download weights, so that no later command must.

    Prints reference, file and licence, separated by tabs. What lies in the caches of torch or Hugging Face is not downloaded again.
    """
    console = Console("models pull", quiet=quiet)
    failed: list[ModelError] = []
    for row in models.pull(references, offline=offline, progress=console.transfer):
        console.clear()
        if "error" in row:
            failed.append(row["error"])
            continue
        if row["path"] is None:
            console.say(f"{row['reference']} has no weights to fetch")
        else:
            print(f"{row['reference']}\t{row['path']}\t{row['licence'] or 'licence not stated'}", flush=True)
    for error in failed[:-1]:
        console.error(" ".join(line.strip() for line in error.lines()))
    if failed:
        raise failed[-1]


@app.command()
def verify(references: AnyReferences = None, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """Hash weight files again and compare.

    Without REF: what ships with cvtool, what it downloaded, and what lies in the caches of torch and Hugging Face for models it knows. Prints
    state (ok, damaged, unknown, missing), file and reference, separated by tabs; exit code 4 where one is damaged or missing.
    """
    bad = []
    count = 0
    for row in models.verify(references):
        count += 1
        print(json.dumps(row) if as_json else f"{row['state']}\t{row['path'] or ''}\t{row['reference'] or ''}".rstrip(), flush=True)
        if row["state"] in ("damaged", "missing"):
            bad.append(row["path"] or row["reference"])
    if bad:
        hint = "remove what is damaged; `cvtool models pull REF` fetches it again"
        raise ModelError(f"{len(bad)} of {count} weight files are damaged or missing", where=", ".join(bad[:5]), hint=hint)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pt, .th, .bin or .safetensors file, or a run folder.")],
    name: Annotated[str, typer.Option("--as", metavar="REF", help="The model it belongs to.", autocompletion=models.names)],
    output: opt.Output = None,
    categories: Annotated[
        str | None, typer.Option("--categories", metavar="FILE|NAME", help="What it finds: a name a line, a COCO file, or coco, voc ...")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="TEXT", help="Written into the checkpoint.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store matrices as float16.")] = False,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
) -> None:
    """Make a checkpoint of somebody else's weights.

    It says which model it is and what it finds. Every tensor must fit; what is renamed or left out is told on stderr. A checkpoint of
    cvtool's own, or a run, keeps what it says of itself: so a run becomes a small file to hand out. For example:

        cvtool models import old.pth --as faster-rcnn --categories names.txt -o detector.safetensors
        cvtool models import runs/0001 --as faster-rcnn.small --licence MIT --half -o release.safetensors
    """
    if output is None:
        raise UsageError("-o is missing: where should the checkpoint go?", hint="-o NAME.safetensors")
    target = Path(output)
    if target.suffix != ".safetensors":
        raise UsageError(f"a checkpoint ends in .safetensors, not '{target.name}'", hint=f"-o {target.with_suffix('.safetensors')}")
    if target.exists() and not overwrite:
        raise UsageError("the output exists", where=target, hint="--overwrite replaces it")
    console = Console("models import", quiet=quiet)
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    done = models.imported(file, name, target, categories=categories, licence=licence, half=half, command=command, say=console.say)
    print(os.fspath(done))


@app.command("names", hidden=True)
def print_names(prefix: Annotated[str, typer.Argument()] = "") -> None:
    """Print the references that begin with PREFIX, one a line; what the shells' completion asks for."""
    print("\n".join(models.names(prefix)))
