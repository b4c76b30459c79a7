"""Run cases side by side, each in its own laboratory, and gather how they ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from .cases import Case, Deviation, Late, Outcome, Skip, Verdict
from .lab import open_lab
from .target import Fixture, Target
from .transcript import Transcript

CASE_TIMEOUT = 12.0
DEFAULT_WORKERS = 12

Progress = Callable[[Outcome], None]
OpenLab = Callable[[Transcript], AbstractAsyncContextManager[Any]]


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
        return self.count(Verdict.FAIL) == 0 and self.count(Verdict.PASS) > 0

    def by_clause(self) -> dict[str, list[Outcome]]:
        """Group the outcomes by clause; a case stands at each of its clauses."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            for clause in outcome.case.clauses:
                groups.setdefault(clause, []).append(outcome)
        return groups


async def run_case(
    case: Case[Any], open_one: OpenLab, missing: str | None = None, timeout: float = CASE_TIMEOUT
) -> Outcome:
    """Run one case and return how it ended; never raises for what the other side does."""
    if missing is not None:
        return Outcome(case, Verdict.SKIP, missing)
    transcript = Transcript()
    start = trio.current_time()
    late = False
    verdict, message = Verdict.PASS, ""
    with trio.move_on_after(timeout) as scope:
        try:
            async with open_one(transcript) as lab:
                await case.run(lab)
        except BaseExceptionGroup as group:
            verdict, message, late = _judge(group)
        except Exception as error:
            verdict, message, late = _judge(error)
    if scope.cancelled_caught:
        verdict, message, late = Verdict.FAIL, f"not done within {timeout:g} s", True
    outcome = Outcome(case, verdict, message, [], trio.current_time() - start)
    if verdict is Verdict.FAIL:
        outcome.wire = transcript.result()
        outcome.attempts = -1 if late else 1
    return outcome


def _judge(error: BaseException) -> tuple[Verdict, str, bool]:
    while isinstance(error, BaseExceptionGroup):
        found = [one for one in error.exceptions if not isinstance(one, trio.Cancelled)]
        if not found:
            raise error
        error = found[0]
    if isinstance(error, Skip):
        return Verdict.SKIP, str(error), False
    if isinstance(error, Deviation):
        return Verdict.FAIL, str(error), isinstance(error, Late)
    if isinstance(error, OSError):
        return Verdict.FAIL, f"cannot connect: {error}", True
    if isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError)):
        return Verdict.FAIL, "the connection broke", True
    if isinstance(error, (ValueError, KeyError, IndexError, TypeError, AttributeError)):
        return Verdict.FAIL, f"what the peer sent has another shape: {type(error).__name__}: {error}", False
    raise error


async def run_cases(
    cases: Sequence[Case[Any]],
    open_one: OpenLab,
    *,
    lacks: Callable[[Case[Any]], str | None],
    workers: int = DEFAULT_WORKERS,
    progress: Progress | None = None,
    timeout: float = CASE_TIMEOUT,
) -> list[Outcome]:
    """Run all cases, at most `workers` at a time.

    A case that failed because something came too late is tried once more, alone: the machine may have been
    busy with the others.
    """
    results: dict[str, Outcome] = {}

    def done(outcome: Outcome) -> None:
        results[outcome.case.id] = outcome
        if progress is not None:
            progress(outcome)

    async def one(case: Case[Any]) -> None:
        missing = lacks(case)
        outcome = await run_case(case, open_one, missing, timeout)
        if outcome.attempts == -1:
            again.append(case)
        else:
            done(outcome)

    again = [case for case in cases if case.alone]
    await _in_parallel([case for case in cases if not case.alone], one, workers)
    first_try = {case.id for case in again if case.alone}
    for case in again:
        missing = lacks(case)
        outcome = await run_case(case, open_one, missing, timeout)
        if outcome.attempts == -1 and case.id in first_try:
            outcome = await run_case(case, open_one, missing, timeout)
        outcome.attempts = 1 if case.id in first_try and outcome.verdict is not Verdict.FAIL else 2
        done(outcome)
    return [results[case.id] for case in cases]


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
    from .discovery import discover
    from .server_role import load_cases

    fixture = await discover(target, patience)
    cases = load_cases().chosen(only)
    report = Report(target.origin + target.path, "server", notes=_notes(fixture))
    if begun is not None:
        begun(len(cases))
    start = trio.current_time()
    report.outcomes = await run_cases(
        cases,
        lambda transcript: open_lab(fixture, transcript),
        lacks=lambda case: _reason_to_skip(fixture, case),
        workers=workers,
        progress=progress,
    )
    report.seconds = trio.current_time() - start
    return report


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
