"""Judges whether an attack has held others up: by the time of this program alone, not of the machine.

Attacker, canaries and broker share one thread, and other programs share the machine. So the clock here leaves
out the time in which this thread was ready to run and had no processor. What it waits for by itself within a
step, a blocking call for example, counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import CodeType
from typing import Any, NamedTuple

import hypercorn
import trio

import broker

FLOOR = 0.1
"""Seconds up to which a p99 passes, whatever it was before the attack.

What the attacker does in this thread holds up the canaries too: to build a megabyte of odd frames, or to
count all memory.
"""

LONGEST_STEP = 0.05
"""Seconds that a task of the broker may run until others have their turn, with a megabyte to parse too."""

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_OURS = tuple(str(Path(package.__file__).parent) for package in (broker, hypercorn))


class OwnClock:
    """Seconds, without those in which this thread waited for a processor; where Linux tells of them."""

    def __init__(self) -> None:
        self._file = os.open(_SCHEDSTAT, os.O_RDONLY) if _SCHEDSTAT.exists() else None

    def __call__(self) -> float:
        """Return the time."""
        if self._file is None:
            return perf_counter()
        waited = int(os.pread(self._file, 64, 0).split()[1])
        return perf_counter() - waited / 1e9

    def close(self) -> None:
        """Use it no more."""
        if self._file is not None:
            os.close(self._file)


class Steps(trio.abc.Instrument):
    """The longest step of a task of the broker, or of the HTTP server that works for it.

    Attributes:
        longest: Seconds it took.
        task: The name of the task.
    """

    def __init__(self, clock: OwnClock) -> None:
        self.begin()
        self._clock = clock
        self._began: float | None = None
        self._known: dict[CodeType, bool] = {}

    def begin(self) -> None:
        """Forget what was."""
        self.longest = 0.0
        self.task = ""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a step of the broker begins."""
        self._began = self._clock() if self._is_ours(task.coro) else None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note how long it took."""
        if self._began is not None and (took := self._clock() - self._began) > self.longest:
            self.longest, self.task = took, task.name

    def _is_ours(self, coroutine: Any) -> bool:
        code: CodeType | None = getattr(coroutine, "cr_code", None)
        if code is None:
            return False
        if code not in self._known:
            self._known[code] = code.co_filename.startswith(_OURS)
        return self._known[code]


class Outcome(NamedTuple):
    """What one attack has come to; all times are seconds.

    Attributes:
        during: The p99 of the canaries' messages during it.
        before: The p99 before it.
        step: The longest step of the broker.
        task: Whose step that was.
        test: The test.
    """

    during: float
    before: float
    step: float
    task: str
    test: str

    def check(self) -> None:
        """Hold that neither a message nor a step took too long."""
        assert self.step <= LONGEST_STEP, f"{self.task} has held up everybody for {self.step:.3f} s"
        assert self.during <= max(2 * self.before, FLOOR), (
            f"the p99 was {self.before:.3f} s before, {self.during:.3f} s during it"
        )


class Judge:
    """What canaries and steps took, in the phase that runs.

    Attributes:
        clock: What all of it is measured by.
        taken: Seconds that messages of the canaries took there and back.
        steps: The steps of the broker.
    """

    def __init__(self) -> None:
        self.clock = OwnClock()
        self.taken: list[float] = []
        self.steps = Steps(self.clock)

    def next_phase(self) -> list[float]:
        """Return what was taken so far, and begin anew."""
        taken, self.taken = self.taken, []
        self.steps.begin()
        return taken

    def outcome(self, quiet: list[float]) -> Outcome:
        """Return what the phase has come to.

        Args:
            quiet: What messages took before it.
        """
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2]
        return Outcome(p99(self.taken), p99(quiet), self.steps.longest, self.steps.task, test)


OUTCOMES: list[Outcome] = []
"""What the attacks of the long form have come to."""


def p99(times: list[float]) -> float:
    """Return the time that one in a hundred exceeds."""
    return sorted(times)[int(len(times) * 0.99)]


@contextmanager
def judging() -> Iterator[Judge]:
    """Judge this run of Trio, for the block."""
    judge = Judge()
    trio.lowlevel.add_instrument(judge.steps)
    try:
        yield judge
    finally:
        trio.lowlevel.remove_instrument(judge.steps)
        judge.clock.close()
