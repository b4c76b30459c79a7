"""The plugin in a pytest of its own: fixtures, the clock, the report of a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS = """
import time
import trio
import pytest
from broker import Broker

@pytest.fixture
def broker():
    broker = Broker(ping_interval=1_000)
    broker.on("hi")(lambda socket: "there")
    return broker

async def test_passes(harness):
    client = await harness.connect()
    start = trio.current_time()
    await trio.sleep(10_000)
    await client.acked("hi", answer="there")

async def test_fails(harness):
    client = await harness.connect()
    await client.acked("hi", answer="nobody")

@pytest.mark.real_clock
async def test_real(harness):
    client = await harness.connect(transport="polling")
    await client.acked("hi", answer="there")
    with pytest.raises(RuntimeError):
        harness.step_clock(1)

async def test_without(harness_factory):
    async with harness_factory(Broker()) as harness:
        await harness.connect()
"""

# An installation brings the plugin as an entry point; a bare checkout does not.
CONFTEST = """
from importlib.metadata import entry_points

_PLUGIN = "broker.testing.plugin"
pytest_plugins = [] if any(one.value == _PLUGIN for one in entry_points(group="pytest11")) else [_PLUGIN]
"""


def test_a_project_of_its_own(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--wire-transcripts", "wires", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "wire transcript" in done.stdout
    assert '#1 > 430["there"]' in done.stdout
    [saved] = (tmp_path / "wires").iterdir()
    assert saved.name == "test_it.py-test_fails-1.jsonl"
