"""Run the official JavaScript clients against real brokers: each of their tests is one here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trio

from tests.programs import run_program

from .server import Stage, run_stage

HERE = Path(__file__).parent
NODE = shutil.which("node")
TRANSPORTS = ("polling", "websocket", "upgrade")
FILES = sorted(HERE.glob("*.test.js"))
TIME_LIMIT = 60.0
SOAK = "upgrading.test.js"
ROUNDS = int(os.environ.get("BROKER_SOAK", "3"))

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (HERE / "node_modules" / "socket.io-client").is_dir(),
        reason="tests/interop/node_modules is missing: `make setup` or `npm ci --prefix tests/interop`",
    ),
]


@dataclass(frozen=True)
class Outcome:
    """What became of one test."""

    failure: str | None
    skipped: str | None


@dataclass(frozen=True)
class Run:
    """One run of node over one file."""

    outcomes: dict[str, Outcome]
    output: str


def names_in(path: Path) -> Iterator[str]:
    """Return the names of the tests in a file, without running it."""
    if path.name != SOAK:
        yield from re.findall(r'^check\("([^"]+)"', path.read_text(), re.MULTILINE)


CASES = [
    pytest.param(path, transport, name, id=f"{path.name.removesuffix('.test.js')}-{transport}-{name}")
    for path in FILES
    for transport in TRANSPORTS
    for name in names_in(path)
]
_runs: dict[tuple[Path, str], Run] = {}


async def run_file(path: Path, transport: str) -> Run:
    """Run one file against fresh brokers."""
    command = [NODE or "node", "--test-reporter=junit", str(path)]
    with tempfile.TemporaryFile() as log:  # keeps what there is if node has to be killed
        async with trio.open_nursery() as nursery:
            stage: Stage = await nursery.start(run_stage)
            environment = {**os.environ, **stage.environment(), "BROKER_TRANSPORT": transport}
            with trio.move_on_after(max(TIME_LIMIT, 5.0 * ROUNDS)):
                await run_program(
                    command, check=False, env=environment, cwd=HERE, stdout=log, stderr=subprocess.STDOUT
                )
            nursery.cancel_scope.cancel()
        log.seek(0)
        output = log.read().decode(errors="replace")
    return Run(dict(_read_junit(output)), output)


def _read_junit(output: str) -> Iterator[tuple[str, Outcome]]:
    """Read the reporter's XML; what tests print stands before and behind it."""
    found = re.search(r"<testsuites>.*</testsuites>", output, re.DOTALL)
    if found is None:
        return
    for case in ElementTree.fromstring(found[0]).iter("testcase"):
        failure = case.find("failure")
        skipped = case.find("skipped")
        yield (
            case.get("name", ""),
            Outcome(
                None if failure is None else f"{failure.get('message')}\n{failure.text}",
                None if skipped is None else skipped.get("message") or "skipped",
            ),
        )


def judge(run: Run, name: str) -> None:
    """Fail or skip as the test did."""
    outcome = run.outcomes.get(name)
    if outcome is None:
        pytest.fail(f"{name!r} did not run:\n{run.output}", pytrace=False)
    if outcome.failure is not None:
        pytest.fail(outcome.failure, pytrace=False)
    if outcome.skipped is not None:
        pytest.skip(outcome.skipped)


@pytest.mark.parametrize(("path", "transport", "name"), CASES)
async def test_javascript(path: Path, transport: str, name: str) -> None:
    if (path, transport) not in _runs:
        _runs[path, transport] = await run_file(path, transport)
    judge(_runs[path, transport], name)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ten_thousand_events_through_the_upgrade(transport: str) -> None:
    run = await run_file(HERE / SOAK, transport)
    rounds = ROUNDS if transport == "upgrade" else 1
    assert len(run.outcomes) == rounds, run.output
    for name in run.outcomes:
        judge(run, name)
