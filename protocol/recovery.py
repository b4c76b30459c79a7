"""Positions in the log of a namespace, and which of its events a lost session has missed.

An offset is `<milliseconds>-<sequence>`, the form of a Redis stream id, so that one form serves every store.
Spec: SIO-REC-4, SIO-REC-8.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from protocol.reasons import DisconnectReason

_FORM = re.compile(r"(0|[1-9][0-9]{0,14})-(0|[1-9][0-9]{0,14})")
MAX_PRIVATE_ID = 64  # characters; ids of the broker have 20


class Offset(NamedTuple):
    """A position in the log of one namespace; later events compare greater."""

    milliseconds: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"


START = Offset(0, 0)


class RecoveryRefusal(StrEnum):
    """Why a client that asked for its old session got a new one. Spec: SIO-REC-7."""

    EXPIRED = "expired"
    TRIMMED = "trimmed"
    UNKNOWN = "unknown"
    UNSUPPORTED = "unsupported"


class Stay(NamedTuple):
    """A time that a session was in a room: it gets events behind `since`, up to and with `until`.

    Attributes:
        room: The room.
        since: The end of the log when it joined.
        until: The end of the log when it left; None while it is in.
    """

    room: str
    since: Offset
    until: Offset | None = None

    def covers(self, offset: Offset) -> bool:
        """Tell whether the session was in the room when the event of this offset was sent."""
        return self.since < offset and (self.until is None or offset <= self.until)


def parse_offset(text: object) -> Offset | None:
    """Read an offset that a peer has sent; None if it is none. Spec: SIO-REC-4."""
    if not isinstance(text, str):
        return None
    match = _FORM.fullmatch(text)
    return None if match is None else Offset(int(match[1]), int(match[2]))


def next_offset(last: Offset, milliseconds: int) -> Offset:
    """Return the offset behind `last` at this wall-clock time, which may have been set back."""
    if milliseconds > last.milliseconds:
        return Offset(milliseconds, 0)
    return Offset(last.milliseconds, last.sequence + 1)


def is_addressed(
    offset: Offset,
    rooms: Collection[str],
    except_rooms: Collection[str],
    stays: Mapping[str, Iterable[Stay]],
) -> bool:
    """Tell whether an event was for a session, by the rooms it was in when the event was sent.

    Args:
        offset: Of the event.
        rooms: Rooms that it was sent to; none means everyone.
        except_rooms: Rooms that were left out.
        stays: The session's stays, by room.

    Spec: SIO-REC-8.
    """
    if rooms and not any(_was_in(room, offset, stays) for room in rooms):
        return False
    return not any(_was_in(room, offset, stays) for room in except_rooms)


def _was_in(room: str, offset: Offset, stays: Mapping[str, Iterable[Stay]]) -> bool:
    return any(stay.covers(offset) for stay in stays.get(room, ()))


RECOVERABLE = frozenset(
    {
        DisconnectReason.TRANSPORT_CLOSE,
        DisconnectReason.TRANSPORT_ERROR,
        DisconnectReason.PING_TIMEOUT,
        DisconnectReason.FORCED_CLOSE,
        DisconnectReason.FORCED_SERVER_CLOSE,
        DisconnectReason.SERVER_SHUTTING_DOWN,
        # Ours: they tell the client to come back, after the last with a new proof.
        DisconnectReason.SLOW_CONSUMER,
        DisconnectReason.HANDLER_STALLED,
        DisconnectReason.IDENTITY_EXPIRED,
    }
)
"""The reasons after which a session is kept. Spec: SIO-REC-5."""
