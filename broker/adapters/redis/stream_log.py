"""The log of all nodes in a stream: sends events there first, and hands them on as they come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio
from attrs import frozen

from broker.adapters.base import BusHost, LocalNamespace
from broker.adapters.errors import BusUnavailable
from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.commands import Part
from protocol.bus.options import BroadcastOptions
from protocol.bus.streams import read_entry, read_ordinal, write_entry
from protocol.recovery import START, Offset, parse_offset

from .client import RedisClient
from .sessions import RedisSessions

_LOOK: Final = 0.1  # seconds between two looks whether the stream is in reach
_PATIENCE: Final = (
    1.0  # seconds that an event may take to come back, before it is delivered without an offset
)


@frozen
class _Flight:
    """An event on its way to the stream and back."""

    fields: Sequence[bytes]
    at: float


class StreamLog:
    """One stream; a `broker.adapters.recovery_store.SharedLog`.

    While the stream is out of reach, events are delivered at once and without an offset. That time ends with
    a mark in the stream: who has seen nothing behind the mark cannot be recovered, since it is not known what
    it has seen. See docs/adr/0023.

    Args:
        uid: The id of this node.
        host: The broker's side.
        client: The connection that is written to.
        stream: Its name.
        max_length: Entries that are kept, about.
        locals_: The namespaces of this node, by name.
        trouble: Says why the stream is out of reach; None if it is not.
        store: Keeps the sessions.

    Attributes:
        position: The end of what has come back.
        is_away: Whether the stream is out of reach, or its mark has not come back yet.
    """

    def __init__(
        self,
        uid: str,
        host: BusHost,
        client: RedisClient,
        stream: str,
        max_length: int,
        locals_: dict[str, LocalNamespace],
        trouble: Callable[[], str | None],
        store: RedisSessions,
    ) -> None:
        self._uid = uid
        self._host = host
        self._client = client
        self._add = ("XADD", stream, "MAXLEN", "~", max_length, "*")
        self._locals = locals_
        self._trouble = trouble
        self.store = store
        self.position = START
        self.is_away = True
        self._number = 0
        self._flights: dict[int, _Flight] = {}
        self._mark: int | None = None
        self._marked_at = 0.0
        self._moved = trio.Event()

    # Sending

    def publish(self, namespace: str, event: Sequence[object], options: BroadcastOptions) -> bool:
        """Send an event to all nodes; see `SharedLog.publish`."""
        message = ClusterMessage(
            type=MessageType.BROADCAST, uid=self._uid, namespace=namespace, event=event, options=options
        )
        fields = self._numbered(message)
        if self._awaits and self._trouble() is not None:
            self._go_away()
        # What no node would read back is of no use in the stream.
        fits = sum(map(len, fields)) <= self._host.limits.bus_message_bytes
        if not fits:
            self._host.events["oversized bus message"] += 1
        sent = fits and self._client.send(*self._add, *fields)
        flight = _Flight(fields, trio.current_time())
        if sent and self._awaits:
            self._flights[self._number] = flight
            return True
        if self._awaits:
            self._go_away()
        self._deliver(flight, None)
        return sent

    @property
    def _awaits(self) -> bool:
        """Whether events are delivered when they come back: also behind a mark that is on its way."""
        return not self.is_away or self._mark is not None

    def _numbered(self, message: ClusterMessage) -> list[bytes]:
        self._number += 1
        return [*write_entry(message), b"no", b"%d" % self._number]

    def _deliver(self, flight: _Flight, offset: Offset | None) -> None:
        # From what was written: the application may have changed the values since.
        message = read_entry(flight.fields, self._host.depth)
        local = None if message is None else self._locals.get(message.namespace)
        if message is not None and local is not None:
            local.deliver(message.event, message.options, offset)

    # What comes back

    def take(self, entry_id: str, message: ClusterMessage, fields: Sequence[bytes]) -> bool:
        """Take an entry; tells whether it was an event of the log, not something else."""
        offset = parse_offset(entry_id)
        if offset is None:
            return False
        self.position = offset
        if message.uid == self._uid:
            self._take_own(offset, read_ordinal(fields))
            return True
        if message.type is not MessageType.BROADCAST or message.request_id is not None:
            return False
        local = self._locals.get(message.namespace)
        if local is not None:
            local.deliver(message.event, message.options, offset)
        return True

    def _take_own(self, offset: Offset, number: int | None) -> None:
        if number is None:
            return  # volatile, or about rooms: done here when it was sent
        flight = self._flights.pop(number, None)
        if flight is not None:
            self._deliver(flight, offset)
        elif number == self._mark:
            self._come_back(offset)

    def continued(self, complete: bool) -> None:
        """Take note that a read is done; if entries are missing, what was before is in doubt."""
        if not complete:
            self._go_away()
        self._moved.set()

    async def catch_up(self, target: Offset) -> None:
        """Wait until this has come back.

        Raises:
            BusUnavailable: It has not in time, or the stream is out of reach.
        """
        with trio.move_on_after(_PATIENCE):
            while self.position < target and not self.is_away:
                self._moved = trio.Event()
                await self._moved.wait()
        if self.position < target or self.is_away:
            raise BusUnavailable("the stream cannot be read to its end")

    # Out of reach, and back

    def first_entry(self) -> Sequence[Part]:
        """Return the command that begins an empty stream with something that everybody passes over."""
        return (*self._add, *write_entry(self._nothing()))

    def _nothing(self) -> ClusterMessage:
        return ClusterMessage(type=MessageType.HEARTBEAT, uid=self._uid, namespace="/")

    def begin(self, entry_id: str) -> None:
        """Begin behind an entry."""
        self._come_back(parse_offset(entry_id) or START)

    def _go_away(self) -> None:
        """Deliver what is on its way now; what comes back of it later is passed over."""
        self.is_away = True
        self._mark = None
        self.store.doubt()
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            self._deliver(flight, None)

    def _come_back(self, offset: Offset) -> None:
        self.position = offset
        self._mark = None
        self.is_away = False
        for local in self._locals.values():
            local.restart_log(offset)
        self.store.trust(offset)

    async def watch(self) -> None:
        """Notice when the stream is out of reach, and set the mark when it is back, until cancelled."""
        while True:
            await trio.sleep(_LOOK)
            now = trio.current_time()
            reachable = self._trouble() is None
            if self._awaits and not (reachable and self._is_in_time(now)):
                self._go_away()
            elif self.is_away and self._mark is None and reachable:
                self._set_mark(now)

    def _is_in_time(self, now: float) -> bool:
        oldest = next(iter(self._flights.values()), None)
        since = oldest.at if oldest is not None else now
        if self._mark is not None:
            since = min(since, self._marked_at)
        return now - since < _PATIENCE

    def _set_mark(self, now: float) -> None:
        # All that was sent before is in the stream before it, or lost.
        fields = self._numbered(self._nothing())
        if self._client.send(*self._add, *fields):
            self._mark, self._marked_at = self._number, now
