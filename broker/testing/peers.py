"""Scripted peers: they send exactly what a test says, right or wrong, and expect what it says."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import orjson
import trio

from .expecting import fits, unexpected
from .wire import HEAD_END, read_frame, write_frame

PATIENCE = 60.0
"""Seconds, of the test's clock, after which something expected has not come."""

ENGINE_PATH = "/socket.io/?EIO=4"
_HEAD = re.compile(r"\d+(?:-)?(?:/[^,]*,)?\d*")
_NOTHING: Any = object()

Expected = str | bytes | re.Pattern[str] | Callable[[Any], bool]


class PeerClosed(Exception):
    """The other end has closed.

    Attributes:
        code: The close code; 1006 is without a close frame.
        reason: What it said about it.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"the other end has closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Peer(ABC):
    """One who speaks packets.

    Attributes:
        pongs: Whether pings are answered and hidden from the test.
        patience: Seconds until something expected is given up.
    """

    def __init__(self, *, pongs: bool = False) -> None:
        self.pongs = pongs
        self.patience = PATIENCE

    @abstractmethod
    async def _send(self, packet: str | bytes) -> None: ...

    @abstractmethod
    async def _receive(self) -> str | bytes: ...

    async def send(self, packet: str | bytes, data: Any = _NOTHING) -> None:
        """Send a packet: its text, or its head and data that is written as JSON; bytes are an attachment.

        `send("42", ["message", "hi"])` sends `42["message","hi"]`.
        """
        if data is not _NOTHING:
            assert isinstance(packet, str), "only text has data"
            packet += orjson.dumps(data).decode()
        await self._send(packet)

    async def receive(self) -> str | bytes:
        """Return the next packet.

        Raises:
            AssertionError: Nothing came in `patience` seconds.
            PeerClosed: The other end has closed.
        """
        with trio.move_on_after(self.patience):
            while True:
                packet = await self._receive()
                if packet != "2" or not self.pongs:
                    return packet
                await self._send("3")
        raise AssertionError(f"nothing came in {self.patience:g} s")

    async def expect(self, packet: Expected, data: Any = _NOTHING) -> Any:
        """Receive the next packet and hold that it is this one.

        Args:
            packet: Its text, or with `data` its head, such as `42` or `40/chat,`; a pattern that is found in
                it; a function that returns true for it; bytes for an attachment.
            data: The JSON behind the head, see `fits`; `...` takes anything.

        Returns:
            The data if some was expected, else the packet.

        Raises:
            AssertionError: It is another one, or none came; with a diff.
        """
        found: str | bytes = ""
        try:
            found = await self.receive()
        except PeerClosed as closed:
            raise AssertionError(f"{closed}; expected {packet!r}") from None
        if data is _NOTHING:
            if not fits(packet, found):
                raise unexpected("the next packet is another one", packet, found)
            return found
        head, value = split_packet(found)
        if head != packet or not fits(data, value):
            raise unexpected("the next packet is another one", [packet, data], [head, value])
        return value

    async def expect_nothing(self, seconds: float = 1.0) -> None:
        """Hold that nothing comes for so many seconds, pings aside if they are answered."""
        patience, self.patience = self.patience, seconds
        try:
            found = await self.receive()
        except AssertionError:
            return
        finally:
            self.patience = patience
        raise AssertionError(f"expected nothing for {seconds:g} s, but there came {found!r}")

    async def expect_close(self, code: int | None = None) -> PeerClosed:
        """Hold that the other end closes, with this code if one is given, and sends nothing before it."""
        try:
            found = await self.receive()
        except PeerClosed as closed:
            if code is not None and closed.code != code:
                raise AssertionError(f"expected a close with {code}, but {closed}") from None
            return closed
        raise AssertionError(f"expected the end, but there came {found!r}")

    async def join(self, namespace: str = "/", auth: Any = None) -> str:
        """Join a namespace and return the socket's id."""
        prefix = "40" if namespace == "/" else f"40{namespace},"
        await self._send(prefix if auth is None else prefix + orjson.dumps(auth).decode())
        answer = await self.expect(prefix, {"sid": str, ...: ...})
        return str(answer["sid"])


def split_packet(packet: str | bytes) -> tuple[str | bytes, Any]:
    """Split a packet into its head and its JSON data; None if there is none."""
    if isinstance(packet, bytes):
        return packet, None
    found = _HEAD.match(packet)
    head = found[0] if found else ""
    try:
        return head, orjson.loads(packet[len(head) :]) if len(packet) > len(head) else None
    except ValueError:
        return packet, None


