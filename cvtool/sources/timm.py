"""timm's image models by name: `timm:resnet50.a1_in1k` (Wightman 2019, github.com/huggingface/pytorch-image-models).

Names and facts are read from timm's files without importing it; the weights come through cvtool's own caches and download, so that
`--offline` and hashes hold for them too; `timm:resnet18@none` is the untrained network.
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cvtool import download
from cvtool.categories import Categories, imagenet, numbered
from cvtool.checkpoint import prefixed
from cvtool.errors import ModelError, did_you_mean
from cvtool.sources._tables import folder_of, index, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cvtool.batch import Prepare

VERBS = ("classify", "embed")
DESCRIPTION = "image classifiers and features of timm"
_KEPT = (
    "url",
    "hf_hub_id",
    "hf_hub_filename",
    "license",
    "num_classes",
    "input_size",
    "crop_pct",
    "crop_mode",
    "interpolation",
    "origin_url",
    "paper_ids",
)
_SUBSETS = {1000: "imagenet-1k", 11221: "imagenet-21k-miil", 11821: "imagenet-12k", 21841: "imagenet-22k", 21842: "imagenet-22k-ms", 21843: "imagenet-21k-goog"}  # fmt: skip  # noqa: E501


def names() -> list[str]:
    """Every architecture, and every `architecture.tag` with published weights."""
    return list(_models())


def describe(name: str) -> dict[str, Any]:
    """What is known of a model and its weights: `url`, or `hf` and `file`; sha256 prefix, licence, input size, classes."""
    found = _facts(name)
    facts = {
        "reference": f"timm:{found['architecture']}.{found['tag']}" if found.get("tag") and _has_weights(found) else f"timm:{found['name']}",
        "summary": f"{found['architecture']} of timm" + (f", weights {found['tag']}" if found.get("tag") else ""),
        "licence": found.get("license"),
        "classes": found.get("num_classes", 1000),
        "input_size": found.get("input_size"),
        "paper": found.get("paper_ids"),
        "origin": found.get("origin_url"),
        "tags": [other.partition(".")[2] for other in _models() if other.startswith(found["architecture"] + ".")],
    }
    if repository := found.get("hf_hub_id"):
        facts |= {"hf": repository, "file": found.get("hf_hub_filename") or "model.safetensors"}
        facts["otherwise"] = [] if found.get("hf_hub_filename") else ["pytorch_model.bin"]
    elif url := found.get("url"):
        facts |= {"url": url}
        if stated := re.search(r"-([0-9a-f]{8,64})\.", url.rpartition("/")[2]):
            facts["sha256"] = stated[1]
    return {key: value for key, value in facts.items() if value not in (None, "", [])}


def build(name: str, *, pretrained: bool, classes: int | None, offline: bool) -> nn.Module:
    """The model, with its published weights in it if `pretrained`; `classes` other than the weights' own leaves the head fresh."""
    from cvtool.checkpoint import read_foreign
    from cvtool.layers.classifier import Classifier
    from cvtool.runtime.torchvision import cheap_import

    found = _facts(name)
    with cheap_import():
        import timm
        from timm.data import resolve_model_data_config
    changes: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if pretrained:
        facts = describe(name)
        if download.address(facts) is None:
            hint = f"trained: {', '.join(facts.get('tags', []))}" if facts.get("tags") else f"timm:{found['name']}@none is the untrained network"
            raise ModelError(f"timm publishes no weights of {found['name']}", hint=hint)
        path = download.fetch(facts, name=facts["reference"], offline=offline)
        changes["pretrained_cfg_overlay"] = {"state_dict": read_foreign(path)}
    try:
        net: Any = timm.create_model(found["name"], pretrained=pretrained, **changes)
    except (RuntimeError, AssertionError, KeyError) as error:
        message = " ".join(str(error).split())[:200]
        raise ModelError(f"timm cannot build {found['name']}: {message}", hint="are timm and the weights of the same age?") from error
    net.pretrained_cfg.pop("state_dict", None)
    count = net.num_classes
    own = count == found.get("num_classes", 1000)
    prepare = _prepare(resolve_model_data_config(net), net.pretrained_cfg)
    model = Classifier(net, features=_features, prepare=prepare, categories=_categories(count) if own else numbered(count))
    if pretrained and not own:
        heads = net.pretrained_cfg.get("classifier") or ()
        heads = tuple(f"net.{head}." for head in ([heads] if isinstance(heads, str) else heads))
        model.fresh = [key for key in model.state_dict() if key.startswith(heads)]
    return model


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file saved by timm, under the names that our wrapper gives its tensors."""
    return prefixed(state, "net")


def _features(net: Any, images: Tensor) -> Tensor:
    return net.forward_head(net.forward_features(images), pre_logits=True)


def _categories(count: int) -> Categories:
    """ImageNet's classes with their WordNet synsets, ids 0.. in the order of the outputs; numbered where the count is no ImageNet's."""
    if count not in _SUBSETS:
        return numbered(count)
    from cvtool.runtime.torchvision import cheap_import

    with cheap_import():
        from timm.data import ImageNetInfo

    info = ImageNetInfo(_SUBSETS[count])
    synsets = info.label_names()
    if count == 1000:  # the names that torchvision's models have, so that the two sources agree
        return [category | {"synset": synset} for category, synset in zip(imagenet(), synsets, strict=True)]
    words = [info.index_to_description(i) for i in range(count)]
    first = Counter(word.partition(",")[0] for word in words)
    short = [word if first[word.partition(",")[0]] > 1 else word.partition(",")[0] for word in words]
    return [{"id": i, "name": name, "synset": synset} for i, (name, synset) in enumerate(zip(short, synsets, strict=True))]


def _prepare(config: dict[str, Any], cfg: dict[str, Any]) -> Prepare:
    """timm's evaluation transform: shorter edge to floor(size / crop_pct), bicubic or bilinear, the centre cut out."""
    from cvtool.batch import Prepare

    height, width = config["input_size"][-2:]
    common = {"mean": tuple(config["mean"]), "std": tuple(config["std"]), "interpolation": config["interpolation"]}
    if config.get("crop_mode", "center") != "center" or height != width:
        return Prepare(resize="stretch", size=(height, width), **common)
    return Prepare(resize="crop", size=height, crop_fraction=height / math.floor(height / config["crop_pct"]), **common)


