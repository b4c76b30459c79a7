"""Cheap clients on bare sockets: requests, frames and packets by hand, so that thousands fit one core."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Self

import trio

HOST = "127.0.0.1"
ENGINE = "/socket.io/?EIO=4"
MASK = b"\x12\x34\x56\x78"
CHUNK = 65_536
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
RESET = struct.pack("ii", 1, 0)


class Gone(Exception):
    """The server has closed the connection.

    Attributes:
        status: The HTTP status, if it refused a request by one.
    """

    def __init__(self, status: int = 0) -> None:
        super().__init__(f"closed by the server, status {status}" if status else "closed by the server")
        self.status = status


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Build a masked frame."""
    size = len(payload)
    head = (
        bytes([0x80 | opcode, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    )
    wide = int.from_bytes(payload, "big") ^ int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return head + MASK + wide.to_bytes(size, "big")


def request(method: str, target: str, body: bytes | None = None, *, upgrade: bool = False) -> bytes:
    """Build a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}"]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class Line:
    """One TCP connection, over which a client speaks HTTP and then perhaps WebSocket."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._data = b""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to the loopback."""
        sock = trio.socket.socket()
        try:
            await sock.connect((HOST, port))
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def reset(self) -> None:
        """Break the connection by a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._sock.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self._sock.close()

    def half_close(self) -> None:
        """Send no more, but go on reading."""
        self._sock.shutdown(socket.SHUT_WR)

    async def send(self, data: bytes) -> None:
        """Send bytes; all of these clients' messages are small."""
        try:
            await self._sock.send(data)
        except OSError:
            raise Gone from None

    async def send_all(self, data: bytes) -> None:
        """Send bytes of any number."""
        while data:
            try:
                data = data[await self._sock.send(data) :]
            except OSError:
                raise Gone from None

    async def send_text(self, text: str) -> None:
        """Send a text frame."""
        await self.send(frame(text.encode()))

    async def _more(self) -> None:
        try:
            data = await self._sock.recv(CHUNK)
        except OSError:
            raise Gone from None
        if not data:
            raise Gone
        self._data += data

    async def read_head(self) -> bytes:
        """Read the head of an answer."""
        while b"\r\n\r\n" not in self._data:
            await self._more()
        head, self._data = self._data.split(b"\r\n\r\n", 1)
        return head

    async def read_answer(self) -> str:
        """Read an answer with a length; return its body.

        Raises:
            Gone: The status is not 200, or the connection has ended.
        """
        head = await self.read_head()
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(fields[b"content-length"])
        while len(self._data) < size:
            await self._more()
        body, self._data = self._data[:size], self._data[size:]
        if (status := int(head.split(b" ", 2)[1])) != 200:
            raise Gone(status)
        return body.decode()

    async def ask(self, method: str, target: str, body: bytes | None = None) -> str:
        """Send a request and return the body of its answer."""
        await self.send(request(method, target, body))
        return await self.read_answer()

    async def upgrade(self, target: str) -> None:
        """Become a WebSocket.

        Raises:
            Gone: The server refuses.
        """
        await self.send(request("GET", target, upgrade=True))
        await self.expect_upgrade()

    async def expect_upgrade(self) -> None:
        """Read the answer to the handshake of a WebSocket."""
        status = int((await self.read_head()).split(b" ", 2)[1])
        if status != 101:
            raise Gone(status)

    async def read_text(self) -> str:
        """Return the next text message; answer the pings of both layers.

        Raises:
            Gone: A close frame has come, or the end of the stream.
        """
        while True:
            opcode, payload = await self._read_frame()
            if opcode == CLOSE:
                raise Gone
            if opcode == TEXT and payload == b"2":
                await self.send_text("3")
            elif opcode == TEXT:
                return payload.decode()

    async def _read_frame(self) -> tuple[int, bytes]:
        while True:
            data = self._data
            if len(data) >= 2:
                size, start = data[1] & 0x7F, 2
                if size > 125:
                    start = 4 if size == 126 else 10
                    size = int.from_bytes(data[2:start], "big")
                if len(data) >= start + size:
                    self._data = data[start + size :]
                    return data[0] & 15, data[start : start + size]
            await self._more()


def sid_of(packet: str) -> str:
    """Read the session id out of an OPEN packet, the first of a payload."""
    opened: dict[str, Any] = json.loads(packet.split("\x1e")[0][1:])
    return str(opened["sid"])
