"""The recent recoverable events of one namespace, encoded, within a budget of age, count and bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from operator import attrgetter

from broker.flow.encoded import EncodedMessage
from protocol.recovery import START, Offset, Stay

_ENTRY_BYTES = 400  # what the objects of one entry cost beside its texts
_EVERYONE = ""
_ROOMS = 65_536  # rooms of which it is known when their events were trimmed

_by_offset = attrgetter("offset")


class LogEntry:
    """One event in a log.

    Attributes:
        offset: Its position.
        message: The event as it was sent, with its offset.
        rooms: Rooms that it was sent to; none means everyone.
        except_rooms: Rooms that were left out.
        at: When, on Trio's clock.
        size: Bytes that it counts for.
    """

    __slots__ = ("at", "except_rooms", "message", "offset", "rooms", "size")

    def __init__(
        self,
        offset: Offset,
        message: EncodedMessage,
        rooms: tuple[str, ...],
        except_rooms: tuple[str, ...],
        at: float,
    ) -> None:
        self.offset = offset
        self.message = message
        self.rooms = rooms
        self.except_rooms = except_rooms
        self.at = at
        # Its text is held twice, the second time as a frame.
        self.size = 2 * message.size + _ENTRY_BYTES


class EventLog:
    """The log of one namespace. Appending and trimming cost the same however long it is.

    Args:
        max_age: Seconds that an event is kept.
        max_events: How many events are kept.
        max_bytes: How many bytes they may take.
        on_trimmed: Called with how many events had to go before their time.

    Attributes:
        last: The position of the latest event; grows for ever.
        bytes: What the entries take.
    """

    __slots__ = (
        "_entries",
        "_floor",
        "_max_age",
        "_max_bytes",
        "_max_events",
        "_on_trimmed",
        "_trimmed",
        "_unknown",
        "bytes",
        "last",
    )

    def __init__(
        self, max_age: float, max_events: int, max_bytes: int, on_trimmed: Callable[[int], None]
    ) -> None:
        self._max_age = max_age
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_trimmed = on_trimmed
        self._entries: deque[LogEntry] = deque()
        self._floor = START
        # The last trimmed event of each room, "" being everyone; older rooms are joined in `_unknown`.
        self._trimmed: dict[str, Offset] = {}
        self._unknown = START
        self.last = START
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def floor(self) -> Offset:
        """The position of the last event that is gone: everything behind it is held."""
        return self._floor

    def begin(self, offset: Offset) -> None:
        """Begin behind a position, in a log that others have written before."""
        self.last = self._floor = self._unknown = offset

    def restart(self, offset: Offset) -> int:
        """Begin anew behind a position, since entries before it are missing here; return the bytes freed."""
        freed, self.bytes = self.bytes, 0
        self._entries.clear()
        self._trimmed.clear()
        self.begin(offset)
        return freed

    def append(self, entry: LogEntry) -> None:
        """Add an event behind all others, and let go what exceeds the budget."""
        self.last = entry.offset
        self._entries.append(entry)
        self.bytes += entry.size
        self.expire(entry.at)
        trimmed = 0
        while self.bytes > self._max_bytes or len(self) > self._max_events:
            self._drop_oldest()
            trimmed += 1
        if trimmed:
            self._on_trimmed(trimmed)

    def expire(self, now: float) -> None:
        """Let go what has become too old."""
        limit = now - self._max_age
        while self._entries and self._entries[0].at < limit:
            self._drop_oldest()

    def give_up(self, wanted: int) -> int:
        """Let go the oldest events until so many bytes are free; return how many that made."""
        before, count = self.bytes, len(self)
        while self and before - self.bytes < wanted:
            self._drop_oldest()
        self._on_trimmed(count - len(self))
        return before - self.bytes

    def _drop_oldest(self) -> None:
        entry = self._entries.popleft()
        self.bytes -= entry.size
        self._floor = entry.offset
        for room in entry.rooms or (_EVERYONE,):
            # Put behind the others, so that those in front are the longest untouched.
            self._trimmed.pop(room, None)
            self._trimmed[room] = entry.offset
        if len(self._trimmed) > _ROOMS:
            room = next(iter(self._trimmed))
            self._unknown = max(self._unknown, self._trimmed.pop(room))

    def holds(self, offset: Offset) -> bool:
        """Tell whether an event of this very offset is held or was, as far as that is still known."""
        if offset <= self._floor:
            return True
        at = bisect_right(self._entries, offset, key=_by_offset)
        return at > 0 and self._entries[at - 1].offset == offset

    def is_whole(self, position: Offset, stays: Mapping[str, Iterable[Stay]]) -> bool:
        """Tell whether no event is gone that was behind a position and to one who was in these rooms.

        Long quiet clients have positions that the log has left far behind: what is gone concerns them only if
        it was for them. False may be said in vain, where only `except_rooms` or an old event saved it.
        """
        if position >= self._floor:
            return True
        if max(self._unknown, self._trimmed.get(_EVERYONE, START)) > position:
            return False
        return not any(
            stay.since < last and (stay.until is None or stay.until > position)
            for room, visits in stays.items()
            if (last := self._trimmed.get(room, START)) > position
            for stay in visits
        )

    def was_quiet(self, stay: Stay) -> bool:
        """Tell whether no event can have reached its room while this stay lasted, for all that is known."""
        until = stay.until or self.last
        if until > self._floor or self._unknown > stay.since:
            return False
        return self._trimmed.get(stay.room, START) <= stay.since

    def after(self, offset: Offset) -> list[LogEntry]:
        """Return what is held behind a position, in order."""
        at = bisect_right(self._entries, offset, key=_by_offset)
        return list(islice(self._entries, at, None))
