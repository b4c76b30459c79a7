"""What is told of an outage in streams mode, once the stream has said what is missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from broker import Gap, Limits, RedisAdapter
from broker.adapters.base import BusHost


def streams_bus() -> tuple[Any, list[Gap]]:
    """Return a bus that is not connected, and the gaps that it tells of."""
    told: list[Gap] = []
    host = BusHost(Limits(), Counter(), told.append)
    return RedisAdapter("redis://127.0.0.1", mode="streams").bus(host), told


async def test_a_gap_lasts_until_it_is_told(autojump_clock: Any) -> None:
    bus, told = streams_bus()
    bus._report(Gap("first", 5.0, unconfirmed=1, lost=2))
    await trio.sleep(1.0)
    bus._continued(False)
    assert told == [Gap("first", pytest.approx(6.0), 1, 2)]


async def test_gaps_that_meet_are_one(autojump_clock: Any) -> None:
    bus, told = streams_bus()
    bus._report(Gap("first", 5.0, unconfirmed=1, lost=2))
    await trio.sleep(1.0)
    bus._report(Gap("second", 0.5, unconfirmed=3))
    await trio.sleep(1.0)
    bus._continued(True)
    bus._continued(True)
    assert told == [Gap("second", pytest.approx(7.0), 4, 2, replayed=True)]
