"""Whose turn it is, by what both have lost: neither shall get too far ahead of the other.

    while loss_D > t_d: train D;  then while loss_G > t_g: train G;  and again

Every inner turn has pictures of its own. What a player loses is known once it has had its turn, so each has one at least; and `cap` at most, so that
the other's time always comes.
"""

from __future__ import annotations

from typing import Any

from cvtool.errors import UsageError

CAP = 10


class Balance:
    """limits: t_d and t_g. cap: turns of one player in a row at most."""

    def __init__(self, discriminator: float, generator: float, cap: int = CAP) -> None:
        self.limits = {"discriminator": discriminator, "generator": generator}
        self.cap, self.now, self.taken = cap, "discriminator", 0

    @classmethod
    def parse(cls, text: str) -> Balance:
        """`TD,TG` or `TD,TG,CAP`. Raises UsageError."""
        words = text.split(",")
        try:
            limits, cap = [float(word) for word in words[:2]], int(words[2]) if len(words) == 3 else CAP
            fine = len(words) in (2, 3) and cap >= 1 and all(limit == limit for limit in limits)
        except ValueError:
            fine = False
        if not fine:
            hint = "losses below which a player rests, and turns in a row at most: 0.6,1.0,10"
            raise UsageError(f"adaptive is TD,TG or TD,TG,CAP, not '{text}'", hint=hint)
        return cls(limits[0], limits[1], cap)

    def told(self, loss: float) -> None:
        """What the player whose turn it was has lost."""
        self.taken += 1
        if loss <= self.limits[self.now] or self.taken >= self.cap:
            self.now, self.taken = next(name for name in self.limits if name != self.now), 0

    def state_dict(self) -> dict[str, Any]:
        return {"now": self.now, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.now, self.taken = state["now"], state["taken"]
