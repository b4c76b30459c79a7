"""A TCP proxy that does to connections what networks do: late, slow, in pieces, cut, reset, or not at all.

It stands between real clients and a real broker. What it draws by chance it draws from a seed.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

_CHUNK = 65_536
_IN_FLIGHT = 256  # chunks under way in one direction; more hold the sender back
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Way:
    """What is done in one direction; may be changed while connections are open.

    Attributes:
        latency: Seconds that each chunk takes.
        jitter: Seconds by which that varies, either way; what was sent first still arrives first.
        rate: Bytes a second, or None for any.
        piece: Bytes that arrive at a time, from 1 up to this many, or None for as they come.
        cut_after: How many bytes of each connection pass before it is reset; None for all.
        slow_close: Seconds for which the end of the stream is held back.
        open: Cleared, nothing is taken from the sender, who is held back.
        lost: All that comes is thrown away, and the end of the stream with it.
    """

    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    piece: int | None = None
    cut_after: int | None = None
    slow_close: float = 0.0
    lost: bool = False
    _open: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        """Let all pass."""
        self._open.set()

    def hold(self) -> None:
        """Take nothing more, until `release`."""
        self._open = trio.Event()

    def release(self) -> None:
        """Take what has come in the meantime, as much at a time as there is."""
        self._open.set()

    async def wait_open(self) -> None:
        """Wait until something may pass."""
        await self._open.wait()


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.client = client
        self.server = server
        self.scope = trio.CancelScope()

    def reset(self) -> None:
        """Reset both ends."""
        for stream in (self.client, self.server):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()


class ChaosProxy:
    """A proxy in front of one port of the loopback; see `chaos_proxy`.

    Attributes:
        port: Where it listens.
        to_server: What is done to what clients send.
        to_client: What is done to what the server sends.
        refusing: Whether new connections are reset at once.
    """

    def __init__(self, target: int, seed: int) -> None:
        self.port = 0
        self.to_server = Way()
        self.to_client = Way()
        self.refusing = False
        self.accepted = 0
        self._target = target
        self._chance = random.Random(seed)
        self._links: set[_Link] = set()

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def blackhole(self) -> None:
        """Let nothing through, either way, and nobody hear of it."""
        self.to_server.lost = self.to_client.lost = True

    def heal(self) -> None:
        """Let new connections be as if there were no proxy; those that have lost bytes are reset."""
        lost = self.to_server.lost or self.to_client.lost
        self.to_server.release()
        self.to_client.release()
        self.to_server, self.to_client = Way(), Way()
        self.refusing = False
        if lost:
            self.reset()

    def reset(self) -> None:
        """Reset all connections there are."""
        for link in tuple(self._links):
            link.reset()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                partial(trio.serve_tcp, self._carry, 0, host="127.0.0.1", handler_nursery=nursery)
            )
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _carry(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        if self.refusing:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return
        async with await trio.open_tcp_stream("127.0.0.1", self._target) as server:
            link = _Link(client, server)
            self._links.add(link)
            try:
                with link.scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, link, client, server, "to_server")
                        nursery.start_soon(self._pump, link, server, client, "to_client")
            finally:
                self._links.discard(link)

    async def _pump(
        self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream, direction: str
    ) -> None:
        """Take chunks off one end, each with the moment at which it is due at the other."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](_IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, link, receive, sink, direction)
            due = 0.0
            async with send:
                while True:
                    await self._way(direction).wait_open()
                    data = await _taken(source)
                    # Held in the meantime: what comes behind joins it.
                    await self._way(direction).wait_open()
                    way = self._way(direction)
                    if way.lost:
                        if not data:
                            await trio.sleep_forever()
                        continue
                    due = max(due, trio.current_time() + self._delay(way))
                    if not data:
                        await send.send((due + way.slow_close, b""))
                        break
                    await send.send((due, data))

    def _way(self, direction: str) -> Way:
        return self.to_server if direction == "to_server" else self.to_client

    def _delay(self, way: Way) -> float:
        return max(0.0, way.latency + self._chance.uniform(-way.jitter, way.jitter))

    async def _deliver(
        self,
        link: _Link,
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.SocketStream,
        direction: str,
    ) -> None:
        passed = 0
        async for due, data in receive:
            await trio.sleep_until(due)
            way = self._way(direction)
            if way.lost:
                continue
            if not data:
                await _end(sink)
                return
            if way.cut_after is not None:
                data = data[: max(0, way.cut_after - passed)]
            for piece in self._pieces(way, data):
                if not await _given(sink, piece):
                    link.reset()
                    return
                if way.rate is not None:
                    await trio.sleep(len(piece) / way.rate)
            passed += len(data)
            if way.cut_after is not None and passed >= way.cut_after:
                link.reset()

    def _pieces(self, way: Way, data: bytes) -> list[bytes]:
        if way.piece is None and way.rate is None:
            return [data]
        pieces = []
        while data:
            size = _CHUNK if way.piece is None else self._chance.randint(1, way.piece)
            if way.rate is not None:
                size = min(size, max(1, int(way.rate / 20)))
            pieces.append(data[:size])
            data = data[size:]
        return pieces


async def _taken(source: trio.SocketStream) -> bytes:
    try:
        return bytes(await source.receive_some(_CHUNK))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


async def _given(sink: trio.SocketStream, data: bytes) -> bool:
    try:
        await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return False
    return True


async def _end(sink: trio.SocketStream) -> None:
    try:
        await sink.send_eof()
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@asynccontextmanager
async def chaos_proxy(target: int, seed: int = 0) -> AsyncIterator[ChaosProxy]:
    """Put a proxy in front of a port for the block."""
    proxy = ChaosProxy(target, seed)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
