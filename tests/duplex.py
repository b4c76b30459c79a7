"""A client that looks the same to a test over polling and over a WebSocket."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .peers import PollingPeer, RawWebSocket, Where, connect_packet, joined_id, websocket

TRANSPORTS = ("polling", "websocket")


class Duplex:
    """One session on either transport; `receive` gives text or bytes, `send` takes a row of them."""

    def __init__(self, peer: RawWebSocket | PollingPeer) -> None:
        self.peer = peer

    async def send(self, *messages: str | bytes) -> None:
        """Send messages; over polling as one payload, whose answer is not looked at."""
        if isinstance(self.peer, PollingPeer):
            packets = [one if isinstance(one, str) else "b" + b64encode(one).decode() for one in messages]
            await self.peer.post("\x1e".join(packets))
            return
        for message in messages:
            if isinstance(message, str):
                await self.peer.send_text(message)
            else:
                await self.peer.send_binary(message)

    async def receive(self) -> str | bytes:
        """Return the next message that is no ping."""
        message = await self.peer.receive()
        if isinstance(self.peer, PollingPeer) and isinstance(message, str) and message[0] == "b":
            return b64decode(message[1:])
        return message

    async def expect(self, *messages: str | bytes) -> None:
        """Receive exactly these messages next."""
        for message in messages:
            received = await self.receive()
            assert received == message

    async def expect_end(self) -> None:
        """Hold that the server ends the session, without a further message."""
        if isinstance(self.peer, PollingPeer):
            assert await self.peer.receive() in {"1", "6"}
        else:
            await self.peer.expect_close()

    async def join(self, namespace: str = "/", auth: Any = None) -> str:
        """Join a namespace; return the socket's id."""
        await self.send(connect_packet(namespace, auth))
        return joined_id(await self.receive(), namespace)


@asynccontextmanager
async def duplex(where: Where, transport: str = "websocket") -> AsyncIterator[Duplex]:
    """Open a session that has joined nothing yet."""
    if transport == "polling":
        yield Duplex(await PollingPeer.open(where))
        return
    async with websocket(where) as peer:
        await peer.opened()
        yield Duplex(peer)


@asynccontextmanager
async def joined(where: Where, transport: str = "websocket", namespace: str = "/") -> AsyncIterator[Duplex]:
    """Open a session and join a namespace."""
    async with duplex(where, transport) as peer:
        await peer.join(namespace)
        yield peer
