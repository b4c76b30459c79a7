"""Prints how long the canaries' messages took, in the long form."""

from __future__ import annotations

import statistics

import pytest

from .judge import FLOOR, LONGEST_STEP, OUTCOMES, Outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the p99 before and during the attacks, the longest steps, and the worst of them."""
    if not OUTCOMES:
        return
    terminalreporter.section("Canaries, in time of this program alone")
    before = statistics.median(one.before for one in OUTCOMES) * 1000
    during = statistics.median(one.during for one in OUTCOMES) * 1000
    step = statistics.median(one.step for one in OUTCOMES) * 1000
    terminalreporter.write_line(
        f"p99 {before:.1f} ms before, {during:.1f} ms during an attack, longest step of the broker "
        f"{step:.1f} ms (medians of {len(OUTCOMES)})"
    )
    above = sum(one.during > 2 * one.before for one in OUTCOMES)
    terminalreporter.write_line(
        f"{above} above twice the quiet value; a p99 passes up to {FLOOR * 1000:g} ms, "
        f"a step up to {LONGEST_STEP * 1000:g} ms"
    )
    worst = [*sorted(OUTCOMES, reverse=True)[:8], *sorted(OUTCOMES, key=_step, reverse=True)[:8]]
    for one in dict.fromkeys(worst):
        times = f"{one.during * 1000:8.1f} ms, {one.before * 1000:.1f} ms before"
        terminalreporter.write_line(f"{times}, step {one.step * 1000:.1f} ms: {one.test}")


def _step(outcome: Outcome) -> float:
    return outcome.step
