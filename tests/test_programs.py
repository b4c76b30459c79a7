"""A program that does not end when it is asked to does not hold a test up."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import pytest
import trio

from broker.conformance.client_role import lab
from tests.programs import run_program

DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"deaf")
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("program", "number"), [(DEAF, signal.SIGKILL), (DEAF.replace("SIG_IGN", "SIG_DFL"), signal.SIGTERM)]
)
async def test_a_program_is_ended_when_its_task_is_cancelled(monkeypatch, program, number):
    monkeypatch.setattr(lab, "END_TIMEOUT", 0.3)
    run = partial(run_program, [sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run)
            assert await process.stdout.receive_some() == b"deaf"
            nursery.cancel_scope.cancel()
    assert process.returncode == -number