# ---- the index -----------------------------------------------------------------------------------------------------


def _models() -> dict[str, dict[str, Any]]:
    return index("timm", _scan)


def _facts(name: str) -> dict[str, Any]:
    models = _models()
    if name not in models:
        hint = did_you_mean(name, models) or did_you_mean(name.partition(".")[0], {n.partition(".")[0] for n in models})
        raise ModelError(f"timm has no model '{name}'", hint=hint or "`cvtool models list timm` shows all")
    return {"name": name, **models[name]}


_CONSTANTS = re.compile(r"[A-Z][A-Z_0-9]* *=")
_TABLES = re.compile(r"def _\w*cfg|\w*cfgs?\b|for \w+ in \w*cfgs|_?[A-Z][A-Z_0-9]* *=", re.IGNORECASE)
_REGISTERED = re.compile(r"^@register_model\n(?:@.*\n)*def (\w+)", re.MULTILINE)


def _scan() -> dict[str, dict[str, Any]]:
    folder = folder_of("timm")
    names: dict[str, Any] = {"generate_default_cfgs": dict, "OrderedDict": dict, "copy": copy}
    names |= run((folder / "data" / "constants.py").read_text(encoding="utf-8"), _CONSTANTS, {})
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "models").glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        grouped: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for key, cfg in run(text, _TABLES, names).get("default_cfgs", {}).items():
            architecture, _, tag = key.partition(".")
            grouped.setdefault(architecture, []).append((tag, cfg))
        for architecture in _REGISTERED.findall(text):
            found |= dict(_entries(architecture, _by_priority(grouped.get(architecture, []))))
    return dict(sorted(found.items()))


def _by_priority(tagged: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """timm's default first: the untagged weights or the tag marked `*`, else the first tag that has weights."""
    starred = next((i for i, (tag, cfg) in enumerate(tagged) if tag.endswith("*") or (not tag and _has_weights(cfg))), None)
    if starred is None:
        starred = next((i for i, (_, cfg) in enumerate(tagged) if _has_weights(cfg)), 0)
    tagged = [*tagged[starred : starred + 1], *tagged[:starred], *tagged[starred + 1 :]]
    return [(tag.rstrip("*"), cfg) for tag, cfg in tagged]


def _has_weights(cfg: dict[str, Any]) -> bool:
    return bool(cfg.get("url") or cfg.get("file") or cfg.get("hf_hub_id"))


def _entries(architecture: str, tagged: list[tuple[str, dict[str, Any]]]) -> Iterable[tuple[str, dict[str, Any]]]:
    yield architecture, {"architecture": architecture, **_trimmed(architecture, *(tagged[0] if tagged else ("", {})))}
    for tag, cfg in tagged:
        if tag and _has_weights(cfg):
            yield f"{architecture}.{tag}", {"architecture": architecture, **_trimmed(architecture, tag, cfg)}


def _trimmed(architecture: str, tag: str, cfg: dict[str, Any]) -> dict[str, Any]:
    kept = {key: cfg[key] for key in _KEPT if cfg.get(key) not in (None, "")}
    if kept.get("hf_hub_id") == "timm/":
        kept["hf_hub_id"] += f"{architecture}.{tag}" if tag else architecture
    return kept | ({"tag": tag} if tag else {})
