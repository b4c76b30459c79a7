"""The latest events of each room, for those who come late: entries of the log, held longer."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from itertools import islice
from operator import attrgetter
from typing import Any

import trio
from attrs import field, frozen

from broker.adapters.event_log import LogEntry
from broker.flow.codec import Codec
from broker.flow.settings import History
from protocol.limits import MAX_JSON_DEPTH, Limits
from protocol.recovery import START, Offset, parse_offset

_by_offset = attrgetter("offset")
_ROOM_BYTES = 500  # what the objects of one room cost beside its events
# What the broker itself has written is not held to the limits for peers.
_OWN = Limits(max_attachments=1 << 30, json_depth=MAX_JSON_DEPTH, packets_per_payload=1 << 30)
_OWN_BYTES = 1 << 40


@frozen
class HistoryEvent:
    """An event of a room's history.

    Attributes:
        position: Where it is, to read on from; the same as its offset.
        event: Its name.
        args: Its arguments.
    """

    position: str
    event: str
    args: tuple[Any, ...]


@frozen
class RoomHistory:
    """A piece of a room's history, oldest first.

    Attributes:
        events: What happened.
        position: Where to read on: behind the last of `events`, or, if they are all, behind everything.
        complete: Whether nothing is missing between `since` and the first of them.
        more: Whether `limit` left something out behind the last of them.
    """

    events: list[HistoryEvent] = field(factory=list)
    position: str = str(START)
    complete: bool = True
    more: bool = False


class _Room:
    """What is kept of one room."""

    __slots__ = ("bytes", "entries", "floor")

    def __init__(self, floor: Offset) -> None:
        self.entries: deque[LogEntry] = deque()
        self.floor = floor
        self.bytes = _ROOM_BYTES

    def drop_oldest(self) -> int:
        entry = self.entries.popleft()
        self.floor = entry.offset
        self.bytes -= entry.size
        return entry.size


class Histories:
    """The histories of all rooms of a broker, each within its budget, and all within a bound.

    Args:
        options: The budget of one room.
        codec: Reads events back.
        max_rooms: How many rooms are kept; those longest silent go first.
        max_bytes: What they may take together.
    """

    def __init__(self, options: History, codec: Codec, max_rooms: int, max_bytes: int) -> None:
        self._options = options
        self._codec = codec
        self._max_rooms = max_rooms
        self._max_bytes = max_bytes
        # By namespace and room, those longest silent first.
        self._rooms: OrderedDict[tuple[str, str], _Room] = OrderedDict()
        self._starts: dict[str, Offset] = {}
        # By namespace, the last event of a room that was forgotten.
        self._forgotten: dict[str, Offset] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rooms)

    def begin(self, namespace: str, start: Offset) -> None:
        """Begin the histories of a namespace: nothing is known of what was before this position."""
        self._starts[namespace] = self._forgotten[namespace] = start

    def add(self, namespace: str, entry: LogEntry) -> None:
        """Keep an event for each of the rooms that it was sent to."""
        options = self._options
        for name in dict.fromkeys(entry.rooms):
            room = self._rooms.get((namespace, name))
            if room is None:
                room = self._rooms[namespace, name] = _Room(self._forgotten[namespace])
                self.bytes += _ROOM_BYTES
            else:
                self._rooms.move_to_end((namespace, name))
            room.entries.append(entry)
            room.bytes += entry.size
            self.bytes += entry.size
            self._expire(room, entry.at)
            while len(room.entries) > options.count or room.bytes - _ROOM_BYTES > options.bytes:
                self.bytes -= room.drop_oldest()
        while len(self._rooms) > self._max_rooms or self.bytes > self._max_bytes:
            self._drop_room()

    def _expire(self, room: _Room, now: float) -> None:
        while room.entries and room.entries[0].at < now - self._options.age:
            self.bytes -= room.drop_oldest()

    def expire(self, now: float) -> None:
        """Forget the rooms whose last event has become too old."""
        while self._rooms:
            room = next(iter(self._rooms.values()))
            self._expire(room, now)
            if room.entries:
                return
            self._drop_room()

    def _drop_room(self) -> None:
        (namespace, _), room = self._rooms.popitem(last=False)
        self.bytes -= room.bytes
        last = room.entries[-1].offset if room.entries else room.floor
        self._forgotten[namespace] = max(last, self._forgotten[namespace])

    def forget(self, namespace: str) -> None:
        """Forget a namespace that is gone for good."""
        for key in [key for key in self._rooms if key[0] == namespace]:
            self.bytes -= self._rooms.pop(key).bytes
        del self._starts[namespace], self._forgotten[namespace]

    def read(
        self, namespace: str, name: str, last: Offset, since: str | None, limit: int | None
    ) -> RoomHistory:
        """Read a piece of a room's history; see `Namespace.history`.

        Args:
            namespace: Its namespace.
            name: The room.
            last: Where the log of the namespace ends.
            since: The position to read from; None for the oldest event that is kept.
            limit: The most events to return; None for all.

        Raises:
            ValueError: `since` is no position, or `limit` is below 1.
        """
        after = self._starts[namespace] if since is None else parse_offset(since)
        if after is None or (limit is not None and limit < 1):
            raise ValueError(f"no position or no limit: since={since!r}, limit={limit!r}")
        room = self._rooms.get((namespace, name))
        if room is None:
            return RoomHistory(position=str(last), complete=self._forgotten[namespace] <= after <= last)
        self._expire(room, trio.current_time())
        at = bisect_right(room.entries, after, key=_by_offset)
        found = list(islice(room.entries, at, None if limit is None else at + limit))
        more = at + len(found) < len(room.entries)
        return RoomHistory(
            events=[self._event(entry) for entry in found],
            position=str(found[-1].offset if more else last),
            complete=room.floor <= after <= last,
            more=more,
        )

    def _event(self, entry: LogEntry) -> HistoryEvent:
        message = entry.message
        decoder = self._codec.decoder(_OWN, _OWN_BYTES)
        packet = decoder.feed_text(message.text[1:]) if message.text else None
        for data in message.attachments:
            packet = decoder.feed_binary(data)
        event, *args = packet.data  # type: ignore[union-attr] # what was encoded here is a packet
        return HistoryEvent(str(entry.offset), event, tuple(args[:-1]))
