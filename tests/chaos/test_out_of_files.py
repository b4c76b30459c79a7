"""X28: without a descriptor left a server goes on with those it has, and takes others when one is free."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest
import trio

from bench import processes
from bench.hold.service import running_service
from bench.hold.wire import ENGINE, Line

needs = pytest.mark.skipif(
    not hasattr(resource, "prlimit") or bool(processes.missing_tools()), reason="needs Linux and taskset"
)
pytestmark = needs
PATIENCE = 10.0


def _cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def _join(port: int) -> Line:
    line = await Line.open(port)
    await line.upgrade(f"{ENGINE}&transport=websocket")
    await line.read_text()
    await line.send_text("40")
    await line.read_text()
    return line


async def _echo(line: Line) -> None:
    await line.send_text('421["echo",1]')
    with trio.fail_after(PATIENCE):
        assert await line.read_text() == "431[1]"


async def test_no_descriptor_left() -> None:
    assert sys.platform == "linux"
    with running_service(0, transports=["websocket"]) as service:
        spare = 5
        files = service.ask("figures")["files"]
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (files + spare, files + spare))
        with trio.fail_after(3 * PATIENCE):
            inside = [await _join(service.port) for _ in range(spare - 1)]
            outside = [await Line.open(service.port) for _ in range(6)]
            for line in outside:  # the kernel has accepted them, the server cannot
                await line.send(b"")
            used, began = _cpu_seconds(service.process.pid), time.monotonic()
            for _ in range(20):
                for line in inside:
                    await _echo(line)
                await trio.sleep(0.02)
            used = _cpu_seconds(service.process.pid) - used
            assert used < 0.5 * (time.monotonic() - began), "it accepts in vain all the time"
            for line in [*inside, *outside]:
                line.close()
            again = await _join(service.port)
            await _echo(again)
            again.close()
