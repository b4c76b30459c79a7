"""Whom a message on the bus is for: rooms to reach, rooms to leave out, flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class BroadcastOptions:
    """Sockets of a namespace, chosen by rooms.

    Attributes:
        rooms: Members of any of these; without any, all sockets.
        except_rooms: But no member of these.
        flags: `volatile` (bool), `timeout` (milliseconds), as they stand on the bus; of this broker alone
            `overflow`, the policy that the event was sent with.
    """

    rooms: tuple[str, ...] = ()
    except_rooms: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def volatile(self) -> bool:
        """Whether the message may be dropped for those who cannot take it at once."""
        return self.flags.get("volatile") is True

    def timeout(self, default: float, most: float) -> float:
        """Return the seconds that acks may take: what the flags say, within `most`, else `default`."""
        milliseconds = self.flags.get("timeout")
        if not isinstance(milliseconds, (int, float)) or not milliseconds > 0:
            return default
        return min(milliseconds / 1000, most)

    def to_wire(self) -> dict[str, Any]:
        """Return it as it stands in a message."""
        return {"rooms": list(self.rooms), "except": list(self.except_rooms), "flags": dict(self.flags)}


EVERYONE: Final = BroadcastOptions()


def read_options(value: Any) -> BroadcastOptions | None:
    """Read the options of a message; None if they are none."""
    if not isinstance(value, dict):
        return None
    rooms, excepted = read_rooms(value.get("rooms", [])), read_rooms(value.get("except", []))
    flags = value.get("flags") or {}
    if rooms is None or excepted is None or not isinstance(flags, dict):
        return None
    return BroadcastOptions(rooms, excepted, flags)


def read_rooms(value: Any) -> tuple[str, ...] | None:
    """Read a list of rooms; None if it is none. A number is the room that its digits name."""
    if not isinstance(value, list):
        return None
    if any(type(room) not in (str, int) for room in value):
        return None
    return tuple(map(str, value))


def read_event(value: Any) -> list[Any] | None:
    """Read the name of an event and its arguments; None if it is none."""
    if not isinstance(value, list) or not value or type(value[0]) is not str:
        return None
    return value
