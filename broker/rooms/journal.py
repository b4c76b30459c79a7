"""The events of one namespace that are kept: numbers them, logs them, finds what a lost client has missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import trio

from broker.adapters.event_log import EventLog, LogEntry
from broker.adapters.recovery_store import StoredEvent, StoredSession
from broker.flow.codec import Codec
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import BrokerError
from broker.flow.handlers import HandlerRegistry
from protocol.recovery import (
    Offset,
    RecoveryRefusal,
    Stay,
    is_addressed,
    next_offset,
    parse_offset,
)

from .history import Histories, RoomHistory

_ENDED_STAYS = 128  # times in rooms left since, of one session, before those that matter least are forgotten


class Journal:
    """What one namespace keeps of the events that it sends.

    Args:
        name: Of the namespace.
        codec: Encodes them.
        log: For recovery; holds nothing if it is off.
        histories: For room history; None if it is off.
        on_growth: Called with how many bytes the log has grown by, to hold a bound over all logs.

    Attributes:
        name: Of the namespace.
        registry: What is registered for it.
        is_shared: Whether a log of all nodes numbers the events; what it has not numbered is not kept.
        is_closed: Whether the namespace is gone for good; nothing is kept any more.
    """

    __slots__ = ("_encode", "_histories", "_on_growth", "is_closed", "is_shared", "log", "name", "registry")

    def __init__(
        self,
        name: str,
        codec: Codec,
        log: EventLog,
        histories: Histories | None,
        on_growth: Callable[[int], None],
    ) -> None:
        self.name = name
        self.log = log
        self._histories = histories
        self.registry = HandlerRegistry()
        self.is_shared = False
        self.is_closed = False
        self._encode = codec.event
        self._on_growth = on_growth
        # What others number later than now is later than all that was before this log.
        log.begin(Offset(_milliseconds(), 0))
        if histories is not None:
            histories.begin(name, log.last)

    def record(
        self,
        event: str,
        args: Sequence[Any],
        rooms: tuple[str, ...],
        except_rooms: tuple[str, ...],
        offset: Offset | None = None,
        *,
        private: bool = False,
    ) -> EncodedMessage:
        """Encode an event with its offset, and keep it; in a shared log only if that has numbered it.

        Args:
            event: Its name.
            args: Its arguments, without an offset.
            rooms: Rooms that it is sent to; none means everyone.
            except_rooms: Rooms that are left out.
            offset: What another log has numbered it; None gives it the next number here.
            private: Leave it out of the history of rooms.

        Raises:
            TypeError: An argument has no form on the wire; nothing is kept.

        Spec: SIO-REC-2, SIO-REC-4.
        """
        log = self.log
        if self.is_closed or (self.is_shared and (offset is None or offset <= log.last)):
            return self.encode_volatile(event, args)
        if offset is None:
            offset = next_offset(log.last, _milliseconds())
        message = self._encode(self.name, event, (*args, str(offset)))
        entry = LogEntry(offset, message, rooms, except_rooms, trio.current_time())
        before = log.bytes
        log.append(entry)
        self._on_growth(log.bytes - before)
        if self._histories is not None and rooms and not private:
            self._histories.add(self.name, entry)
        return message

    def encode_volatile(self, event: str, args: Sequence[Any]) -> EncodedMessage:
        """Encode an event that is not kept; no client may take its end for an offset. Spec: SIO-REC-3."""
        if args and isinstance(args[-1], str):
            args = (*args, str(self.log.last))
        return self._encode(self.name, event, args)

    def restart(self, offset: Offset) -> None:
        """Begin anew behind a position of the shared log: this node may have missed what was before."""
        self._on_growth(-self.log.restart(offset))

    def close(self) -> None:
        """Let go of everything; the application may hold the namespace, and send to it, all the same."""
        self.is_closed = True
        self.restart(self.log.last)

    def history(self, room: str, since: str | None, limit: int | None) -> RoomHistory:
        """Read a piece of a room's history; see `Namespace.history`."""
        if self._histories is None:
            raise BrokerError("room history is off; turn it on by Settings(history=History())")
        if self.is_closed:
            return RoomHistory(position=str(self.log.last), complete=False)
        return self._histories.read(self.name, room, self.log.last, since, limit)

    # What a client has missed

    def position(self, session: StoredSession, offset: object) -> Offset | RecoveryRefusal:
        """Return where a client goes on: the offset it shows, or the beginning of its session.

        An offset from before the session is one of an earlier session, which clients of the reference keep.
        Spec: SIO-REC-6.
        """
        if offset is None:
            return session.start
        shown = parse_offset(offset)
        if shown is None:
            return RecoveryRefusal.UNKNOWN
        if shown <= session.start:
            return session.start
        if shown > self.log.last or not self.log.holds(shown):
            return RecoveryRefusal.UNKNOWN
        return shown

    def missed(self, session: StoredSession, position: Offset) -> list[LogEntry] | None:
        """Return what a session got behind a position; None if some of it may be gone. Spec: SIO-REC-8."""
        if position < session.floor or not self.log.is_whole(position, session.stays):
            return None
        return self._addressed(session, self.log.after(position))

    def filled(
        self, session: StoredSession, position: Offset, older: Sequence[StoredEvent]
    ) -> list[LogEntry]:
        """Return the same with the help of events that a store had, up to the beginning of the log."""
        entries = [self._entry(event) for event in older]
        return self._addressed(session, [*entries, *self.log.after(max(position, self.log.floor))])

    @staticmethod
    def _addressed(session: StoredSession, entries: list[LogEntry]) -> list[LogEntry]:
        stays = session.stays
        return [one for one in entries if is_addressed(one.offset, one.rooms, one.except_rooms, stays)]

    def _entry(self, event: StoredEvent) -> LogEntry:
        name, *args = event.args
        message = self._encode(self.name, name, (*args, str(event.offset)))
        return LogEntry(event.offset, message, event.rooms, event.except_rooms, trio.current_time())

    # When a session was in which room

    def enter(self, session: StoredSession, room: str) -> None:
        """Note that a session is in a room from here on."""
        stays = session.stays.setdefault(room, [])
        if not stays or stays[-1].until is not None:
            stays.append(Stay(room, self.log.last))

    def leave(self, session: StoredSession, room: str) -> None:
        """Note that a session has left a room."""
        stays = session.stays.get(room)
        if not stays or stays[-1].until is not None:
            return
        stays[-1] = stays[-1]._replace(until=self.log.last)
        session.ended += 1
        if stays[-1].since == self.log.last:
            self._forget(session, stays[-1])
        if session.ended > _ENDED_STAYS:
            self._tidy(session)

    def _tidy(self, session: StoredSession) -> None:
        """Forget half of the stays that have ended, and how far back that makes the session blind."""
        ended = [stay for stays in session.stays.values() for stay in stays if stay.until is not None]
        ended.sort(key=lambda stay: stay.until or stay.since)
        for stay in ended[: len(ended) // 2]:
            self._forget(session, stay)
            if stay.until is not None and not self.log.was_quiet(stay):
                session.floor = max(session.floor, stay.until)

    @staticmethod
    def _forget(session: StoredSession, stay: Stay) -> None:
        stays = session.stays[stay.room]
        stays.remove(stay)
        session.ended -= 1
        if not stays:
            del session.stays[stay.room]


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
