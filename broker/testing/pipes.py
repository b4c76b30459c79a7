"""Bounded byte streams in memory: a full buffer makes the sender wait, as a socket does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

import trio

DEFAULT_BUFFER_BYTES = 65_536


class Pipe:
    """One direction of a connection.

    Args:
        capacity_bytes: How much may be on the way; then sending waits.

    Attributes:
        held: Nothing arrives while this is set.
        latency: Seconds that each byte is on the way.
        trickle: At most so many bytes arrive at a time, with so many seconds between; None for no such bound.
        cut_after: How many more bytes arrive before the connection breaks; None for no such bound.
        on_cut: Called when it is to break.
    """

    def __init__(self, capacity_bytes: int = DEFAULT_BUFFER_BYTES) -> None:
        if capacity_bytes < 1:
            raise ValueError(f"a pipe holds at least 1 byte, not {capacity_bytes}")
        self.capacity_bytes = capacity_bytes
        self.held = False
        self.latency = 0.0
        self.trickle: tuple[int, float] | None = None
        self.cut_after: int | None = None
        self.on_cut: Callable[[], None] = self.break_off
        self.broken = False
        self.reader_closed = False
        self.writer_closed = False
        self.queued_bytes = 0
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._due = -inf
        self._next_trickle = -inf
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    # The sender's end

    @property
    def room(self) -> int:
        """How many bytes can be sent now; what is sent to nobody needs no room."""
        return self.capacity_bytes - self.queued_bytes

    def put(self, data: bytes, delay: float = 0.0) -> None:
        """Take bytes, without asking for room."""
        due = trio.current_time() + self.latency + delay if self.latency or delay else -inf
        self._due = max(self._due, due)  # nothing overtakes what was sent before
        self._chunks.append((self._due, data))
        self.queued_bytes += len(data)
        if self._readers:
            self._readers.unpark_all()

    async def wait_room(self) -> None:
        """Wait for a change that may have made room."""
        await self._writers.park()

    def close_writer(self) -> None:
        """Send the end of the stream, behind what was sent."""
        self.writer_closed = True
        self.wake()

    # The receiver's end

    def take(self, max_bytes: int) -> bytes | None:
        """Return bytes that have arrived, nothing at the end of the stream, None if it must wait."""
        if self.held:
            return None
        if self.broken:
            raise trio.BrokenResourceError("the connection is broken")
        if not self._chunks:
            return b"" if self.writer_closed else None
        now = trio.current_time()
        due, data = self._chunks[0]
        if due > now:
            return None
        if self.trickle is not None:
            if now < self._next_trickle:
                return None
            self._next_trickle = now + self.trickle[1]
            max_bytes = min(max_bytes, self.trickle[0])
        if self.cut_after is not None:
            if self.cut_after == 0:
                self.on_cut()
                raise trio.BrokenResourceError("the connection was cut")
            max_bytes = min(max_bytes, self.cut_after)
        taken = self._take(due, data, now, max_bytes)
        if self.cut_after is not None:
            self.cut_after -= len(taken)
        return taken

    def _take(self, due: float, data: bytes, now: float, max_bytes: int) -> bytes:
        chunks = self._chunks
        chunks.popleft()
        if len(data) > max_bytes:
            chunks.appendleft((due, data[max_bytes:]))
            data = data[:max_bytes]
        else:
            while chunks and chunks[0][0] <= now and len(data) + len(chunks[0][1]) <= max_bytes:
                data += chunks.popleft()[1]
        self.queued_bytes -= len(data)
        if self._writers:
            self._writers.unpark_all()
        return data

    def next_arrival(self) -> float:
        """Return when bytes will arrive that are on the way."""
        if self.held or not self._chunks:
            return inf
        due = self._chunks[0][0]
        return due if self.trickle is None else max(due, self._next_trickle)

    async def wait_change(self) -> None:
        """Wait until something has arrived, or the state has changed."""
        due = self.next_arrival()
        if due == inf:
            await self._readers.park()
            return
        with trio.CancelScope(deadline=due):
            await self._readers.park()

    def close_reader(self) -> None:
        """Throw away what is on the way, and what comes."""
        self.reader_closed = True
        self._chunks.clear()
        self.queued_bytes = 0
        self.wake()

    # Both

    def break_off(self) -> None:
        """Break, as a connection that was reset; what is on the way is lost."""
        self.broken = True
        self._chunks.clear()
        self.queued_bytes = 0
        self.wake()

    def wake(self) -> None:
        """Have everybody look again."""
        self._readers.unpark_all()
        self._writers.unpark_all()


class VirtualStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory.

    Args:
        incoming: What the other end sends.
        outgoing: What this end sends.

    Attributes:
        on_send: Called with bytes before they are sent; returns those to send, each with its delay in
            seconds. None sends them as they are.
        on_close: Called once when this end closes.
    """

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.on_send: Callable[[bytes], list[tuple[bytes, float]]] | None = None
        self.on_close: Callable[[], None] | None = None
        self._closed = False
        self._sending = False
        self._receiving = False

    @property
    def closed(self) -> bool:
        """Whether this end has been closed."""
        return self._closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits while the buffer is full.

        Raises:
            BrokenResourceError: The other end is closed, or the connection broken.
            BusyResourceError: Another task is sending.
            ClosedResourceError: This end is closed, or has sent the end of the stream.
        """
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            pieces = [(bytes(data), 0.0)] if self.on_send is None else self.on_send(bytes(data))
            for piece, delay in pieces:
                if piece and len(piece) <= self.outgoing.room and not self.outgoing.broken:
                    self.outgoing.put(piece, delay)
                else:
                    await self._send(piece, delay)
        finally:
            self._sending = False

    async def _send(self, data: bytes, delay: float) -> None:
        while data:
            self._check_sendable()
            room = self.outgoing.room
            if room > 0:
                self.outgoing.put(data[:room], delay)
                data = data[room:]
            else:
                await self.outgoing.wait_room()
        self._check_sendable()  # a fault may have broken it at this very piece

    def _check_sendable(self) -> None:
        pipe = self.outgoing
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        if pipe.held:  # nobody has heard of anything
            return
        if pipe.broken or pipe.reader_closed:
            raise trio.BrokenResourceError("the connection is broken")
        if pipe.writer_closed:
            raise trio.ClosedResourceError("the end of this stream has been sent")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for a byte."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("this stream is closed")
                pipe = self.outgoing
                if pipe.room > 0 or pipe.broken or pipe.reader_closed:
                    return
                await pipe.wait_room()
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes once some have arrived, none at the end of the stream.

        Raises:
            BrokenResourceError: The connection is broken.
            BusyResourceError: Another task is receiving.
            ClosedResourceError: This end is closed.
            TypeError: `max_bytes` is no whole number.
            ValueError: `max_bytes` is less than 1.
        """
        if max_bytes is not None and not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes must be a whole number, not {max_bytes!r}")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        waited = False
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("this stream is closed")
                data = self.incoming.take(DEFAULT_BUFFER_BYTES if max_bytes is None else max_bytes)
                if data is not None:
                    return data
                waited = True
                await self.incoming.wait_change()
        finally:
            self._receiving = False
            if not waited:  # waiting has been the checkpoint
                await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_eof(self) -> None:
        """Send the end of the stream; this end can still receive."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        self.outgoing.close_writer()

    async def aclose(self) -> None:
        """Close this end; the other one still receives what was sent."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close this end, without a checkpoint."""
        if self._closed:
            return
        self._closed = True
        self.outgoing.close_writer()
        self.incoming.close_reader()
        if self.on_close is not None:
            self.on_close()


def stream_pair(buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> tuple[VirtualStream, VirtualStream]:
    """Return the two ends of a connection in memory.

    Args:
        buffer_bytes: How much may be on the way in each direction.
    """
    there, back = Pipe(buffer_bytes), Pipe(buffer_bytes)
    return VirtualStream(back, there), VirtualStream(there, back)
