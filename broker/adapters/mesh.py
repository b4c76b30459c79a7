"""A bus between the processes of one server: each has a line to each other, and nothing is in between.

See docs/adr/0022-local-bus.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from typing import Any, Protocol

import orjson
import trio
from attrs import frozen

from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.frames import FrameKind, FrameSplitter, FrameTooLong, write_frame
from protocol.bus.sharded import read_published, write_sharded

from .base import Bus, BusHost, Gap, LocalNamespace
from .cluster import ClusterLink, new_uid
from .mesh_line import Change, MeshLine, write_rooms

logger = logging.getLogger(__name__)

_RECEIVE_BYTES = 262_144
_QUESTIONS = (MessageType.BROADCAST, MessageType.FETCH_SOCKETS, MessageType.SERVER_SIDE_EMIT)

Serve = Callable[[int, trio.abc.Stream], Awaitable[None]]


class Neighbourhood(Protocol):
    """How the processes of a server reach each other.

    Attributes:
        own: The number of this one.
        count: How many there are.
    """

    own: int
    count: int

    def on_line(self, serve: Serve) -> None:
        """Call this with each line that another process opens, and its number."""

    async def open_line(self, number: int) -> trio.abc.Stream | None:
        """Open a line to another process; None if it is not there."""


@frozen
class Mesh:
    """The adapter of a server of several processes.

    Args:
        neighbourhood: How they reach each other.
    """

    neighbourhood: Neighbourhood

    def bus(self, host: BusHost) -> Bus:
        """Make the bus of a broker."""
        return MeshBus(self.neighbourhood, host)


class MeshBus:
    """The bus of one process."""

    trouble: str | None = None

    def __init__(self, neighbourhood: Neighbourhood, host: BusHost) -> None:
        self.uid = new_uid()
        self.host = host
        self.links: dict[str, ClusterLink] = {}
        self._locals: dict[str, LocalNamespace] = {}
        self._neighbourhood = neighbourhood
        self._incoming: dict[int, trio.CancelScope] = {}
        self.lines = {
            number: MeshLine(number, partial(neighbourhood.open_line, number), host, self._hello)
            for number in range(neighbourhood.count)
            if number != neighbourhood.own
        }
        neighbourhood.on_line(self.serve_line)

    def link(self, local: LocalNamespace) -> ClusterLink:
        """Connect a namespace."""
        link = ClusterLink(self.uid, local, self.host, _MeshCarrier(self, local.name))
        self.links[local.name] = link
        self._locals[local.name] = local
        return link

    def unlink(self, namespace: str) -> None:
        """Take note that a namespace is no more."""
        self.links.pop(namespace, None)
        self._locals.pop(namespace, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a line to each other process until cancelled; nobody who is not there is waited for."""
        async with trio.open_nursery() as nursery:
            for line in self.lines.values():
                nursery.start_soon(line.run)
            task_status.started()
            await trio.sleep_forever()

    def _hello(self) -> Iterator[bytes]:
        """Return the first frames of a line: who this is, and what is here."""
        yield write_frame(FrameKind.HELLO, orjson.dumps({"uid": self.uid}))
        for name, local in self._locals.items():
            changes = ((name, room, True) for room in local.all_rooms())
            yield from write_rooms(changes, self.host.limits.bus_message_bytes)

    # What comes in

    async def serve_line(self, number: int, stream: trio.abc.Stream) -> None:
        """Take what another process sends, until it closes the line or opens a newer one."""
        line = self.lines.get(number)
        if line is None:
            return
        older = self._incoming.pop(number, None)
        if older is not None:
            older.cancel()
        with trio.CancelScope() as scope:
            self._incoming[number] = scope
            try:
                await self._read(line, stream)
            finally:
                if self._incoming.get(number) is scope:
                    del self._incoming[number]
                    self._leave(line)

    async def _read(self, line: MeshLine, stream: trio.abc.Stream) -> None:
        splitter = FrameSplitter(self.host.limits.bus_message_bytes)
        try:
            while data := await stream.receive_some(_RECEIVE_BYTES):
                for kind, content in splitter.feed(bytes(data)):
                    self._take(line, kind, content)
        except FrameTooLong:
            self.host.events["oversized bus message"] += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("the line from worker %d broke", line.number)

    def _take(self, line: MeshLine, kind: int, content: bytes) -> None:
        try:
            if kind == FrameKind.MESSAGE:
                self._take_message(content)
            elif kind == FrameKind.ROOMS:
                _take_rooms(line.rooms, orjson.loads(content))
            elif kind == FrameKind.HELLO:
                self._meet(line, str(orjson.loads(content)["uid"]))
            elif kind == FrameKind.GAP:
                self._take_gap(line, orjson.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError):
            self.host.events["malformed bus message"] += 1

    def _take_message(self, content: bytes) -> None:
        message = read_published(content, self.host.limits.json_depth)
        if message is None:
            raise ValueError("no cluster message")
        link = self.links.get(message.namespace)
        if link is not None:
            link.receive(message)
        elif message.request_id is not None and message.type in _QUESTIONS:
            # The namespace is not here: nobody was asked, and nobody needs to wait.
            nobody = ClusterMessage(
                type=MessageType.BROADCAST_CLIENT_COUNT,
                uid=self.uid,
                namespace=message.namespace,
                request_id=message.request_id,
            )
            _MeshCarrier(self, message.namespace).respond(message.uid, nobody)

    def _take_gap(self, line: MeshLine, said: dict[str, Any]) -> None:
        count = int(said["lost"])
        cause = f"worker {line.number} could not pass on {count} messages"
        self.host.report(Gap(cause, float(said["seconds"])))

    def _meet(self, line: MeshLine, uid: str) -> None:
        if line.uid is not None and line.uid != uid:
            self._leave(line)
        line.uid = uid
        line.rooms.clear()

    def _leave(self, line: MeshLine) -> None:
        """Wait no longer for the answers of a process that is gone."""
        uid = line.uid
        line.forget()
        if uid is not None:
            for link in self.links.values():
                link.node_left(uid)


