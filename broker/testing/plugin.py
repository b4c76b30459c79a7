"""The pytest plugin: the fixtures of the harness, a clock that jumps, transcripts of failed tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

_FIXTURES = frozenset({"harness", "harness_factory"})
_TITLE = "wire transcript"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--wire-transcripts`."""
    parser.getgroup("broker").addoption(
        "--wire-transcripts",
        metavar="DIR",
        help="save the wire transcripts of failed tests there, for broker.testing.replay",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line("markers", "real_clock: run a test with the harness on the real clock")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that ask for the harness on a clock that jumps, with pytest-trio."""
    for item in items:
        if _FIXTURES & set(getattr(item, "fixturenames", ())) and not item.get_closest_marker("real_clock"):
            item.add_marker(pytest.mark.trio(run=run_virtual), append=False)


def run_virtual(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run as `trio.run` does, on a clock that jumps: for `pytest.mark.trio(run=run_virtual)`."""
    import trio
    from trio.testing import MockClock

    if options.get("clock") is None:
        options["clock"] = MockClock(autojump_threshold=0)
    return trio.run(partial(function, *args), **options)


@pytest.fixture
def harness_factory() -> Any:
    """Return `open_harness`."""
    from broker.testing.harness import open_harness

    return open_harness


@pytest.fixture
async def harness(request: pytest.FixtureRequest) -> Any:
    """Open a harness around the broker of the fixture `broker`, or a new one with the default settings."""
    from broker import Broker
    from broker.testing.harness import open_harness

    try:
        broker = request.getfixturevalue("broker")
    except pytest.FixtureLookupError:
        broker = Broker()
    async with open_harness(broker) as opened:
        yield opened


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget the transcripts of the test before."""
    _transcripts().clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the transcripts to the report of a failed test."""
    report = yield
    if report.failed:
        for number, transcript in enumerate(_transcripts(), 1):
            if transcript.total:
                report.sections.append((_TITLE, transcript.pretty()))
                _save(item, number, transcript)
    return report


def _save(item: pytest.Item, number: int, transcript: Any) -> None:
    folder = item.config.getoption("--wire-transcripts")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-")
        transcript.save(Path(folder) / f"{name}-{number}.jsonl")


def _transcripts() -> list[Any]:
    import sys

    harness = sys.modules.get("broker.testing.harness")  # a test that has not imported it has none
    return [] if harness is None else harness.transcripts
