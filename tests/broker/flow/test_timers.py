"""One task that serves all deadlines, with the mock clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock

from broker.flow.timers import Timers


class Owner:
    """Keeps what it was told, with the time."""

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.told: list[tuple[float, str, str]] = []
        self.start = trio.current_time()
        self.timers: Timers[str] = Timers(10, 4, self.ping, self.expire)

    def note(self, what: str, key: str) -> None:
        self.told.append((round(trio.current_time() - self.start, 3), what, key))

    def ping(self, key: str) -> None:
        self.note("ping", key)

    def expire(self, key: str) -> bool:
        self.note("expired", key)
        return key in self.heard


async def test_heartbeat(autojump_clock: MockClock) -> None:
    owner = Owner()
    timers = owner.timers
    async with trio.open_nursery() as nursery:
        timers.open("before the task runs")
        nursery.start_soon(timers.run)
        await trio.sleep(1)
        timers.open("silent")
        timers.open("ponging")
        timers.open("heard")
        owner.heard.add("heard")
        timers.open("suspended")
        timers.open("closed")
        await trio.sleep(10)  # at 11
        assert owner.told[:1] == [(10, "ping", "before the task runs")]
        timers.close("before the task runs")
        await trio.sleep(1)  # at 12
        timers.pong("ponging")
        timers.suspend("suspended")
        timers.close("closed")
        await trio.sleep(11.5)  # at 23.5
        nursery.cancel_scope.cancel()
    told = [entry for entry in owner.told if entry[2] != "before the task runs"]
    assert sorted(told[:5]) == sorted(
        (11, "ping", key) for key in ("silent", "ponging", "heard", "suspended", "closed")
    )
    assert sorted(told[5:]) == [
        (15, "expired", "heard"),  # and given the same time once more
        (15, "expired", "silent"),
        (19, "expired", "heard"),
        (22, "ping", "ponging"),
        (23, "expired", "heard"),
    ]


async def test_countdowns(autojump_clock: MockClock) -> None:
    owner = Owner()
    due: list[Any] = []

    def note(kind: str) -> Callable[[str], None]:
        return lambda key: due.append((trio.current_time() - owner.start, kind, key))

    short = owner.timers.countdown(2, note("short"))
    long = owner.timers.countdown(5, note("long"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owner.timers.run)
        await trio.sleep(1)
        long.start("a")
        short.start("a")
        short.start("stopped")
        short.start("closed")
        await trio.sleep(1)
        short.start("a")  # anew: now due at 4
        short.stop("stopped")
        short.stop("never started")
        owner.timers.close("closed")
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert due == [(4, "short", "a"), (6, "long", "a")]
