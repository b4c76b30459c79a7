"""Offsets and who an event was for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import DisconnectReason
from protocol.recovery import RECOVERABLE, START, Offset, Stay, is_addressed, next_offset, parse_offset

NUMBERS = st.integers(0, 10**15 - 1)


@given(NUMBERS, NUMBERS)
def test_offsets_are_read_as_they_are_written(milliseconds: int, sequence: int) -> None:
    offset = Offset(milliseconds, sequence)
    assert parse_offset(str(offset)) == offset


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-1-1",
        "01-1",
        "1-01",
        " 1-1",
        "1-1\n",
        "+1-1",
        "٣-٣",
        "1.0-1",
        "1" * 16 + "-1",
        5,
        None,
        b"1-1",
    ],
)
def test_what_is_no_offset(text: object) -> None:
    assert parse_offset(text) is None


def test_offsets_grow_whatever_the_clock_does() -> None:
    offset = START
    for now in (5, 5, 7, 3, 7, 8):
        before, offset = offset, next_offset(offset, now)
        assert offset > before
    assert offset == Offset(8, 0)
    assert next_offset(Offset(7, 1), 7) == Offset(7, 2)


def stays(*all_stays: Stay) -> dict[str, list[Stay]]:
    found: dict[str, list[Stay]] = {}
    for stay in all_stays:
        found.setdefault(stay.room, []).append(stay)
    return found


@pytest.mark.parametrize(
    ("at", "rooms", "except_rooms", "wanted"),
    [
        (5, (), (), True),
        (5, ("r",), (), True),
        (5, ("r", "none"), (), True),
        (5, ("none",), (), False),
        (5, (), ("r",), False),
        (5, ("own",), ("r",), False),
        (5, (), ("none",), True),
        (2, ("r",), (), False),
        (3, ("r",), (), True),
        (6, ("r",), (), True),
        (7, ("r",), (), False),
        (7, (), ("r",), True),
        (9, ("r",), (), True),
        (1, ("own",), (), True),
    ],
)
def test_who_an_event_was_for(
    at: int, rooms: tuple[str, ...], except_rooms: tuple[str, ...], wanted: bool
) -> None:
    known = stays(Stay("own", START), Stay("r", Offset(2, 0), Offset(6, 0)), Stay("r", Offset(8, 0)))
    assert is_addressed(Offset(at, 0), rooms, except_rooms, known) is wanted


def test_what_ends_on_purpose_is_never_kept() -> None:
    assert DisconnectReason.CLIENT_NAMESPACE_DISCONNECT not in RECOVERABLE
    assert DisconnectReason.SERVER_NAMESPACE_DISCONNECT not in RECOVERABLE
    assert DisconnectReason.PARSE_ERROR not in RECOVERABLE
    assert DisconnectReason.TRANSPORT_CLOSE in RECOVERABLE
