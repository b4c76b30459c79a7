"""Alarms go off at their time, in order, and cost nothing once they are taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from trio.testing import MockClock

from broker.flow.alarms import Alarms


@asynccontextmanager
async def running() -> AsyncIterator[Alarms]:
    alarms = Alarms()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        yield alarms
        nursery.cancel_scope.cancel()


async def test_alarms_go_off_at_their_time(autojump_clock: MockClock) -> None:
    rung: list[tuple[str, float]] = []
    began = trio.current_time()

    def ring(name: str) -> None:
        rung.append((name, trio.current_time() - began))

    async with running() as alarms:
        await trio.sleep(1)
        alarms.set(began + 30, partial(ring, "late"))
        alarms.set(began + 10, partial(ring, "early"))
        alarms.set(began + 10, partial(ring, "as early, but set later"))
        alarms.set(began - 5, partial(ring, "overdue"))
        cancelled = alarms.set(began + 20, partial(ring, "never"))
        cancelled.cancel()
        cancelled.cancel()
        assert len(alarms) == 4
        await trio.sleep(100)
        assert len(alarms) == 0
    assert rung == [("overdue", 1), ("early", 10), ("as early, but set later", 10), ("late", 30)]


async def test_cancelling_after_the_time_does_nothing(autojump_clock: MockClock) -> None:
    async with running() as alarms:
        alarm = alarms.set(trio.current_time() + 1, lambda: None)
        await trio.sleep(2)
        alarm.cancel()
        assert len(alarms) == 0


async def test_what_is_set_and_cancelled_for_ever_does_not_pile_up() -> None:
    alarms = Alarms()
    kept = alarms.set(5, lambda: None)
    for _ in range(10_000):
        alarms.set(1_000, lambda: None).cancel()
    assert len(alarms) == 1
    assert len(alarms._heap) < 200
    assert kept.action is not None