class WebSocketPeer(Peer):
    """A scripted peer on a WebSocket, client or server.

    Args:
        stream: The stream, after the handshake.
        rest: What came behind the handshake.
        masked: Whether its frames are masked: those of a client are.
        pongs: Whether Engine.IO's pings are answered and hidden.

    Attributes:
        stream: The stream below.
        handshake: The object of the OPEN packet, if `opened` was called.
    """

    def __init__(
        self, stream: trio.abc.Stream, rest: bytes = b"", *, masked: bool = True, pongs: bool = False
    ) -> None:
        super().__init__(pongs=pongs)
        self.stream = stream
        self.handshake: dict[str, Any] = {}
        self._data = rest
        self._masked = masked
        self._fragments: list[bytes] = []

    @classmethod
    async def open(
        cls,
        stream: trio.abc.Stream,
        *,
        path: str = ENGINE_PATH,
        sid: str | None = None,
        headers: Mapping[str, str] | None = None,
        host: str = "broker.test",
        pongs: bool = False,
    ) -> WebSocketPeer:
        """Shake hands as a client.

        Raises:
            AssertionError: The server refuses; the message has its answer.
        """
        lines = {
            "Host": host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            **(headers or {}),
        }
        target = f"{path}&transport=websocket" + (f"&sid={sid}" if sid else "")
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await stream.send_all(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
        data = await _read_answer(stream)
        if not data.startswith(b"HTTP/1.1 101 "):
            await trio.aclose_forcefully(stream)
            raise AssertionError(f"the server did not agree: {data.decode('latin-1')}")
        return cls(stream, data.partition(HEAD_END)[2], pongs=pongs)

    async def opened(self) -> dict[str, Any]:
        """Receive the OPEN packet and return its object."""
        self.handshake = await self.expect("0", {"sid": str, ...: ...})
        return self.handshake

    async def send_frame(self, kind: str, payload: bytes = b"", *, final: bool = True) -> None:
        """Send one frame: `text`, `binary`, `continuation`, `ping`, `pong` or `close`."""
        await self.stream.send_all(write_frame(kind, payload, masked=self._masked, final=final))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.stream.send_all(data)

    async def _send(self, packet: str | bytes) -> None:
        if isinstance(packet, str):
            await self.send_frame("text", packet.encode("utf-8", "surrogatepass"))
        else:
            await self.send_frame("binary", packet)

    async def _receive(self) -> str | bytes:
        while True:
            unit = read_frame(self._data)
            if unit is None:
                await self._read()
                continue
            final = bool(self._data[0] & 0x80)
            self._data = self._data[len(unit.raw) :]
            if unit.kind == "ping":
                await self.send_frame("pong", unit.payload)
            elif unit.kind == "close":
                await self._answer_close(unit.payload)
            elif unit.kind == "text" and final:
                return unit.payload.decode()
            elif unit.kind == "binary" and final:
                return unit.payload
            elif unit.kind != "pong":
                raise AssertionError(f"a frame that no server of this protocol sends: {unit.text}")

    async def _answer_close(self, payload: bytes) -> NoReturn:
        try:
            await self.send_frame("close", payload[:2])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await self.stream.aclose()
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        raise PeerClosed(code, payload[2:].decode("utf-8", "replace"))

    async def _read(self) -> None:
        try:
            more = bytes(await self.stream.receive_some())
        except trio.BrokenResourceError:
            more = b""
        if not more:
            raise PeerClosed
        self._data += more

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, wait for the answer, and close the stream."""
        await self.send_frame("close", code.to_bytes(2, "big") + reason.encode())
        try:
            with trio.move_on_after(self.patience):
                while await self.stream.receive_some():
                    pass
        except trio.BrokenResourceError:
            pass
        await self.stream.aclose()

    async def abort(self) -> None:
        """Close the stream without a word."""
        await trio.aclose_forcefully(self.stream)


async def _read_answer(stream: trio.abc.Stream) -> bytes:
    data = b""
    with trio.move_on_after(PATIENCE):
        while HEAD_END not in data:
            try:
                more = bytes(await stream.receive_some())
            except trio.BrokenResourceError:
                break
            if not more:
                break
            data += more
    return data
