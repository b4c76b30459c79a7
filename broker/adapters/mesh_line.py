"""What goes to one other process of a server: a bounded queue, its writer, and what that process wants."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator

import orjson
import trio

from protocol.bus.cluster import ClusterMessage
from protocol.bus.frames import FrameKind, write_frame
from protocol.bus.streams import is_kept

from .base import BusHost, Gap

logger = logging.getLogger(__name__)

_BATCH_BYTES = 262_144
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0

Room = tuple[str, str]
Change = tuple[str, str, bool]
"""A namespace, a room, and whether it has members here."""
Open = Callable[[], Awaitable[trio.abc.Stream | None]]


def write_rooms(changes: Iterable[Change], max_bytes: int) -> Iterator[bytes]:
    """Announce rooms, in as many frames as the size of one demands."""
    parts: list[bytes] = []
    size = 1
    for change in changes:
        part = orjson.dumps(change)
        if parts and size + len(part) + 1 > max_bytes:
            yield write_frame(FrameKind.ROOMS, b"[%b]" % b",".join(parts))
            parts, size = [], 1
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield write_frame(FrameKind.ROOMS, b"[%b]" % b",".join(parts))


class MeshLine:
    """The line to one other process.

    Only messages are bounded by `Limits.bus_buffer_bytes`; what rooms are here is a state, of which the
    latest word is kept for each room.

    Args:
        number: The number of that process.
        open_line: Connects to it; None if it is not there.
        host: The broker's side.
        hello: Returns the first frames of a line: who this is, and its rooms.

    Attributes:
        number: The number of that process.
        uid: Its id as a node; None until it has said so, and once it is gone.
        rooms: The rooms it has members in, by namespace.
    """

    def __init__(
        self, number: int, open_line: Open, host: BusHost, hello: Callable[[], Iterable[bytes]]
    ) -> None:
        self.number = number
        self.uid: str | None = None
        self.rooms: dict[str, set[str]] = {}
        self._open = open_line
        self._host = host
        self._hello = hello
        self._connected = False
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._changes: dict[Room, bool] = {}
        self._lost = 0
        self._losing_since: float | None = None
        self._wake = trio.Event()

    # What the bus offers

    def wants(self, message: ClusterMessage) -> bool:
        """Tell whether it is there and has members in a room that a message is for; all want questions."""
        if self.uid is None or not is_kept(message):
            return self._connected or self.uid is not None
        here = self.rooms.get(message.namespace)
        if not here:
            return False
        rooms = message.options.rooms
        return not rooms or not here.isdisjoint(rooms)

    def offer(self, frame: bytes) -> bool:
        """Queue a frame; False if it is lost. Nothing is lost on a process that is not there."""
        if not self._connected and self.uid is None:
            return True
        if self._queued_bytes + len(frame) > self._host.limits.bus_buffer_bytes:
            self._lose(1)
            return False
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()
        return True

    def change_room(self, namespace: str, room: str, here: bool) -> None:
        """Announce that a room has come to be here, or is here no more."""
        if self._connected:
            self._changes[namespace, room] = here
            self._wake.set()

    def forget(self) -> None:
        """Take note that the process is gone: what waits for it was for sockets that are gone as well."""
        self.uid = None
        self.rooms.clear()
        self._clear()
        self._lost, self._losing_since = 0, None

    def _lose(self, count: int) -> None:
        self._host.events["bus overflow"] += count
        self._lost += count
        if self._losing_since is None:
            self._losing_since = trio.current_time()

    def _clear(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0

    # The writer

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        delay = _FIRST_DELAY
        while True:
            stream = await self._open()
            if stream is None:
                await trio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
                continue
            delay = _FIRST_DELAY
            async with stream:
                await self._write_while_open(stream)

    async def _write_while_open(self, stream: trio.abc.Stream) -> None:
        self._connected = True
        self._changes.clear()
        for frame in reversed(list(self._hello())):
            self._queue.appendleft(frame)
            self._queued_bytes += len(frame)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_closed, stream, nursery.cancel_scope)
                await self._write(stream)
                nursery.cancel_scope.cancel()
        finally:
            self._connected = False
            if self.uid is None:
                self.forget()

    async def _write(self, stream: trio.abc.Stream) -> None:
        """Write what is queued as it comes; return once that makes no progress, or the process is gone."""
        while True:
            batch = self._take_batch()
            if not batch:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            try:
                with trio.fail_after(self._host.limits.write_timeout):
                    await stream.send_all(batch)
            except trio.TooSlowError:
                logger.warning("worker %d does not read what is sent to it", self.number)
                self._lose(1 + len(self._queue))
                self._clear()
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def _take_batch(self) -> bytes:
        # Rooms first: whoever hears of a message that was sent from a room knows of the room.
        frames = self._take_rooms() if self._changes else []
        size = 0
        while self._queue and size < _BATCH_BYTES:
            frame = self._queue.popleft()
            frames.append(frame)
            size += len(frame)
        self._queued_bytes -= size
        if self._losing_since is not None and not self._queue:
            frames.append(self._end_gap(self._losing_since))
        return b"".join(frames)

    def _take_rooms(self) -> list[bytes]:
        changes = ((namespace, room, here) for (namespace, room), here in self._changes.items())
        frames = list(write_rooms(changes, self._host.limits.bus_message_bytes))
        self._changes.clear()
        return frames

    def _end_gap(self, since: float) -> bytes:
        """Report what was lost, here and to the other process."""
        seconds = trio.current_time() - since
        gap = Gap(f"worker {self.number} did not read fast enough", seconds, lost=self._lost)
        self._lost, self._losing_since = 0, None
        self._host.report(gap)
        return write_frame(FrameKind.GAP, orjson.dumps({"seconds": seconds, "lost": gap.lost}))


async def _wait_closed(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    """Notice that the other side has closed: nothing else ever comes back on a line."""
    try:
        await stream.receive_some(1)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()
