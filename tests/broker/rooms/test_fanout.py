"""Large rooms: delivered in turns with everybody else, in one order for all members."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from broker import EmitResult, Server, Socket
from broker.rooms import fanout
from tests.peers import Closed, client, quick_broker, settled

Serve = Callable[..., Any]
MEMBERS = 10


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "CHUNK", 3)


async def members(stack: AsyncExitStack, server: Server) -> list[Any]:
    return [await stack.enter_async_context(client(server)) for _ in range(MEMBERS)]


async def test_a_large_room_is_reached_whole_and_in_order(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    results: list[EmitResult] = []

    @broker.on("go")
    def go(socket: Socket) -> None:
        results.extend(broker.emit("tick", number) for number in range(5))

    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        await peers[0].emit("go")
        for peer in peers:
            for number in range(5):
                await peer.expect(f'42["tick",{number}]')
    assert results == [EmitResult(queued=MEMBERS)] * 5


async def test_nothing_overtakes_a_broadcast_under_way(serve: Serve) -> None:
    """Neither an event to one, nor a small broadcast, nor a volatile one, nor an ack."""
    broker = quick_broker(ping_interval=25.0)

    @broker.on("go")
    async def go(socket: Socket) -> str:
        broker.emit("large")
        last = list(broker.sockets.sockets.values())[-1]
        last.emit("one")
        socket.join("room")
        broker.to("room").emit("small")
        return "done"

    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        await peers[5].send_text('427["go"]')
        for peer in peers:
            await peer.expect('42["large"]')
        await peers[-1].expect('42["one"]')
        await peers[5].expect('42["small"]')
        await peers[5].expect('437["done"]')
        await settled()


async def test_a_volatile_broadcast_under_way_is_not_overtaken_by_the_next(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        broker.volatile.emit("first")
        broker.emit("second")
        list(broker.sockets.sockets.values())[-1].emit("third")
        for peer in peers:
            await peer.expect('42["first"]')
            await peer.expect('42["second"]')
        await peers[-1].expect('42["third"]')


@pytest.mark.parametrize("close", [False, True])
async def test_who_is_sent_away_gets_what_was_sent_before(serve: Serve, close: bool) -> None:
    broker = quick_broker(ping_interval=25.0)
    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        assert broker.emit("last words") == EmitResult(queued=MEMBERS)
        await broker.disconnect_sockets(close)
        for peer in peers:
            await peer.expect('42["last words"]')
            await peer.expect("41")
        await settled()
    assert not broker.statistics().dropped


async def test_who_is_closed_gets_what_was_sent_before(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        broker.emit("last words")
        for socket in list(broker.sockets.sockets.values()):
            socket.expires_at = 0
        for peer in peers:
            await peer.expect('42["last words"]')
            assert await peer.expect_close() == Closed(1008, "identity expired")
        await settled()


async def test_other_tasks_run_between_the_chunks(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    jobs: list[int] = []

    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        broker.emit("tick")
        while broker.sockets.fan_out.jobs:
            jobs.append(len(broker.sockets.fan_out.jobs))
            await trio.lowlevel.checkpoint()
        for peer in peers:
            await peer.expect('42["tick"]')
    assert len(jobs) >= MEMBERS // fanout.CHUNK


async def test_who_leaves_meanwhile_is_left_out_and_who_comes_too(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)

    async with serve(broker) as server, AsyncExitStack() as stack:
        peers = await members(stack, server)
        sockets = list(broker.sockets.sockets.values())
        broker.emit("tick")
        sockets[-1]._connection.on_text(b"41")  # its own DISCONNECT
        for peer in peers[:-1]:
            await peer.expect('42["tick"]')
        await peers[-1].join()
        late = await stack.enter_async_context(client(server))
        broker.volatile.emit("tock")
        assert await late.receive() == '42["tock"]'
