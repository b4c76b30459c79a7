"""The places where the same behaviour is tried: a network in memory, TCP, hypercorn, and Node's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from attrs import frozen
from hypercorn.config import Config
from hypercorn.trio import serve

from broker.testing import Connector, open_harness
from broker.testing.network import HOST
from broker.testing.plugin import run_virtual
from tests.client.servers import make_broker, needs_node, node_server
from tests.peers import serving

SHORT = 0.2
DEADLINE = 300.0  # of the world's own time: four heartbeats of 25 s must fit in


@frozen
class World:
    """Where the server is, and the way to it.

    Attributes:
        url: Its URL.
        connector: Opens connections; None if TCP does.
        ping_interval: Seconds between pings.
    """

    url: str
    connector: Connector | None
    ping_interval: float

    async def stream(self) -> trio.abc.Stream:
        """Open a connection."""
        parts = urlsplit(self.url)
        if self.connector is not None:
            return await self.connector(HOST, 80)
        return await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)

    @property
    def host(self) -> str:
        """What the Host header says."""
        return urlsplit(self.url).netloc


Opening = Callable[[], AbstractAsyncContextManager[World]]


@asynccontextmanager
async def virtual() -> AsyncIterator[World]:
    async with open_harness(make_broker()) as harness:
        yield World(harness.url, harness.connector, 25.0)


@asynccontextmanager
async def tcp() -> AsyncIterator[World]:
    async with serving(make_broker(ping_interval=SHORT)) as server:
        yield World(server.url, None, SHORT)


@asynccontextmanager
async def under_hypercorn() -> AsyncIterator[World]:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = SHORT
    app: Any = make_broker(ping_interval=SHORT).asgi()
    done = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(app, config, shutdown_trigger=done.wait, task_status=task_status)

        [url] = await nursery.start(run)
        yield World(url, None, SHORT)
        done.set()


@asynccontextmanager
async def node() -> AsyncIterator[World]:
    async with node_server(pingInterval=SHORT * 1_000) as url:
        yield World(url, None, SHORT)


def within_deadline(opening: Opening) -> Opening:
    """Return the same with a deadline for the block."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[World]:
        with trio.fail_after(DEADLINE):
            async with opening() as world:
                yield world

    return opened


WORLDS = [
    pytest.param(within_deadline(virtual), id="virtual", marks=pytest.mark.trio(run=run_virtual)),
    pytest.param(within_deadline(tcp), id="tcp"),
    pytest.param(within_deadline(under_hypercorn), id="hypercorn"),
    pytest.param(within_deadline(node), id="node", marks=needs_node),
]
