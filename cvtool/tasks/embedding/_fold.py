"""The same features in less time: batch normalisation folded into the convolution before it, and memory laid out as convolutions like it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier


class _Features(nn.Module):
    """images B 3 H W -> B D, as the classifier has them."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.net, self._features = model.net, model._features

    def forward(self, images: Tensor) -> Tensor:
        return self._features(self.net, images)


class _Tracer(fx.Tracer):
    """Looks into no module that has none inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)


def folded(model: Classifier) -> Callable[[Tensor], Tensor] | None:
    """The features of a classifier in eval mode, equal but for rounding; None where nothing can be folded. The model itself stays as it is.

    (x * w - mean) / deviation is a convolution with other weights (Jacob 2018, arXiv:1712.05877, section 3.2).
    """
    try:
        tracer = _Tracer()
        graph = tracer.trace(_Features(model))
        traced = fx.GraphModule(tracer.root, graph)
    except Exception:  # a network whose way depends on what it sees cannot be traced, and tells so in many ways
        return None
    parts, changed = dict(traced.named_modules()), 0
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or type(parts[node.target]) not in (nn.BatchNorm2d, BatchNorm) or not isinstance(before := node.args[0], fx.Node):
            continue
        if before.op != "call_module" or type(parts[before.target]) is not nn.Conv2d or len(before.users) > 1:
            continue
        uses = sum(other.op == "call_module" and other.target in (before.target, node.target) for other in traced.graph.nodes)
        if uses > 2 or not parts[node.target].track_running_stats:  # layers that are passed twice stay
            continue
        parent, _, name = str(before.target).rpartition(".")
        fused = fuse_conv_bn_eval(parts[before.target], parts[node.target]).to(memory_format=torch.channels_last)
        setattr(traced.get_submodule(parent), name, fused)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        changed += 1
    if not changed:
        return None
    traced.recompile()
    return lambda images: traced(images.contiguous(memory_format=torch.channels_last))
