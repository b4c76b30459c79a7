"""Watches how late this program and its peer run, so that a slow machine is not taken for a wrong peer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

BEAT = 0.02
"""Seconds between two looks."""

CALM = 0.2
"""Seconds without a late beat after which the machine counts as calm."""

Beat = Callable[[], Awaitable[object]]
"""Asks the peer for something that takes no time."""


class Pulse:
    """Knows when something was last late that should not have been.

    Args:
        limit: Seconds beyond which a beat is late.

    Attributes:
        sees_peer: Whether the peer is watched too, and not this program alone.
    """

    def __init__(self, limit: float) -> None:
        self.sees_peer = False
        self._limit = limit
        self._late_at = -math.inf
        self._asked_at = math.inf

    def late_since(self, start: float) -> bool:
        """Tell whether a beat was late, or is by now, after this moment."""
        now = trio.current_time()
        return self._late_at >= start or now - self._asked_at > self._limit

    async def calm(self, within: float) -> None:
        """Wait until no beat has been late for a while, at most this long."""
        for _ in range(round(2 * within / CALM)):
            if not self.late_since(trio.current_time() - CALM):
                return
            await trio.sleep(CALM / 2)

    async def watch_clock(self) -> None:
        """Look for ever whether this program gets the processor when it wants it."""
        while True:
            due = trio.current_time() + BEAT
            await trio.sleep_until(due)
            self._note(trio.current_time() - due)

    async def watch_peer(self, beat: Beat) -> None:
        """Look for ever how long the peer takes; returns by what `beat` raises."""
        self.sees_peer = True
        try:
            while True:
                self._asked_at = trio.current_time()
                await beat()
                self._note(trio.current_time() - self._asked_at)
                self._asked_at = math.inf
                await trio.sleep(BEAT)
        finally:
            self._asked_at = math.inf
            self.sees_peer = False

    def _note(self, seconds: float) -> None:
        if seconds > self._limit:
            self._late_at = trio.current_time()


@asynccontextmanager
async def watching(
    limit: float, peer: Callable[[Pulse], Awaitable[object]] | None = None
) -> AsyncIterator[Pulse]:
    """Watch this program, and the peer if there is a way to ask it; ends with the block."""
    pulse = Pulse(limit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.watch_clock)
        if peer is not None:
            nursery.start_soon(peer, pulse)
        yield pulse
        nursery.cancel_scope.cancel()
