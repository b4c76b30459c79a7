"""One task that serves every deadline of a broker that has the same length for everybody.

A task with a deadline for each connection costs 3 KiB each; here a session costs one dictionary entry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import Generic, TypeVar

import trio

from protocol.engineio.heartbeat import HeartbeatSchedule

Key = TypeVar("Key", bound=Hashable)


class Countdown(Generic[Key]):
    """Deadlines that all lie the same time ahead when they are set, so that insertion order is due order."""

    __slots__ = ("_due", "_on_due", "_timeout", "_timers")

    def __init__(self, timers: Timers[Key], timeout: float, on_due: Callable[[Key], None]) -> None:
        self._timers = timers
        self._timeout = timeout
        self._on_due = on_due
        self._due: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def start(self, key: Key) -> None:
        """Set or restart the deadline of `key`."""
        self._due.pop(key, None)
        due = self._due[key] = trio.current_time() + self._timeout
        self._timers.notice(due)

    def stop(self, key: Key) -> None:
        """Forget the deadline of `key`."""
        self._due.pop(key, None)

    def fire(self, now: float) -> None:
        """Call `on_due` for all that are due."""
        while self._due:
            key, due = next(iter(self._due.items()))
            if due > now:
                return
            del self._due[key]
            self._on_due(key)

    def next_deadline(self) -> float:
        """Return the earliest due time, infinity if there is none."""
        return next(iter(self._due.values()), inf)


class Timers(Generic[Key]):
    """The heartbeat of all sessions, and any number of countdowns.

    Args:
        ping_interval: Seconds between a pong and the next ping.
        ping_timeout: Seconds a peer may be silent after a ping.
        on_ping: Sends a ping; must not block.
        on_expired: Ends a silent session, or returns True to give it the timeout once more; must not block.
    """

    def __init__(
        self,
        ping_interval: float,
        ping_timeout: float,
        on_ping: Callable[[Key], None],
        on_expired: Callable[[Key], bool],
    ) -> None:
        self._heartbeat: HeartbeatSchedule[Key] = HeartbeatSchedule(ping_interval, ping_timeout)
        self._on_ping = on_ping
        self._on_expired = on_expired
        self._countdowns: list[Countdown[Key]] = []
        self._sleep: trio.CancelScope | None = None

    def countdown(self, timeout: float, on_due: Callable[[Key], None]) -> Countdown[Key]:
        """Add a kind of deadline of `timeout` seconds; `on_due` must not block."""
        countdown: Countdown[Key] = Countdown(self, timeout, on_due)
        self._countdowns.append(countdown)
        return countdown

    def open(self, key: Key) -> None:
        """Begin the heartbeat of a session. Spec: EIO-HB-1."""
        self._heartbeat.open(key, trio.current_time())
        self.notice(self._heartbeat.next_deadline())

    def pong(self, key: Key) -> None:
        """Note a pong. Spec: EIO-HB-2."""
        self._heartbeat.pong(key, trio.current_time())
        self.notice(self._heartbeat.next_deadline())

    def alive(self, key: Key) -> None:
        """Note another sign of life: it lifts a deadline, and puts no ping off. Spec: EIO-HB-3."""
        self._heartbeat.alive(key, trio.current_time())
        self.notice(self._heartbeat.next_deadline())

    def suspend(self, key: Key) -> None:
        """Hold no deadline against a session for now; `open` begins anew."""
        self._heartbeat.suspend(key)

    def close(self, key: Key) -> None:
        """Forget a session."""
        self._heartbeat.close(key)
        for countdown in self._countdowns:
            countdown.stop(key)

    def notice(self, due: float) -> None:
        """Wake in time for a new deadline."""
        if self._sleep is not None and due < self._sleep.deadline:
            self._sleep.deadline = due

    async def run(self) -> None:
        """Serve the deadlines until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._next_deadline()) as self._sleep:
                await trio.sleep_forever()
            self._fire(trio.current_time())

    def _next_deadline(self) -> float:
        deadlines = [countdown.next_deadline() for countdown in self._countdowns]
        return min([self._heartbeat.next_deadline(), *deadlines])

    def _fire(self, now: float) -> None:
        to_ping, expired = self._heartbeat.take_due(now)
        for key in expired:
            if self._on_expired(key):
                self._heartbeat.extend(key, now)
        for key in to_ping:
            self._on_ping(key)
        for countdown in self._countdowns:
            countdown.fire(now)
