"""Run cases side by side, each in its own laboratory, and gather how they ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from .cases import Case, Outcome, Verdict
from .discovery import MOST_PATIENCE, discover
from .judgement import Judgement, judge
from .lab import open_lab
from .pulse import CALM, Pulse, watching
from .target import Fixture, Target
from .transcript import Transcript

CASE_TIMEOUT = 12.0
DEFAULT_WORKERS = 12
MAX_ATTEMPTS = 3

Progress = Callable[[Outcome], None]
OpenLab = Callable[[Transcript, int], AbstractAsyncContextManager[Any]]
"""Opens the laboratory of an attempt: 1, 2, 3."""


@dataclass(slots=True)
class Report:
    """The result of one run.

    Attributes:
        subject: What was judged: a URL, or the command of a client.
        role: `server` or `client`.
        started: When.
        seconds: How long it took.
        outcomes: One for each case, in the order of the catalogue.
        notes: What else a reader should know, such as the parts that the fixture has.
    """

    subject: str
    role: str
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, verdict: Verdict) -> int:
        """Count the cases that ended so."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes)

    @property
    def passed(self) -> bool:
        """Whether no case failed, and any was judged at all."""
        return not any(outcome.bad for outcome in self.outcomes) and self.count(Verdict.PASS) > 0

    def by_clause(self) -> dict[str, list[Outcome]]:
        """Group the outcomes by clause; a case stands at each of its clauses."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            for clause in outcome.case.clauses:
                groups.setdefault(clause, []).append(outcome)
        return groups


async def run_case(
    case: Case[Any], open_one: OpenLab, attempt: int = 1, timeout: float = CASE_TIMEOUT
) -> Outcome:
    """Run one case and return how it ended; never raises for what the other side, or the case, does."""
    transcript = Transcript()
    start = trio.current_time()
    found = Judgement(Verdict.PASS)
    with trio.move_on_after(timeout) as scope:
        try:
            async with open_one(transcript, attempt) as lab:
                await case.run(lab)
        except (Exception, BaseExceptionGroup) as error:
            found = judge(error)
    if scope.cancelled_caught:
        found = Judgement(Verdict.FAIL, f"not done within {timeout:g} s", True)
    outcome = Outcome(case, found.verdict, found.message, attempts=attempt, late=found.late)
    outcome.seconds = trio.current_time() - start
    if outcome.bad:
        outcome.wire, outcome.trace = transcript.result(), found.trace
    return outcome


class Run:
    """One run of many cases.

    A case that did not end well is tried again, alone and with more patience, if this machine or the peer was
    slow at the time: what came late then says nothing.

    Args:
        open_one: Opens the laboratory of an attempt.
        pulse: Knows what was slow.
        progress: Called with each outcome.
        timeout: Seconds for an attempt.
    """

    def __init__(
        self, open_one: OpenLab, pulse: Pulse, progress: Progress | None = None, timeout: float = CASE_TIMEOUT
    ) -> None:
        self.results: dict[str, Outcome] = {}
        self._open_one = open_one
        self._pulse = pulse
        self._progress = progress
        self._timeout = timeout
        self._again: list[Case[Any]] = []

    def done(self, outcome: Outcome) -> None:
        """Keep how a case ended."""
        self.results[outcome.case.id] = outcome
        if self._progress is not None:
            self._progress(outcome)

    async def beside_others(self, case: Case[Any]) -> None:
        """Run a case for the first time."""
        start = trio.current_time()
        outcome = await run_case(case, self._open_one, 1, self._timeout)
        if self._says_little(outcome, start):
            self._again.append(case)
        else:
            self.done(outcome)

    async def alone(self, cases: Iterable[Case[Any]]) -> None:
        """Run these cases, and then those that must be tried again, one after another."""
        for case in cases:
            await self._alone(case, 1)
        for case in self._again:
            await self._alone(case, 2)

    async def _alone(self, case: Case[Any], attempt: int) -> None:
        while True:
            await self._pulse.calm(within=attempt - 1)
            start = trio.current_time()
            outcome = await run_case(case, self._open_one, attempt, self._timeout)
            if attempt >= MAX_ATTEMPTS or not self._says_little(outcome, start):
                self.done(outcome)
                return
            attempt += 1

    def _says_little(self, outcome: Outcome, start: float) -> bool:
        if not outcome.bad:
            return False
        if self._pulse.late_since(start):
            return True
        # Where nobody watches the peer, one more try tells.
        return outcome.late and outcome.attempts == 1 and not self._pulse.sees_peer


async def run_cases(
    cases: Sequence[Case[Any]],
    open_one: OpenLab,
    *,
    lacks: Callable[[Case[Any]], str | None],
    pulse: Pulse,
    workers: int = DEFAULT_WORKERS,
    progress: Progress | None = None,
    timeout: float = CASE_TIMEOUT,
) -> list[Outcome]:
    """Run all cases, at most `workers` at a time; see `Run` for those that were disturbed."""
    run = Run(open_one, pulse, progress, timeout)
    possible: list[Case[Any]] = []
    for case in cases:
        missing = lacks(case)
        if missing is None:
            possible.append(case)
        else:
            run.done(Outcome(case, Verdict.SKIP, missing))
    await _in_parallel([case for case in possible if not case.alone], run.beside_others, workers)
    await run.alone(case for case in possible if case.alone)
    return [run.results[case.id] for case in cases]


async def _in_parallel(
    cases: Iterable[Case[Any]], one: Callable[[Case[Any]], Awaitable[None]], workers: int
) -> None:
    waiting = list(cases)[::-1]

    async def worker() -> None:
        while waiting:
            await one(waiting.pop())

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(worker)


async def judge_server(
    target: Target,
    *,
    only: Iterable[str] = (),
    workers: int = DEFAULT_WORKERS,
    patience: float | None = None,
    progress: Progress | None = None,
    begun: Callable[[int], None] | None = None,
) -> Report:
    """Judge a server.

    Args:
        target: Where it is.
        only: Starts of case ids or clauses; all cases, if empty.
        workers: How many cases run at a time.
        patience: Seconds within which what has to happen at once must have happened; None measures
            the server's echo and takes at least 150 ms.
        progress: Called with each outcome.
        begun: Called with the number of cases, before the first.

    Raises:
        OSError: Nobody listens there.
        Deviation: Not even an echo works, so that there is nothing to judge.
    """
    from .server_role import load_cases

    fixture = await discover(target, patience)
    cases = load_cases().chosen(only)
    report = Report(target.origin + target.path, "server", notes=_notes(fixture))
    if begun is not None:
        begun(len(cases))
    start = trio.current_time()
    async with watching(fixture.patience / 5, partial(_echo_for_ever, fixture)) as pulse:
        report.outcomes = await run_cases(
            cases,
            lambda transcript, attempt: open_lab(fixture, transcript, _patience(fixture, attempt)),
            lacks=lambda case: _reason_to_skip(fixture, case),
            pulse=pulse,
            workers=workers,
            progress=progress,
        )
    report.seconds = trio.current_time() - start
    return report


def _patience(fixture: Fixture, attempt: int) -> float:
    return max(fixture.patience, min(attempt * fixture.patience, MOST_PATIENCE))


async def _echo_for_ever(fixture: Fixture, pulse: Pulse) -> None:
    """Ask the server for echoes over a session of its own; a new one, if it ends."""
    while True:
        try:
            async with open_lab(fixture, Transcript(), fixture.patience) as lab:
                peer = await lab.member()
                await pulse.watch_peer(partial(peer.echo, "beat"))
        except (Exception, BaseExceptionGroup) as error:
            judge(
                error
            )  # an interrupt goes on, and the cases find out themselves what is wrong with the server
        await trio.sleep(CALM)


def _reason_to_skip(fixture: Fixture, case: Case[Any]) -> str | None:
    for need in sorted(case.needs):
        if not fixture.has(need):
            return f"the fixture lacks {need}"
    who = fixture.decided_elsewhere(case.id)
    return f"decided by {who}" if who else None


def _notes(fixture: Fixture) -> list[str]:
    parts = ", ".join(sorted(fixture.parts)) or "none"
    servers = ", ".join(sorted(fixture.also)) or "none"
    return [
        f"optional parts of the fixture: {parts}",
        f"further servers of the fixture: {servers}",
        f"patience: {fixture.patience * 1000:.0f} ms",
    ]
