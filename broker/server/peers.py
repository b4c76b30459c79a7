"""Other nodes of the same application, which are reached at the address where clients reach them too."""

from __future__ import annotations

import logging
import socket
from typing import Protocol

import trio

from protocol import Limits

from .relaying import relay

logger = logging.getLogger(__name__)

HOP = "broker-hop"
"""Header of a request that a node has forwarded: it is not forwarded to another node again."""


class Elsewhere(Protocol):
    """Who holds a session, if it is not this process.

    Attributes:
        number: Its number, for the log.
        headers: What is added to a request that is forwarded alone.
    """

    number: int
    headers: tuple[tuple[bytes, bytes], ...]

    async def take_socket(self, accepted: socket.socket, data: bytes, peer: str) -> bool:
        """Have it serve a plain socket of which `data` has been read; return whether it is there."""

    async def take_stream(self, client: trio.abc.Stream, data: bytes, peer: str, *, secure: bool) -> bool:
        """Have it serve a stream of which `data` has been read; return whether it is there."""

    async def open_stream(self, peer: str, *, secure: bool) -> trio.SocketStream | None:
        """Open a stream that it serves as if a client had connected to it; None if it is not there."""


class PeerNode:
    """A node with an address of its own. Spec: EIO-SID-5.

    Args:
        number: Its number.
        host: Its host.
        port: Its port, for plain HTTP.
        limits: Deadlines.
    """

    def __init__(self, number: int, host: str, port: int, limits: Limits) -> None:
        self.number = number
        self.headers: tuple[tuple[bytes, bytes], ...] = ((HOP.encode(), b"1"),)
        self._host = host
        self._port = port
        self._limits = limits

    async def take_socket(self, accepted: socket.socket, data: bytes, peer: str) -> bool:
        """Relay a plain socket to it until either closes."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        return await self.take_stream(stream, data, peer, secure=False)

    async def take_stream(self, client: trio.abc.Stream, data: bytes, peer: str, *, secure: bool) -> bool:
        """Relay a stream to it until either closes."""
        stream = await self.open_stream(peer, secure=secure)
        if stream is None:
            return False
        line, _, rest = data.partition(b"\r\n")
        data = line + b"\r\n" + HOP.encode() + b": 1\r\n" + rest
        async with stream:
            await relay(client, stream, data, self._limits)
        return True

    async def open_stream(self, peer: str, *, secure: bool) -> trio.SocketStream | None:
        """Connect to it; neither the address of the client nor its TLS can be told."""
        try:
            with trio.fail_after(self._limits.handover_timeout):
                return await trio.open_tcp_stream(self._host, self._port)
        except (OSError, trio.TooSlowError) as error:
            logger.warning("node %d cannot be reached: %s", self.number, error)
            return None
