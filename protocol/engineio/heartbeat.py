"""When to ping which session and when to give it up; for all sessions of a broker at once.

All sessions share one interval and one timeout, so two dictionaries in insertion order are already sorted by
due time: opening, ping, pong and expiry each cost O(1), and one task serves them all. They are OrderedDicts,
since a plain dict that loses its first entries is searched past the holes for the next one.
Spec: EIO-HB-1 to EIO-HB-4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class HeartbeatSchedule(Generic[Key]):
    """Due times of pings and pongs.

    Args:
        interval: Seconds from a PONG (or the opening) to the next PING.
        timeout: Seconds from a PING to the end of a session that has shown no life.
    """

    __slots__ = ("_interval", "_ping_due", "_pong_due", "_timeout")

    def __init__(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping_due: OrderedDict[Key, float] = OrderedDict()
        self._pong_due: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ping_due) + len(self._pong_due)

    def open(self, key: Key, now: float) -> None:
        """Schedule the next ping of a new or suspended session; what was scheduled before falls."""
        self.suspend(key)
        self._ping_due[key] = now + self._interval

    def alive(self, key: Key, now: float) -> None:
        """Note other traffic: it lifts a running deadline, but puts off no ping. Spec: EIO-HB-3."""
        if self._pong_due.pop(key, None) is not None:
            self._ping_due[key] = now + self._interval

    def extend(self, key: Key, now: float) -> None:
        """Give an expired session the timeout once more. Spec: EIO-HB-9."""
        self.suspend(key)
        self._pong_due[key] = now + self._timeout

    def pong(self, key: Key, now: float) -> None:
        """Note a PONG: the deadline falls, the interval starts again. Spec: EIO-HB-5."""
        known = self._pong_due.pop(key, None)
        if known is None:
            known = self._ping_due.pop(key, None)
        if known is not None:
            self._ping_due[key] = now + self._interval

    def suspend(self, key: Key) -> None:
        """Hold no deadline against a session whose input the broker itself does not read."""
        self._ping_due.pop(key, None)
        self._pong_due.pop(key, None)

    def close(self, key: Key) -> None:
        """Forget a session."""
        self.suspend(key)

    def take_due(self, now: float) -> tuple[list[Key], list[Key]]:
        """Take out what is due.

        Returns:
            The sessions to ping, whose pong deadline is now armed, and those that have expired.
        """
        expired = _take(self._pong_due, now)
        to_ping = _take(self._ping_due, now)
        for key in to_ping:
            self._pong_due[key] = now + self._timeout
        return to_ping, expired

    def next_deadline(self) -> float:
        """Return the earliest due time, infinity if there is none."""
        return min(_first(self._ping_due), _first(self._pong_due))


def _first(due: OrderedDict[Key, float]) -> float:
    return next(iter(due.values()), inf)


def _take(due: OrderedDict[Key, float], now: float) -> list[Key]:
    taken: list[Key] = []
    for key, at in due.items():
        if at > now:
            break
        taken.append(key)
    for key in taken:
        del due[key]
    return taken
