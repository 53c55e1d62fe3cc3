"""What a network costs: parameters, multiply-adds, activations and memory, in all and for each part; counted while it runs.

One multiply-add (MAC) is one product added to a sum. Papers and torchvision print MACs under the name FLOPs; two of them are what `flops` counts
here. Counted are convolutions, matrix products and attention, as everyone counts; sums, normalisations and interpolations are not. Activations
are the values that these operations give (Radosavovic 2020, arXiv:2003.13678, section 3.1). On the meta device
it runs without computing anything; else on the CPU.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass
class Part:
    """A top-level part of the network; `output` is the shape that it gives, None where that is no single tensor."""

    name: str
    kind: str
    parameters: int
    macs: int = 0
    activations: int = 0
    output: tuple[int, ...] | None = None


@dataclass
class Cost:
    """parameters and activations are counts, bytes are bytes.

    weight_bytes: parameters and buffers. peak_bytes: those and the most that lives beside them at one moment of the forward pass.
    """

    parameters: int
    macs: int
    activations: int
    weight_bytes: int
    peak_bytes: int
    parts: list[Part]

    @property
    def flops(self) -> int:
        """Multiplications and additions counted apart."""
        return 2 * self.macs


def cost(network: nn.Module, look: Callable[[], Any]) -> Cost:
    """Count what `look()` makes the network do. Without gradients; nothing is kept of it.

    The parts are the network's children, behind wrappers that have one child only, and in place of a child that is never called (a list of
    layers) its own children. What happens outside of every part is the last one, "(rest)", where there is any.
    """
    counter = _Counter()
    with ExitStack() as stack:
        for module in network.modules():
            stack.callback(module.register_forward_pre_hook(counter.entering).remove)
            stack.callback(module.register_forward_hook(counter.leaving).remove)
        stack.enter_context(_no_shortcuts(network))
        stack.enter_context(torch.no_grad())
        for tensor in (*network.parameters(), *network.buffers()):
            counter.weigh(tensor)
        counter.weights = counter.live
        stack.enter_context(counter)
        look()
    parts = list(_parts(network, counter.seen))
    whole = counter.total
    whole.parameters = _parameters(network)
    left = {key: getattr(whole, key) - sum(getattr(part, key) for part in parts) for key in ("parameters", "macs", "activations")}
    if parts and any(value > 0 for value in left.values()):  # shared parameters stand in two parts
        parts.append(Part("(rest)", "", **left))
    return Cost(whole.parameters, whole.macs, whole.activations, counter.weights, counter.peak, parts)


def _parts(network: nn.Module, seen: dict[nn.Module, Part]) -> Iterator[Part]:
    prefix = ""
    while len(children := list(network.named_children())) == 1:
        prefix, network = f"{prefix}{children[0][0]}.", children[0][1]
    for name, child in children or [("", network)]:
        yield from _called((prefix + name).rstrip("."), child, seen)


def _called(name: str, module: nn.Module, seen: dict[nn.Module, Part]) -> Iterator[Part]:
    inside = list(module.named_children())
    if module not in seen and inside:
        for inner, child in inside:
            yield from _called(f"{name}.{inner}", child, seen)
        return
    part = seen.get(module, Part("", "", 0))
    yield replace(part, name=name or type(module).__name__, kind=type(module).__name__, parameters=_parameters(module))


def _parameters(module: nn.Module) -> int:
    """Shared ones once."""
    return sum(p.numel() for p in module.parameters())


class _Counter(TorchDispatchMode):
    """Sees every operation below autograd, adds its cost to the modules that are running and follows the memory that lives."""

    def __init__(self) -> None:
        super().__init__()
        self.total = Part("", "", 0)
        self.seen: dict[nn.Module, Part] = {}
        self.running: list[nn.Module] = []
        self.live = self.peak = self.weights = 0  # bytes
        self.known: dict[int, weakref.finalize] = {}  # storages that live

    def entering(self, module: nn.Module, inputs: Any) -> None:
        self.seen.setdefault(module, Part("", "", 0))
        self.running.append(module)

    def leaving(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.running.pop()
        if isinstance(output, Tensor):
            self.seen[module].output = tuple(output.shape)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if packet in flop_registry:
            macs = int(flop_registry[packet](*args, **kwargs, out_val=out)) // 2
            for part in (self.total, *(self.seen[module] for module in dict.fromkeys(self.running))):
                part.macs += macs
                part.activations += made[0].numel()
        for tensor in made:
            self.weigh(tensor)
        return out

    def weigh(self, tensor: Tensor) -> None:
        """Its bytes live until its storage goes; a view has none of its own."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.known and self.known[key].alive:
            return
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        self.known[key] = weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.live -= size
        self.known.pop(key, None)


@contextmanager
def _no_shortcuts(network: nn.Module) -> Iterator[None]:
    """Fused operations that hide their products (torch's own transformer layers, oneDNN's recurrent ones) go the long way."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the switch warns of other machines' Intel GPUs
            with torch.backends.mkldnn.flags(enabled=False) if recurrent else nullcontext():
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
