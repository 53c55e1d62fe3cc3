"""Turn pictures into vectors; search, group, clean, verify and classify by them; find who or what is where.

A vector is what a model sees before it decides: any classifier embeds, trained here or published, and `handcrafted` needs no weights. --layer takes
any other layer, as a forward hook sees it. Tables are .npz, .npy (mapped into memory), .safetensors, .parquet, .csv or JSON lines, and say what made
them; another model's vectors are refused. --resume goes on with a table by what the pictures hold. Distances (--threshold) are 1 - cosine unless
--distance says l2 or hamming; scores are larger for nearer.

Examples:

    cvtool embed photos/ -m timm:resnet18.a1_in1k -o photos.npz
    cvtool embed photos/ -m resnet50 --layer avgpool -o features.npy
    cvtool embed --search photos.npz query.png --top 5 | cvtool visualize - --grid hits.png
    cvtool embed photos/ -m handcrafted --binary -o bits.npz
    cvtool embed --cluster photos.npz -k 20 --grid clusters.png -o clusters.jsonl
    cvtool embed --dedupe photos.npz --threshold 0.02 | jq -r 'select(.duplicate_of).file_name'
    cvtool embed --pairs pairs.tsv -m timm:resnet18.a1_in1k --json
    cvtool embed --knn labels.csv --search photos.npz new/
    cvtool embed gallery add ann/*.jpg --name ann --gallery people.npz -m timm:resnet18.a1_in1k
    cvtool embed identify door.jpg --gallery people.npz --k 5 --threshold 0.3
    cvtool embed verify a.jpg b.jpg -m timm:resnet18.a1_in1k --threshold 0.3
    cvtool embed match left.png right.png -m resnet --layer layer2 | cvtool visualize - > lines.png
    cvtool embed match3d scan1.ply scan2.ply
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.cli import _embedding as actions
from cvtool.cli import _options as opt
from cvtool.errors import UsageError

Ann = Annotated[bool, typer.Option("--ann", help="Approximate search by a graph that is kept beside the table (needs faiss).")]
Binary = Annotated[bool, typer.Option("--binary", help="Bits instead of numbers (above the mean or not), for Hamming search.")]
Cluster = Annotated[Path | None, typer.Option("--cluster", metavar="TABLE", help="Group this table into -k clusters.")]
Count = Annotated[int | None, typer.Option("-k", "--k", min=1, metavar="N", help="How many clusters, or how many neighbors count (5).")]
Dedupe = Annotated[Path | None, typer.Option("--dedupe", metavar="TABLE", help="Which pictures of this table repeat an earlier one.")]
Distance = Annotated[str | None, typer.Option("--distance", metavar="NAME", help="cosine, l2 or hamming (default: hamming for bits, else cosine).")]
Gallery = Annotated[Path | None, typer.Option("--gallery", metavar="FILE.npz", help="Who is who, for `gallery add|remove|list` and `identify`.")]
Knn = Annotated[Path | None, typer.Option("--knn", metavar="LABELS", help="Classify by neighbors: NAME,LABEL lines or class folders.")]
Layer = Annotated[str | None, typer.Option("--layer", metavar="NAME", help="What this layer gives, the mean over its positions.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Who is on the pictures (default: what their folder is called).")]
Normalize = Annotated[bool, typer.Option("--normalize", help="Vectors of length 1.")]
Pairs = Annotated[Path | None, typer.Option("--pairs", metavar="FILE.tsv", help="Judge pairs, NAME NAME 1|0 a line, and find their threshold.")]
Recall = Annotated[bool, typer.Option("--recall", help="With --search TABLE and a second table of pairs: recall@1, 5, 10 both ways.")]
Search = Annotated[Path | None, typer.Option("--search", "--index", metavar="TABLE", help="For each INPUT, the nearest of this table.")]
Threshold = Annotated[
    str | None, typer.Option("--threshold", metavar="F", help="Farther apart is not the same (--pairs: or the rule, accuracy or eer).")
]
Tokens = Annotated[bool, typer.Option("--tokens", help="A vector for every position, not one a picture.")]
Top = Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="How many neighbors to tell (5).")]


def main(
    context: typer.Context,
    inputs: opt.Inputs = None,
    model: opt.Model = None,
    output: opt.Output = None,
    format: opt.Format = None,
    layer: Layer = None,
    tokens: Tokens = False,
    normalize: Normalize = False,
    binary: Binary = False,
    search: Search = None,
    top: Top = None,
    ann: Ann = False,
    recall: Recall = False,
    cluster: Cluster = None,
    dedupe: Dedupe = None,
    pairs: Pairs = None,
    knn_labels: Knn = None,
    k: Count = None,
    gallery: Gallery = None,
    name: Name = None,
    threshold: Threshold = None,
    distance: Distance = None,
    grid: opt.Grid = None,
    json: opt.Json = False,
    img_size: opt.ImgSize = None,
    batch_size: opt.BatchSize = None,
    workers: opt.Workers = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    images: opt.Images = None,
    files_from: opt.FilesFrom = None,
    shard: opt.Shard = None,
    seed: opt.Seed = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    deterministic: opt.Deterministic = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    given = dict(locals())
    given.pop("context")
    given["inputs"] = list(inputs or ())
    action = _action(given)
    typed = {option for option in context.params if getattr(context.get_parameter_source(option), "name", "") == "COMMANDLINE"}
    for option in sorted(typed - actions.EFFECTS[action] - {"inputs"}):
        others = [_with(name) for name in actions.EFFECTS if option in actions.EFFECTS[name]]
        raise UsageError(f"{_spelt(option)} has no effect {_with(action)}", hint=f"it has {' or '.join(others[:4])}" if others else None)
    actions.ACTIONS[action](given)


def _with(action: str) -> str:
    """An action in words: `with --search`, `with gallery add`."""
    return "without an action" if action == "embed" else f"with {_spelt(action)}" if action in actions.OPTIONS else f"with `{action}`"


def _spelt(option: str) -> str:
    """A parameter as it is typed."""
    return {"k": "-k", "files_from": "--files0-from", "knn_labels": "--knn"}.get(option, f"--{option.replace('_', '-')}")


def _action(given: dict[str, Any]) -> str:
    """What is asked for: a word in front, which is taken off, or an option. Raises UsageError for two at once."""
    words = given["inputs"]
    asked = [name for name in actions.OPTIONS if given[name] is not None]
    if "knn_labels" in asked and "search" in asked:
        asked.remove("search")
    if words and words[0] in actions.WORDS and not os.path.lexists(words[0]):
        word = words.pop(0)
        if word == "search":
            if given["search"] is None:
                raise UsageError("which table? --index is missing", hint="cvtool embed search QUERY --index photos.npz")
        elif word == "gallery":
            if not words or words[0] not in ("add", "remove", "list"):
                raise UsageError("what is to be done with the gallery?", hint="cvtool embed gallery add, remove or list")
            word = f"gallery {words.pop(0)}"
        asked += [word] if word != "search" else []
    if len(asked) > 1:
        both = " and ".join(_spelt(name) if name in actions.OPTIONS else name for name in asked[:2])
        raise UsageError(f"{both} exclude each other", hint="one at a time")
    return asked[0] if asked else "embed"