def _take_rooms(rooms: dict[str, set[str]], changes: list[Change]) -> None:
    for namespace, room, here in changes:
        if here:
            rooms.setdefault(namespace, set()).add(room)
        elif namespace in rooms:
            rooms[namespace].discard(room)
            if not rooms[namespace]:
                del rooms[namespace]


class _MeshCarrier:
    """Takes the messages of one namespace to the other processes; a `Carrier`."""

    def __init__(self, bus: MeshBus, namespace: str) -> None:
        self._bus = bus
        self._namespace = namespace

    def publish(self, message: ClusterMessage) -> bool:
        lines = [line for line in self._bus.lines.values() if line.wants(message)]
        return not lines or self._send(message, lines)

    def respond(self, uid: str, message: ClusterMessage) -> bool:
        return self._send(message, [line for line in self._bus.lines.values() if line.uid == uid])

    def _send(self, message: ClusterMessage, lines: Collection[MeshLine]) -> bool:
        content = write_sharded(message)
        if len(content) > self._bus.host.limits.bus_message_bytes:
            self._bus.host.events["oversized bus message"] += 1
            return False
        frame = write_frame(FrameKind.MESSAGE, content)
        taken = True
        for line in lines:
            taken = line.offer(frame) and taken
        return taken

    async def peers(self) -> int:
        await trio.lowlevel.checkpoint()
        return len(self._here())

    async def names(self) -> Collection[str]:
        await trio.lowlevel.checkpoint()
        return self._here()

    def _here(self) -> list[str]:
        return [line.uid for line in self._bus.lines.values() if line.uid is not None]

    def room_created(self, room: str) -> None:
        for line in self._bus.lines.values():
            line.change_room(self._namespace, room, here=True)

    def room_deleted(self, room: str) -> None:
        for line in self._bus.lines.values():
            line.change_room(self._namespace, room, here=False)

    def close(self) -> None:
        self._bus.unlink(self._namespace)
