"""Which string at the end of an event is the offset that a recovery goes on from.

A server with connection state recovery appends an offset to some events, those that are not volatile and ask
for no ack. The wire does not mark it. The reference's client takes any string at the end of any event for it,
so one volatile event that ends in a string makes the next recovery fail without a word. Here an event that
asks for an ack is never looked at, and once an offset of a known form was seen, only that form counts: the
known forms hold a time, which text and other ids do not.
"""

from __future__ import annotations

import re
from typing import Any

_YEAST_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
_YEAST = re.compile(r"([0-9A-Za-z_-]{7})(?:\.[0-9A-Za-z_-]{1,6})?")  # Node's adapter in memory
_STREAM_ID = re.compile(r"([0-9]{13})-[0-9]{1,10}")  # Redis streams
_OBJECT_ID = re.compile(r"([0-9a-f]{8})[0-9a-f]{16}")  # MongoDB
_NEAR = 86_400.0  # seconds; clocks that differ by more find no form and fall back to any string


class OffsetTracker:
    """The offset of one namespace.

    Attributes:
        offset: The offset to ask for; None before the first.
    """

    __slots__ = ("_form", "offset")

    def __init__(self) -> None:
        self.offset: str | None = None
        self._form: str | None = None

    def note(self, args: list[Any], ack_id: int | None, wall_clock: float) -> bool:
        """Look for an offset at the end of an event.

        Args:
            args: The arguments of the event.
            ack_id: The id it asks for an ack with, if it does.
            wall_clock: Seconds since 1970.

        Returns:
            Whether the last argument is for certain an offset, and no argument of the application.
        """
        if ack_id is not None or not args or not isinstance(args[-1], str):
            return False
        last = args[-1]
        form = form_of_offset(last, wall_clock)
        if form is None:
            # Without a better one, as the reference does: a wrong offset is no worse there than none.
            if self._form is None:
                self.offset = last
            return False
        if self._form is not None and form != self._form:
            return False
        self._form = form
        self.offset = last
        return True

    def forget(self) -> None:
        """Begin anew, with another session of the server."""
        self.offset = self._form = None


def form_of_offset(text: str, wall_clock: float) -> str | None:
    """Return the name of the form of an offset, None if it has no known one or is not of this time."""
    if len(text) > 32:
        return None
    if match := _YEAST.fullmatch(text):
        seconds = _yeast_number(match[1]) / 1000
        return "yeast" if abs(seconds - wall_clock) < _NEAR else None
    if match := _STREAM_ID.fullmatch(text):
        return "stream" if abs(int(match[1]) / 1000 - wall_clock) < _NEAR else None
    if match := _OBJECT_ID.fullmatch(text):
        return "object" if abs(int(match[1], 16) - wall_clock) < _NEAR else None
    return None


def _yeast_number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 64 + _YEAST_DIGITS.index(digit)
    return number
