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
        counts = f"{self._counts[Verdict.FAIL]} failed, {self._counts[Verdict.SKIP]} skipped"
        self._out.write(f"\r[{bar}] {self._done}/{self._total}  {counts}  {outcome.case.id:.38}\x1b[K")
        self._out.flush()

    def finish(self, report: Report) -> None:
        """Tell the result."""
        if self._live:
            self._out.write("\r\x1b[K")
        clauses = load_clauses()
        failed = [outcome for outcome in report.outcomes if outcome.verdict is Verdict.FAIL]
        for outcome in failed:
            first = clauses.get(outcome.case.clauses[0])
            about = f"{outcome.case.clauses[0]} ({first.title})" if first else outcome.case.clauses[0]
            self._out.write(f"\nFAIL  {about}  {outcome.case.id}\n")
            self._out.write(f"      {outcome.case.title}\n      {outcome.message}\n")
            for line in outcome.wire[-MAX_WIRE:]:
                self._out.write(f"        {line[:160]}\n")
        self._skipped(report)
        self._out.write(f"\n{report.subject} ({report.role} role), {report.seconds:.1f} s\n")
        for note in report.notes:
            self._out.write(f"{note}\n")
        self._out.write(f"{self._clauses(report)}\n")
        passed, failures, skipped = (report.count(verdict) for verdict in Verdict)
        self._out.write(f"{passed} passed, {failures} failed, {skipped} skipped\n")

    def _skipped(self, report: Report) -> None:
        reasons: dict[str, int] = {}
        for outcome in report.outcomes:
            if outcome.verdict is Verdict.SKIP:
                reasons[outcome.message] = reasons.get(outcome.message, 0) + 1
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            self._out.write(f"SKIP  {count} cases: {reason}\n")

    def _clauses(self, report: Report) -> str:
        groups = report.by_clause()
        failing = [
            clause
            for clause, outcomes in groups.items()
            if any(outcome.verdict is Verdict.FAIL for outcome in outcomes)
        ]
        kept = len(groups) - len(failing)
        text = f"{kept} of {len(groups)} clauses without a failure"
        return text + (f"; failing: {', '.join(failing)}" if failing else "")
