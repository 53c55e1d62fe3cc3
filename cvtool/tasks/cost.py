"""What a model costs before it is trained or downloaded: `cost("resnet50")` -> parameters, multiply-adds, activations, memory, a table of parts."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cvtool import registry, weights
from cvtool.batch import Batch
from cvtool.categories import Categories, numbered
from cvtool.errors import CvtoolError, ModelError
from cvtool.metrics.cost import cost as counted
from cvtool.registry import Reference
from cvtool.runtime.device import autocast, pick_device

SIDE = 512  # of the picture given to a model that takes any size
LONGEST = 2.0  # seconds of repeated runs


def cost(model: str, *, img_size: int | None = None) -> dict[str, Any]:
    """One picture through the untrained model, as plain JSON: image (height, width as the network sees it), parameters, macs, flops (2 x macs),
    activations, weight_bytes, peak_bytes, and parts: name, kind, output, parameters, macs, activations.

    The picture is square. Where the network runs without values, nothing is computed; a detector that chooses by score is run on the CPU on a grey
    picture, and its second stage on the regions that an untrained first one proposes ("counted_on"). A model that is no network, or that its data
    have yet to give its size, has only parameters, the rest is None. Raises ModelError for an unknown model, or one that refuses the size.
    """
    reference, made = _made(model)
    name = str(replace(reference, weights=None)) if reference.path is None else str(reference)
    if not isinstance(made, nn.Module) or (hasattr(made, "fit") and reference.path is None):
        arrays = made.state_dict().values() if hasattr(made, "state_dict") else ()
        rest = dict.fromkeys(("image", "macs", "flops", "activations", "weight_bytes", "peak_bytes", "counted_on"))
        return {"model": name, "parameters": sum(math.prod(a.shape) for a in arrays), **rest, "parts": []}
    batch = _batch(made, img_size)
    found, place = None, "meta"
    if not any(p.is_meta for p in made.parameters()):
        made = made.to("meta")
    try:
        found = counted(made, lambda: _look(made, batch.to("meta")))
    except ModelError:
        raise
    except Exception:  # the choice of boxes asks for values, and there are many ways to say so
        _, made = _made(model, real=True)
        place = "cpu"
    if found is None:
        try:
            found = counted(made, lambda: _look(made, batch))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ModelError(f"{name} does not run at {_size(batch)}: {str(error).splitlines()[0]}", hint="another --img-size?") from error
    told = {key: value for key, value in asdict(found).items() if key != "parts"}
    facts = {"model": name, "image": list(batch.images.shape[-2:]), **told, "flops": found.flops, "counted_on": place}
    return facts | {"parts": [asdict(part) for part in found.parts]}


def latency(model: str, *, img_size: int | None = None, device: str = "auto", precision: str = "fp32", batch_size: int = 1) -> dict[str, Any]:
    """Measured: the median time of a prediction by the untrained model on that device, in milliseconds a batch, over up to two seconds of runs
    after three to warm up; and pictures a second. Raises ModelError for what is no network."""
    where = pick_device(device)
    reference, made = _made(model, real=True)
    if not isinstance(made, nn.Module) or (hasattr(made, "fit") and reference.path is None):
        raise ModelError(f"{reference.name} is fitted to its data, and its speed depends on them", hint="give a fitted one: a checkpoint or a run")
    made = made.to(where)
    one = _batch(made, img_size, count=batch_size).to(where)
    times: list[float] = []
    with torch.inference_mode(), autocast(where, precision):
        for i in range(103):
            _wait(where)
            start = time.perf_counter()
            _look(made, one)
            _wait(where)
            if i >= 3:
                times.append(time.perf_counter() - start)
                if sum(times) > LONGEST and len(times) >= 3:
                    break
    median = statistics.median(times)
    facts = {"device": str(where), "precision": precision, "batch_size": batch_size, "runs": len(times), "threads": torch.get_num_threads()}
    return facts | {"milliseconds": 1000 * median, "pictures_per_second": batch_size / median}


def _made(model: str, *, real: bool = False) -> tuple[Reference, Any]:
    """The reference and the untrained model in eval mode, without memory for its values if that can be had and `real` is not asked for."""
    reference = registry.parse(model)
    if reference.path is None:
        reference = replace(reference, weights=None)
    categories = _categories(reference)
    if not real:
        try:
            with torch.device("meta"):
                return reference, _eval(weights.build(reference, categories=categories))
        except CvtoolError:
            raise
        except Exception:  # its construction reads values
            pass
    return reference, _eval(weights.build(reference, categories=categories))


def _eval(model: Any) -> Any:
    return model.eval() if isinstance(model, nn.Module) else model


def _categories(reference: Reference) -> Categories:
    if reference.path is not None:
        return weights.read_info(reference.path).categories
    if reference.entry is not None:
        return weights.default_categories(reference.entry, reference.variant)
    return numbered(int(registry.source(reference.source or "").describe(reference.name).get("classes", 1000)))


def _batch(model: Any, img_size: int | None, count: int = 1) -> Batch:
    prepare = model.prepare if img_size is None else model.prepare.sized(img_size)
    return prepare([np.full((SIDE, SIDE, 3), 128, np.uint8)] * count)


def _look(model: Any, batch: Batch) -> Any:
    """What the model is for: its prediction, a picture of a generator's, a filled one's, or the features of what has no classes."""
    if hasattr(model, "sample") and not hasattr(model, "predict"):
        told = {"classes": [0] * len(batch)} if getattr(model, "conditional", 0) else {}
        return model.sample(len(batch), 0, **told)
    if hasattr(model, "fill") and not hasattr(model, "predict"):
        hole = torch.zeros_like(batch.padding)[:, None]
        hole[..., : hole.shape[-2] // 2, : hole.shape[-1] // 2] = True
        return model.fill(batch.images, hole)
    if hasattr(model, "predict") and (model.categories or not hasattr(model, "embed")):
        return model.predict(batch)
    return model.embed(batch)


def _size(batch: Batch) -> str:
    return " x ".join(map(str, batch.images.shape[-2:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
