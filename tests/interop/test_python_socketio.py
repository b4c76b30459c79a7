"""Run python-socketio's two clients, in a process of their own, against real brokers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from .server import Stage, run_stage

pytest.importorskip("socketio", reason="python-socketio is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from tests.programs import run_program

from .python_client import CHECKS, KINDS, TRANSPORTS

PROGRAM = Path(__file__).with_name("python_client.py")
TIME_LIMIT = 120.0

# The synchronous client speaks HTTP by `requests` and WebSocket by `websocket-client`.
WAYS = [(kind, transport) for kind in KINDS for transport in TRANSPORTS]


@dataclass(frozen=True)
class Run:
    """What a run printed: a failure or None for each check, and the rest."""

    failures: dict[str, str | None]
    output: str


_runs: dict[tuple[str, str], Run] = {}


async def run_client(kind: str, transport: str) -> Run:
    """Run all checks with one client over one transport."""
    with tempfile.TemporaryFile() as log:
        async with trio.open_nursery() as nursery:
            stage: Stage = await nursery.start(run_stage)
            pairs = [f"{name}={url}" for name, url in vars(stage).items()]
            command = [sys.executable, str(PROGRAM), kind, transport, *pairs]
            with trio.move_on_after(TIME_LIMIT):
                await run_program(command, check=False, stdout=log, stderr=subprocess.STDOUT)
            nursery.cancel_scope.cancel()
        log.seek(0)
        output = log.read().decode(errors="replace")
    told = [json.loads(line) for line in output.splitlines() if line.startswith('{"name"')]
    return Run({one["name"]: one["failure"] for one in told}, output)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(("kind", "transport"), WAYS)
async def test_python_socketio(kind: str, transport: str, name: str) -> None:
    if kind == "Client":
        pytest.importorskip("requests", reason="requests is not installed")
        pytest.importorskip("websocket", reason="websocket-client is not installed")
    if (kind, transport) not in _runs:
        _runs[kind, transport] = await run_client(kind, transport)
    run = _runs[kind, transport]
    if name not in run.failures:
        pytest.fail(f"{name} did not run:\n{run.output}", pytrace=False)
    failure = run.failures[name]
    if failure is not None:
        pytest.fail(f"{failure}\n{run.output}", pytrace=False)
