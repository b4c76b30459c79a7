"""One task that calls functions at times of their own; for those of one length there is `Countdown`."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf

import trio

_FEW = 64  # cancelled alarms that are not worth a sweep


class Alarm:
    """A call that is to come; `cancel` takes it back."""

    __slots__ = ("_alarms", "action")

    def __init__(self, alarms: Alarms, action: Callable[[], None]) -> None:
        self._alarms = alarms
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Take it back; does nothing if it has gone off or was taken back before."""
        if self.action is not None:
            self.action = None
            self._alarms.note_cancelled()


class Alarms:
    """The alarms of one broker, served while it is open."""

    __slots__ = ("_cancelled", "_heap", "_numbers", "_sleep")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = count()  # alarms of the same time go off in the order they were set
        self._cancelled = 0
        self._sleep: trio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def set(self, due: float, action: Callable[[], None]) -> Alarm:
        """Have `action` called at `due`, in seconds of Trio's clock; it must not block or raise."""
        alarm = Alarm(self, action)
        heapq.heappush(self._heap, (due, next(self._numbers), alarm))
        if self._sleep is not None and due < self._sleep.deadline:
            self._sleep.deadline = due
        return alarm

    def note_cancelled(self) -> None:
        """Forget the cancelled ones before they outnumber the others: one may set and cancel for ever."""
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Serve the alarms until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else inf) as self._sleep:
                await trio.sleep_forever()
            self._fire(trio.current_time())

    def _fire(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            alarm = heapq.heappop(self._heap)[2]
            action, alarm.action = alarm.action, None
            if action is None:
                self._cancelled -= 1
            else:
                action()
