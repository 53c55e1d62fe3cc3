"""torchvision's image classifiers by name: `torchvision:resnet50`, `torchvision:resnet50@IMAGENET1K_V1` (github.com/pytorch/vision).

Names and facts are read from torchvision's files without importing it; without `@` a model takes the weights that torchvision calls DEFAULT;
`@none` is the untrained network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cvtool import download
from cvtool.categories import imagenet, numbered
from cvtool.checkpoint import prefixed, with_versions
from cvtool.errors import ModelError, did_you_mean
from cvtool.sources._tables import folder_of, index, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cvtool.batch import Prepare

VERBS = ("classify", "embed")
DESCRIPTION = "image classifiers of torchvision"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AUXILIARY = ("googlenet", "inception_v3")  # published with side branches that help training; here they are left out


def names() -> list[str]:
    """Every architecture, and every `architecture@WEIGHTS`."""
    return [full for name, weights in _models().items() for full in (name, *(f"{name}@{key}" for key in weights))]


def describe(name: str) -> dict[str, Any]:
    """What is known of `architecture` or `architecture@WEIGHTS`: `url`, sha256 prefix, licence, data, metrics, classes, input size."""
    architecture, key, found = _facts(name)
    facts = {
        "reference": f"torchvision:{architecture}" + (f"@{key}" if key else ""),
        "summary": f"{architecture} of torchvision" + (f", weights {key}" if key else ""),
        "tags": list(_models()[architecture]),
        "classes": 1000,
    }
    if found:
        stated = re.search(r"-([0-9a-f]{8,64})\.", found["url"])
        facts |= {"url": found["url"], "sha256": stated[1] if stated else "", "licence": found["licence"], "data": "ImageNet-1K"}
        facts |= {
            "metrics": found["metrics"],
            "input_size": [3, found["size"], found["size"]],
            "parameters": found["parameters"],
            "origin": found["recipe"],
        }
    return {k: v for k, v in facts.items() if v}


def build(name: str, *, pretrained: bool, classes: int | None, offline: bool) -> nn.Module:
    """The model, with its published weights in it if `pretrained`; `classes` other than ImageNet's 1000 leave the last layer fresh."""
    from cvtool import weights
    from cvtool.layers.classifier import Classifier
    from cvtool.runtime.torchvision import cheap_import

    architecture, _, found = _facts(name)
    facts = describe(name)
    if pretrained and not found:
        raise ModelError(f"torchvision publishes no weights of {architecture}", hint=f"torchvision:{architecture}@none is the untrained network")
    with cheap_import():
        from torchvision.models import get_model
    count = 1000 if classes is None else classes
    options: dict[str, Any] = {"transform_input": True, "aux_logits": False, "init_weights": not pretrained} if architecture in _AUXILIARY else {}
    net = get_model(architecture, weights=None, num_classes=count, **options)
    model = Classifier(net, features=_features, prepare=_prepare(found), categories=imagenet() if count == 1000 else numbered(count))
    if pretrained:
        path = download.fetch(facts, name=facts["reference"], offline=offline)
        model.fresh = weights.fill(model, rename(weights.read_foreign(path)), path, facts["reference"], strict=count == 1000)
    return model


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file of torchvision's under the names that our wrapper gives its tensors: the first DenseNets spell `norm.1` for `norm1`."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    kept = {old.sub(r"\1\2.", key): value for key, value in state.items() if not re.match(r"aux\d\.|AuxLogits\.", key)}
    return prefixed(with_versions(kept, getattr(state, "_metadata", None)), "net")


def _features(net: Any, images: Tensor) -> Tensor:
    """B D: what the last linear layer is fed; the average over the last map where there is none (SqueezeNet)."""
    from torch import nn

    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return net.features(images).mean(dim=(2, 3))
    caught: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        net(images)
    finally:
        handle.remove()
    return caught[0]


def _prepare(found: dict[str, Any]) -> Prepare:
    from cvtool.batch import Prepare

    size, resize = found.get("size", 224), found.get("resize", 256)
    mean, std = tuple(found.get("mean", _MEAN)), tuple(found.get("std", _STD))
    interpolation = found.get("interpolation", "bilinear")
    return Prepare(resize="crop", size=size, crop_fraction=size / resize, mean=mean, std=std, interpolation=interpolation)


# ---- the index -----------------------------------------------------------------------------------------------------


def _models() -> dict[str, dict[str, Any]]:
    """architecture -> weights' name -> facts, torchvision's default first."""
    return index("torchvision", _scan)


def _facts(name: str) -> tuple[str, str | None, dict[str, Any]]:
    architecture, _, key = name.partition("@")
    models = _models()
    if architecture not in models:
        raise ModelError(
            f"torchvision has no classifier '{architecture}'", hint=did_you_mean(architecture, models) or "`cvtool models list torchvision` shows all"
        )
    have = models[architecture]
    if not key or key == "none":
        key = next(iter(have), "") if not key else ""
    elif key.upper() in have:
        key = key.upper()
    else:
        raise ModelError(f"torchvision has no weights '{key}' of {architecture}", hint="it has " + ", ".join([*have, "none"]))
    return architecture, key or None, have.get(key, {})


_TABLES = re.compile(r"class \w+_Weights\(WeightsEnum\)|_?[A-Z][A-Z_0-9]* *[:=]")
_REGISTERED = re.compile(
    r"^@register_model\((?:name=)?[\"']?(\w*)[\"']?\)\n(?:@.*\n|[ )].*\n)*def (\w+)\((?s:.*?)weights: Optional\[(\w+)\]", re.MULTILINE
)


class _Mode:
    BILINEAR, BICUBIC = "bilinear", "bicubic"


def _scan() -> dict[str, Any]:
    stand_ins = {
        "WeightsEnum": object,
        "Weights": dict,
        "partial": lambda _, **options: options,
        "ImageClassification": None,
        "InterpolationMode": _Mode,
        "_IMAGENET_CATEGORIES": [],
    }
    found: dict[str, Any] = {}
    for path in sorted((folder_of("torchvision") / "models").glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        tables = run(text, _TABLES, stand_ins)
        for given, function, enum in _REGISTERED.findall(text):
            found[given or function] = _weights(tables.get(enum))
    return dict(sorted(found.items()))


def _weights(enum: Any) -> dict[str, Any]:
    table = {key: value for key, value in vars(enum or object).items() if isinstance(value, dict) and "url" in value}
    default = table.pop("DEFAULT", None)
    ordered = sorted(table.items(), key=lambda item: item[1] is not default)
    return {key: _trimmed(value) for key, value in ordered}


def _trimmed(value: dict[str, Any]) -> dict[str, Any]:
    meta, transforms = value["meta"], value["transforms"]
    metrics: dict[str, float] = next(iter(meta.get("_metrics", {}).values()), {})
    return {
        "url": value["url"],
        "licence": meta.get("license") or "BSD-3-Clause",
        "metrics": {f"top{name[4:]}": round(figure / 100, 6) for name, figure in metrics.items() if name.startswith("acc@") and figure == figure},
        "parameters": meta.get("num_params"),
        "recipe": meta.get("recipe"),
        "size": transforms.get("crop_size", 224),
        "resize": transforms.get("resize_size", 256),
        "interpolation": transforms.get("interpolation", "bilinear"),
        "mean": transforms.get("mean", _MEAN),
        "std": transforms.get("std", _STD),
    }
