"""A report on the terminal: progress while it runs, then what failed, clause by clause."""

from __future__ import annotations

from typing import TextIO

from broker.conformance.cases import Outcome, Verdict
from broker.conformance.clauses import load_clauses
from broker.conformance.runner import Report

WIDTH = 30
MAX_WIRE = 14


class Terminal:
    """Writes progress and result.

    Args:
        out: Where to.
        live: Whether it is a terminal, on which a line can be written again.
    """

    def __init__(self, out: TextIO, *, live: bool) -> None:
        self._out = out
        self._live = live
        self._total = 0
        self._done = 0
        self._counts = dict.fromkeys(Verdict, 0)

    def begin(self, total: int) -> None:
        """Tell how many cases there are."""
        self._total = total

    def progress(self, outcome: Outcome) -> None:
        """Tell how one case ended."""
        self._done += 1
        self._counts[outcome.verdict] += 1
        if not self._live:
            return
        filled = WIDTH * self._done // max(self._total, 1)
        bar = "#" * filled + "." * (WIDTH - filled)
        bad = self._counts[Verdict.FAIL] + self._counts[Verdict.ERROR]
        counts = f"{bad} failed, {self._counts[Verdict.SKIP]} skipped"
        self._out.write(f"\r[{bar}] {self._done}/{self._total}  {counts}  {outcome.case.id:.38}\x1b[K")
        self._out.flush()

    def finish(self, report: Report) -> None:
        """Tell the result."""
        if self._live:
            self._out.write("\r\x1b[K")
        clauses = load_clauses()
        for outcome in report.outcomes:
            if not outcome.bad:
                continue
            first = clauses.get(outcome.case.clauses[0])
            about = f"{outcome.case.clauses[0]} ({first.title})" if first else outcome.case.clauses[0]
            tries = f"  ({outcome.attempts} attempts)" if outcome.attempts > 1 else ""
            self._out.write(f"\n{outcome.verdict.upper()}  {about}  {outcome.case.id}{tries}\n")
            self._out.write(f"      {outcome.case.title}\n      {outcome.message}\n")
            for line in outcome.wire[-MAX_WIRE:]:
                self._out.write(f"        {line[:160]}\n")
            if outcome.verdict is Verdict.ERROR:
                for line in outcome.trace:
                    self._out.write(f"        | {line}\n")
        self._skipped(report)
        self._out.write(f"\n{report.subject} ({report.role} role), {report.seconds:.1f} s\n")
        for note in report.notes:
            self._out.write(f"{note}\n")
        self._out.write(f"{self._clauses(report)}\n")
        again = sum(outcome.attempts > 1 for outcome in report.outcomes)
        if again:
            self._out.write(
                f"{again} cases were tried again, because this machine or the peer was slow meanwhile\n"
            )
        errors = report.count(Verdict.ERROR)
        self._out.write(
            f"{report.count(Verdict.PASS)} passed, {report.count(Verdict.FAIL)} failed, "
            f"{report.count(Verdict.SKIP)} skipped{f', {errors} errors of the kit' if errors else ''}\n"
        )

    def _skipped(self, report: Report) -> None:
        reasons: dict[str, int] = {}
        for outcome in report.outcomes:
            if outcome.verdict is Verdict.SKIP:
                reasons[outcome.message] = reasons.get(outcome.message, 0) + 1
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            self._out.write(f"SKIP  {count} cases: {reason}\n")

    def _clauses(self, report: Report) -> str:
        groups = report.by_clause()
        failing = [clause for clause, outcomes in groups.items() if any(outcome.bad for outcome in outcomes)]
        untried = sum(all(one.verdict is Verdict.SKIP for one in outcomes) for outcomes in groups.values())
        text = f"{len(groups) - len(failing) - untried} of {len(groups)} clauses held"
        text += f", {untried} not tried" if untried else ""
        return text + (f"; failing: {', '.join(failing)}" if failing else "")
