"""Prints how long the canaries' messages took, in the long form."""

from __future__ import annotations

import statistics

import pytest

from .arena import FLOOR, WORST


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the p99 before and during the attacks, and the worst of them."""
    if not WORST:
        return
    terminalreporter.section("Canaries")
    before = statistics.median(quiet for _, quiet, _ in WORST) * 1000
    during = statistics.median(loud for loud, _, _ in WORST) * 1000
    terminalreporter.write_line(
        f"p99 {before:.1f} ms before, {during:.1f} ms during an attack (medians of {len(WORST)})"
    )
    above = sum(loud > 2 * quiet for loud, quiet, _ in WORST)
    terminalreporter.write_line(
        f"{above} above twice the quiet value, all of them below {FLOOR * 1000:g} ms or failed"
    )
    for loud, quiet, name in sorted(WORST, reverse=True)[:10]:
        terminalreporter.write_line(f"{loud * 1000:8.1f} ms, {quiet * 1000:.1f} ms before: {name}")
