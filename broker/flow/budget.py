"""What all outboxes of a broker hold together, and who has to go when that is too much."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """An outbox, as the budget sees it."""

    held_bytes: int

    def evict(self) -> None:
        """Give up what waits, and have its session end."""


class Budget:
    """A bound over all outboxes; costs nothing while none of them holds anything.

    Args:
        limit: How many bytes they may hold together.

    Attributes:
        total: What they hold.
    """

    __slots__ = ("_holders", "_limit", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: dict[Holder, None] = {}
        self.total = 0

    def note(self, holder: Holder, held_before: int) -> None:
        """Take note of what an outbox holds now; the largest ones are evicted until all fit.

        Messages of a broadcast are counted for each receiver, though they are held once.
        """
        held = holder.held_bytes
        self.total += held - held_before
        if not held:
            self._holders.pop(holder, None)
            return
        if not held_before:
            self._holders[holder] = None
        while self.total > self._limit and holder.held_bytes > held_before and self._holders:
            worst = max(self._holders, key=_held)
            del self._holders[worst]  # what is being written to it cannot be taken back
            worst.evict()


def _held(holder: Holder) -> int:
    return holder.held_bytes
