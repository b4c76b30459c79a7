"""Counts the verdicts of the WebSocket cases, and prints them at the end of the run."""

from __future__ import annotations

from collections import Counter

import pytest

from .dsl import FULL

_VERDICTS: dict[str, Counter[str]] = {}
_TIMES: dict[str, float] = {}


@pytest.fixture
def verdicts(request: pytest.FixtureRequest) -> dict[str, Counter[str]]:
    """Return the counts by place: `socket`, `stream`, `session`, `declined`."""
    return _VERDICTS


@pytest.fixture
def times() -> dict[str, float]:
    """Return seconds by case, of group 9."""
    return _TIMES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases came out strict, non-strict and failed, and in the long form the times."""
    if not _VERDICTS:
        return
    terminalreporter.section("WebSocket cases")
    for place, counts in _VERDICTS.items():
        words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("strict", "non-strict", "failed"))
        terminalreporter.write_line(f"{place:<10} {words}")
    if FULL:
        for case, seconds in _TIMES.items():
            terminalreporter.write_line(f"{case:<24} {seconds:8.3f} s")
