"""A clock that stands still while this process does, so that a busy machine makes no test late.

Nearly all tests have broker and clients in one process. Where they say that something comes within 0.4 s,
they mean the broker's time. When the machine gives the processor to somebody else for that long, all of it is
late together, and nothing is learnt. How exactly the broker keeps its times is held on clocks that jump.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import trio

_STEP = 0.02
"""The most seconds that pass from one look at the clock to the next; Trio looks in each of its turns."""
_NAP = 0.015
"""The most seconds until its next look while it waits; a cushion of `wait_all_tasks_blocked` must be less."""


class SteadyClock(trio.abc.Clock):
    """Goes like a real one while Trio's loop turns; of a time in which it does not, only a little counts."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._time = 10_000.0

    def start_clock(self) -> None:
        """Begin."""
        self._seen = perf_counter()

    def current_time(self) -> float:
        """Return the time, in seconds."""
        now = perf_counter()
        self._time += min(now - self._seen, _STEP)
        self._seen = now
        return self._time

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return how long to wait for a deadline, in one go."""
        return min(deadline - self.current_time(), _NAP)


def run_steady(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run as `trio.run` does, on such a clock unless another is given."""
    if options.get("clock") is None:
        options["clock"] = SteadyClock()
    return trio.run(partial(function, *args), **options)
