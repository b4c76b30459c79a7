"""A proxy before a Redis server that breaks connections, or keeps messages of channels to itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

_MESSAGE = re.compile(rb">3\r\n\$\d+\r\ns?message\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")


@define(eq=False)
class Proxy:
    """Passes bytes on between clients and a server.

    Attributes:
        port: Where it listens.
        deaf: Whether messages of channels are swallowed.
        mute: Whether what clients send is swallowed.
        shut: Whether new connections are closed at once.
        opened: How many connections there have been.
    """

    target: int
    port: int = 0
    deaf: bool = False
    mute: bool = False
    shut: bool = False
    opened: int = 0
    open: set[trio.CancelScope] = field(factory=set)

    async def serve(self, client: trio.SocketStream) -> None:
        """Pass one connection on."""
        try:
            if self.shut:
                raise ConnectionRefusedError
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:  # as if nobody listened
            await client.aclose()
            return
        self.opened += 1
        async with client, server, trio.open_nursery() as nursery:
            self.open.add(nursery.cancel_scope)
            nursery.start_soon(self._pass, client, server, self._asked, nursery.cancel_scope)
            nursery.start_soon(self._pass, server, client, self._told, nursery.cancel_scope)
        self.open.discard(nursery.cancel_scope)

    def _asked(self, data: bytes) -> bytes:
        return b"" if self.mute else data

    def _told(self, data: bytes) -> bytes:
        return _MESSAGE.sub(b"", data) if self.deaf else data

    async def _pass(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        change: Callable[[bytes], bytes],
        scope: trio.CancelScope,
    ) -> None:
        try:
            async for data in source:
                await target.send_all(change(data))
        except (OSError, trio.BrokenResourceError):
            pass
        scope.cancel()

    def cut(self) -> None:
        """Break all connections."""
        for scope in list(self.open):
            scope.cancel()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy for the block."""
    made = Proxy(target)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, made.serve, 0)
        made.port = listeners[0].socket.getsockname()[1]
        yield made
        nursery.cancel_scope.cancel()
