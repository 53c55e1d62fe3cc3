"""What `torchrun` tells a process that it has started, from the environment; standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Process `rank` of `count`, `local` among those of its machine; started anew `restarts` times, since another one of them had died."""

    rank: int = 0
    count: int = 1
    local: int = 0
    restarts: int = 0


def place() -> Place:
    """This process's; the only one of its kind outside of torchrun."""
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count < 2 or "RANK" not in os.environ:
        return Place()
    local, restarts = (int(os.environ.get(name) or 0) for name in ("LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"))
    return Place(int(os.environ["RANK"]), count, local, restarts)


def limit() -> float:
    """Seconds without a sign of the other processes after which they count as dead: `CVTOOL_RANK_TIMEOUT`, else 600."""
    return float(os.environ.get("CVTOOL_RANK_TIMEOUT") or 600)
