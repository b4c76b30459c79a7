"""Rooms and memberships, both ways, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.rooms.index import RoomIndex


def told() -> tuple[RoomIndex[str], list[tuple[str, str, str | None]]]:
    events: list[tuple[str, str, str | None]] = []
    return RoomIndex(lambda *event: events.append(event)), events


def test_168_each_event_is_told_once() -> None:
    index, events = told()
    assert index.join("a", "r")
    assert index.join("b", "r")
    assert not index.join("a", "r")
    assert events == [("create-room", "r", None), ("join-room", "r", "a"), ("join-room", "r", "b")]
    events.clear()
    assert index.leave("a", "r")
    assert not index.leave("a", "r")
    assert events == [("leave-room", "r", "a")]
    events.clear()
    index.join("b", "s")
    assert index.leave_all("b") == {"r", "s"}
    assert index.leave_all("b") == set()
    assert sorted(events[2:]) == [
        ("delete-room", "r", None),
        ("delete-room", "s", None),
        ("leave-room", "r", "b"),
        ("leave-room", "s", "b"),
    ]
    assert index.rooms == {}


@pytest.mark.parametrize("leave", [RoomIndex.leave, lambda index, member, _: index.leave_all(member)])
def test_a_listener_may_empty_the_room(leave: Callable[..., Any]) -> None:
    told: list[tuple[str, str | None]] = []

    def notice(event: str, room: str, member: str | None) -> None:
        told.append((event, member))
        if (event, member) == ("leave-room", "host"):
            index.leave("guest", room)

    index: RoomIndex[str] = RoomIndex(notice)
    index.join("host", "table")
    index.join("guest", "table")
    told.clear()
    leave(index, "host", "table")
    assert told == [("leave-room", "host"), ("leave-room", "guest"), ("delete-room", None)]
    assert index.rooms == {}


def test_members_keep_the_order_of_joining() -> None:
    index: RoomIndex[str] = RoomIndex()
    for member, room in (("b", "r"), ("a", "r"), ("c", "s"), ("a", "s")):
        index.join(member, room)
    assert list(index.members("r")) == ["b", "a"]
    assert list(index.members("nowhere")) == []
    assert sorted(index.rooms_of("a")) == ["r", "s"]
    assert list(index.rooms_of("nobody")) == []
