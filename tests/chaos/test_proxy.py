"""The chaos proxy does what it says: otherwise the matrix would prove nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from .proxy import ChaosProxy, chaos_proxy

DEADLINE = 5.0


@asynccontextmanager
async def echo_behind_a_proxy() -> AsyncIterator[ChaosProxy]:
    async def echo(stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
            async with chaos_proxy(listeners[0].socket.getsockname()[1], seed=1) as proxy:
                yield proxy
            nursery.cancel_scope.cancel()


async def open_through(proxy: ChaosProxy) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", proxy.port)


async def receive(stream: trio.SocketStream, size: int) -> list[bytes]:
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < size:
        pieces.append(bytes(await stream.receive_some()))
        assert pieces[-1], "ended"
    return pieces


async def test_it_passes_all_on() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        await stream.send_all(b"x" * 100_000)
        assert b"".join(await receive(stream, 100_000)) == b"x" * 100_000
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_latency_and_jitter_keep_the_order() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        proxy.to_server.latency, proxy.to_server.jitter = 0.05, 0.04
        began = trio.current_time()
        for number in range(20):
            await stream.send_all(b"%02d" % number)
            await trio.sleep(0.002)
        assert b"".join(await receive(stream, 40)) == b"".join(b"%02d" % number for number in range(20))
        assert trio.current_time() - began >= 0.05


async def test_bandwidth() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        proxy.to_client.rate = 50_000.0
        began = trio.current_time()
        await stream.send_all(b"x" * 10_000)
        await receive(stream, 10_000)
        assert trio.current_time() - began >= 0.15


async def test_pieces() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        proxy.to_server.piece = 3
        await stream.send_all(b"0123456789" * 10)
        assert b"".join(await receive(stream, 100)) == b"0123456789" * 10


async def test_cut_after_some_bytes() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        proxy.to_client.cut_after = 7
        await stream.send_all(b"0123456789")
        received = b""
        with pytest.raises(trio.BrokenResourceError):
            while True:
                received += await stream.receive_some()
                assert len(received) <= 7
        assert proxy.connections == 0


async def test_reset_and_refusal() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        await stream.send_all(b"x")
        await receive(stream, 1)
        proxy.reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        proxy.refusing = True
        async with await open_through(proxy) as another:
            with pytest.raises(trio.BrokenResourceError):
                await another.receive_some()


async def test_blackhole_and_healing() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        proxy.blackhole()
        await stream.send_all(b"lost")
        with trio.move_on_after(0.05) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        proxy.heal()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        async with await open_through(proxy) as another:
            await another.send_all(b"x")
            assert await receive(another, 1) == [b"x"]


async def test_hold_joins_what_comes_and_slow_close_is_late() -> None:
    async with echo_behind_a_proxy() as proxy, await open_through(proxy) as stream:
        proxy.to_server.hold()
        for _ in range(50):
            await stream.send_all(b"x")
        proxy.to_server.release()
        await receive(stream, 50)
        proxy.to_client.slow_close = 0.1
        began = trio.current_time()
        await stream.send_eof()
        assert await stream.receive_some() == b""
        assert trio.current_time() - began >= 0.09
