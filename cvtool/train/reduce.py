"""Gradients of several processes, added up while the backward pass still goes on (Li 2020, arXiv:2006.15704, without the module around the model).

Each process weighs its loss by its share of the turn's pictures, so that the sum over processes is the gradient of the whole batch. Gradients go in
buckets, from the last layer back; a bucket goes as soon as it is full and those before it have gone, in the same order everywhere. A parameter
that had no gradient in any process has none afterwards either: an optimiser leaves it alone, as it does in one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.train.distributed import World

BUCKET = 25 << 20  # bytes


class Reducer:
    """For the parameters of one phase. `arm` before the turn's last backward pass, `finish` behind it."""

    def __init__(self, world: World, params: Sequence[nn.Parameter], *, bucket: int = BUCKET) -> None:
        self.world, self.params = world, list(params)
        self.buckets = _buckets(self.params, bucket)
        self._place = {id(p): number for number, some in enumerate(self.buckets) for p in some}
        self._hooked: set[int] = set()
        self._armed = False

    def arm(self) -> None:
        """From here on gradients are final when they come."""
        for p in self.params:
            if p.requires_grad and id(p) not in self._hooked:  # a frozen one may thaw later
                p.register_post_accumulate_grad_hook(self._came)
                self._hooked.add(id(p))
        self._waiting = [sum(p.requires_grad for p in some) for some in self.buckets]
        self._gone: list[tuple[Tensor, list[Tensor], Any]] = []
        self._armed = True

    def finish(self) -> None:
        """Send what has not gone yet, wait for all, and put the sums in place."""
        import torch.distributed as dist

        with self.world.connected():
            while len(self._gone) < len(self.buckets):
                self._send()
            self._armed = False
            used = torch.tensor([p.grad is not None for p in self.params], dtype=torch.uint8, device=self.params[0].device)
            dist.all_reduce(used, op=dist.ReduceOp.MAX)
            for _, _, work in self._gone:
                work.wait()
        there = {id(p) for p, flag in zip(self.params, used.tolist(), strict=True) if flag}
        for some, (_, views, _) in zip(self.buckets, self._gone, strict=True):
            for p, view in zip(some, views, strict=True):
                p.grad = view if id(p) in there else None
        self._gone = []

    def _came(self, p: Tensor) -> None:
        if not self._armed:
            return
        self._waiting[self._place[id(p)]] -= 1
        with self.world.connected():
            while len(self._gone) < len(self.buckets) and not self._waiting[len(self._gone)]:
                self._send()

    @torch.no_grad()
    def _send(self) -> None:
        """The next bucket, with zeros where there is no gradient."""
        import torch.distributed as dist

        some = self.buckets[len(self._gone)]
        flat = torch.empty(sum(p.numel() for p in some), dtype=some[0].dtype, device=some[0].device)
        views, at = [], 0
        for p in some:
            part = flat[at : at + p.numel()]
            dense = p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)
            view = part.as_strided(p.shape, p.stride(), part.storage_offset()) if dense else part.view(p.shape)
            if p.grad is None:
                view.zero_()
            else:
                view.copy_(p.grad)
                p.grad = view  # the gradient's own memory is free for what comes next
            views.append(view)
            at += p.numel()
        self._gone.append((flat, views, dist.all_reduce(flat, async_op=True)))


def _buckets(params: Sequence[nn.Parameter], limit: int) -> list[list[nn.Parameter]]:
    """From the last parameter back, of one kind each and of `limit` bytes about; the first one small, so that it goes early."""
    found: list[list[nn.Parameter]] = []
    open_: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for p in reversed(params):
        some = open_.setdefault((p.dtype, p.device), [])
        some.append(p)
        if sum(one.numel() * one.element_size() for one in some) >= (limit if found else limit // 25):
            found.append(open_.pop((p.dtype, p.device)))
    return found + list(open_.values())
