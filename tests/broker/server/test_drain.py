"""A drain ends by its deadline, whatever clients and handlers do, and forgets nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import DisconnectReason, Limits, Socket
from tests.peers import PollingPeer, client, http, quick_broker, settled, websocket

Serve = Callable[..., Any]


@pytest.mark.clause("DRAIN-4")
@pytest.mark.parametrize("deadline", [40.0, 4.0, 0.0])
async def test_everything_has_ended_by_the_deadline(virtual_serve: Serve, deadline: float) -> None:
    """A handler that goes on, a slow goodbye, a peer that does not close, a poller that does not poll."""
    broker = quick_broker(ping_interval=600.0, limits=Limits(cleanup_timeout=5.0, close_timeout=5.0))
    slow: list[str] = []

    @broker.on("work")
    async def work(socket: Socket) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(min(1.0, deadline / 10))

    @broker.on("disconnect")
    async def disconnect(socket: Socket, reason: DisconnectReason) -> None:
        slow.append(socket.transport)
        await trio.sleep_forever()

    async with virtual_serve(broker) as server, client(server) as busy, websocket(server) as deaf:
        await deaf.opened()
        await deaf.join()
        polling = await PollingPeer.open(server)
        await polling.join()
        await busy.emit("work")
        await settled()
        began = trio.current_time()
        await broker.drain(deadline)
        assert trio.current_time() - began <= deadline + 0.001
        assert broker.statistics().sessions == 0
    assert sorted(slow) == ["polling", "websocket", "websocket"]


async def test_work_has_most_of_the_deadline(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=600.0)
    done: list[str] = []

    @broker.on("work")
    async def work(socket: Socket, seconds: float) -> str:
        await trio.sleep(seconds)
        done.append("done")
        return "done"

    async with virtual_serve(broker) as server, client(server) as peer, trio.open_nursery() as nursery:
        await peer.send_text('420["work",29]')
        await settled()
        nursery.start_soon(broker.drain, 40.0)
        with trio.fail_after(31):
            assert await peer.receive(deadline=60) == '430["done"]'
            assert (await peer.expect_close()).code == 1001
    assert done == ["done"]


async def test_a_handshake_that_was_admitted_before_is_not_cut_short(virtual_serve: Serve) -> None:
    """It becomes a session after the drain has begun, and still has its time like the others."""
    asked, answer = trio.Event(), trio.Event()
    others: list[str] = []

    async def allow(request: Any) -> bool:
        if others:
            asked.set()
            await answer.wait()
        others.append(request.path)
        return True

    broker = quick_broker(allow_request=allow, ping_interval=25.0, ping_timeout=20.0)
    finish = trio.Event()

    @broker.on("work")
    async def work(socket: Socket) -> str:
        await finish.wait()
        return "done"

    async with virtual_serve(broker) as server, client(server) as first, trio.open_nursery() as nursery:
        await first.send_text('420["work"]')

        async def come_late() -> None:
            async with client(server) as late:
                finish.set()
                await late.send_text('421["work"]')
                await late.expect('431["done"]')
                assert (await late.expect_close()).code == 1001

        nursery.start_soon(come_late)
        await asked.wait()
        nursery.start_soon(broker.drain, 40.0)
        await settled()
        assert (await http(server, "GET", "/socket.io/?EIO=4&transport=polling")).status == 503
        answer.set()
        await first.expect('430["done"]')
        assert (await first.expect_close()).code == 1001
