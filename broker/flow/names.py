"""What cannot be the name of an event or of a room is refused where the application gives it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocol.socketio.packet import RESERVED_EVENTS


def check_event(event: str) -> None:
    """Refuse an event name that the protocol keeps to itself. Spec: SIO-EVT-3.

    Raises:
        TypeError: It is no text.
        ValueError: It is reserved.
    """
    if not isinstance(event, str):
        raise TypeError(f"an event name is a str, not {type(event).__name__}")
    if event in RESERVED_EVENTS:
        raise ValueError(f"{event!r} is a reserved event name")


def check_rooms(rooms: Iterable[Any]) -> None:
    """Refuse what cannot be a room name.

    Raises:
        TypeError: A name is no text; several rooms are several arguments, not a list.
    """
    for room in rooms:
        if not isinstance(room, str):
            raise TypeError(
                f"a room is a str, not {type(room).__name__}; give several rooms as several arguments"
            )
