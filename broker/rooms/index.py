"""Which socket is in which room, in both directions; pure and synchronous."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Generic, Literal, TypeVar

Member = TypeVar("Member", bound=Hashable)


RoomEvent = Literal["create-room", "join-room", "leave-room", "delete-room"]
Notice = Callable[[RoomEvent, str, Member | None], None]


class RoomIndex(Generic[Member]):
    """Rooms of one namespace. A room exists while it has members."""

    __slots__ = ("_notice", "_of_member", "rooms")

    def __init__(self, notice: Notice[Member] | None = None) -> None:
        self._notice = notice
        self.rooms: dict[str, dict[Member, None]] = {}
        self._of_member: dict[Member, set[str]] = {}

    def join(self, member: Member, room: str) -> bool:
        """Put a member into a room; False if it is in it already."""
        rooms = self._of_member.setdefault(member, set())
        if room in rooms:
            return False
        rooms.add(room)
        members = self.rooms.get(room)
        if members is None:
            members = self.rooms[room] = {}
            self._tell("create-room", room, None)
        members[member] = None
        self._tell("join-room", room, member)
        return True

    def leave(self, member: Member, room: str) -> bool:
        """Take a member out of a room; False if it is not in it."""
        rooms = self._of_member.get(member)
        if rooms is None or room not in rooms:
            return False
        rooms.discard(room)
        if not rooms:
            del self._of_member[member]
        self._drop(member, room)
        return True

    def leave_all(self, member: Member) -> set[str]:
        """Take a member out of every room; return the rooms it was in."""
        rooms = self._of_member.pop(member, set())
        for room in rooms:
            self._drop(member, room)
        return rooms

    def _drop(self, member: Member, room: str) -> None:
        members = self.rooms[room]
        del members[member]
        self._tell("leave-room", room, member)
        # Whoever was told may have taken out the last one.
        if not members and self.rooms.get(room) is members:
            del self.rooms[room]
            self._tell("delete-room", room, None)

    def _tell(self, event: RoomEvent, room: str, member: Member | None) -> None:
        if self._notice is not None:
            self._notice(event, room, member)

    def rooms_of(self, member: Member) -> Collection[str]:
        """Return the rooms of a member."""
        return self._of_member.get(member, ())

    def members(self, room: str) -> Collection[Member]:
        """Return the members of a room, in the order they joined."""
        return self.rooms.get(room, ())
