"""The ways into a broker: every one of them is a door that the peers of the tests can go through."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
import trustme
from attrs import frozen
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from trio_websocket import WebSocketRequest, serve_websocket

from broker import Broker
from broker.sessions import shared_reader
from broker.testing.harness import plain_errors
from tests.peers import Door, serving

Carrier = Callable[[Broker], AbstractAsyncContextManager[Door]]


@asynccontextmanager
async def plain(broker: Broker) -> AsyncIterator[Door]:
    """TCP, read by the shared reader."""
    async with serving(broker) as server:
        yield Door(server.port)


@asynccontextmanager
async def alone(broker: Broker) -> AsyncIterator[Door]:
    """TCP where there is no `epoll`: each session reads by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_reader, "AVAILABLE", False)
        async with serving(broker) as server:
            assert broker._engine.reader is None
            yield Door(server.port)


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts for a server on the loopback and for its clients."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def tls(broker: Broker) -> AsyncIterator[Door]:
    """TCP with TLS."""
    server_context, client_context = tls_contexts()
    async with serving(broker, ssl_context=server_context) as server:
        assert server.url.startswith("https://")
        yield Door(server.port, ssl_context=client_context)


@asynccontextmanager
async def unix(broker: Broker) -> AsyncIterator[Door]:
    """A Unix socket."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "broker.sock")
        async with serving(broker, host=None, bind=[f"unix:{path}"]) as server:
            assert (server.url, server.port) == (f"unix:{path}", 0)
            yield Door(path=path, host="localhost")


@asynccontextmanager
async def hypercorn(broker: Broker, app: Any = None) -> AsyncIterator[Door]:
    """Mount the broker into a real ASGI server."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.2
    config.errorlog = None
    stop = trio.Event()
    with plain_errors():
        async with trio.open_nursery() as nursery:
            run = partial(hypercorn_serve, broker.asgi(app), config, shutdown_trigger=stop.wait)
            addresses = await nursery.start(run)
            try:
                yield Door(int(addresses[0].rpartition(":")[2]))
            finally:
                stop.set()
    assert broker.statistics().sessions == 0


@frozen
class _StreamDoor(Door):
    """Makes a pair of streams for each connection, and has the broker serve the other end."""

    serve: Any = None
    pair: Any = None

    async def connect(self) -> trio.abc.Stream:
        ours, theirs = await self.pair()
        self.serve(theirs)
        stream: trio.abc.Stream = ours
        return stream


async def memory_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Make two ends of a stream in memory."""
    return trio.testing.memory_stream_pair()


async def socket_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Make two connected sockets."""
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)


@asynccontextmanager
async def _streams(broker: Broker, pair: Any) -> AsyncIterator[Door]:
    with plain_errors():
        async with broker, trio.open_nursery() as nursery:
            yield _StreamDoor(
                host="localhost", pair=pair, serve=partial(nursery.start_soon, broker.handle_stream)
            )
            nursery.cancel_scope.cancel()
    assert broker.statistics().sessions == 0


def memory(broker: Broker) -> AbstractAsyncContextManager[Door]:
    """Streams of the application's own, in memory."""
    return _streams(broker, memory_pair)


def sockets(broker: Broker) -> AbstractAsyncContextManager[Door]:
    """Streams of the application's own, over sockets."""
    return _streams(broker, socket_pair)


@asynccontextmanager
async def _trio_websockets(broker: Broker, handle: Any) -> AsyncIterator[Door]:
    with plain_errors():
        async with broker, trio.open_nursery() as nursery:
            start = partial(serve_websocket, handle, "127.0.0.1", 0, None, handler_nursery=nursery)
            server = await nursery.start(start)
            yield Door(server.port)
            nursery.cancel_scope.cancel()
    assert broker.statistics().sessions == 0


def accepted(broker: Broker) -> AbstractAsyncContextManager[Door]:
    """Connections that a trio-websocket server has accepted; there is no polling beside them."""

    async def handle(request: WebSocketRequest) -> None:
        await broker.handle_websocket(await request.accept())

    return _trio_websockets(broker, handle)


def requested(broker: Broker) -> AbstractAsyncContextManager[Door]:
    """Requests to a trio-websocket server; there is no polling beside them."""
    return _trio_websockets(broker, broker.handle_websocket)


ALL = [plain, alone, tls, unix, hypercorn, memory, sockets, accepted, requested]
WITH_POLLING = [one for one in ALL if one not in (accepted, requested)]
