"""The limits of what other nodes may cost, and of what may wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Limits
from broker.adapters.requests import TooManyRequests
from protocol.bus.cluster import MessageType
from protocol.bus.options import BroadcastOptions

from .hub import Hub
from .test_cluster import inject, serve_events, two

Serve = Callable[..., Any]


async def test_questions_that_wait(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub, limits=Limits(bus_requests=1)) as (a, _):
        hub.drops = lambda message: True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.broker.fetch_sockets)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(TooManyRequests):
                await a.broker.fetch_sockets()
            with pytest.raises(TooManyRequests):
                await a.broker.call("x", timeout=1)


async def test_tasks_for_other_nodes(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub(), serve_events, limits=Limits(bus_tasks=1)) as (a, b):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.broker.server_side_emit, "later", 1)
            await trio.testing.wait_all_tasks_blocked()
            assert await a.broker.server_side_emit("later", 2, timeout=1) == [None]
            acks = await a.broker.to(b.socket.id).call("x", timeout=1)
            assert (acks.responses, acks.missing) == ([], [])
        assert b.broker.statistics().events["too many bus tasks"] == 2


async def test_time_that_another_node_may_ask_for(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub, limits=Limits(bus_ack_timeout=2.0)) as (a, _):
        options = BroadcastOptions(flags={"timeout": 10**9})
        inject(hub, a, MessageType.BROADCAST, event=["x"], options=options, request_id="1")
        assert len(a.socket.acks) == 1
        await trio.sleep(2.1)
        assert len(a.socket.acks) == 0
