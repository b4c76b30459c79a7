"""A real server of several processes, and what its log says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30.0
"""Seconds within which processes must start and end: generous, since machines are busy."""


@define
class ServerProcess:
    """A supervisor with its workers.

    Attributes:
        process: The supervisor.
        log: The records that it and its workers have written so far.
        port: Where they listen.
    """

    process: trio.Process
    log: list[dict[str, Any]] = field(factory=list)
    port: int = 0
    _new: trio.Event = field(factory=trio.Event)
    _ended: bool = False

    async def hear(self) -> None:
        """Read the log until the end."""
        rest = b""
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            self.log += [_record(line) for line in lines]
            self._tell()
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        self._new.set()
        self._new = trio.Event()

    async def logged(self, pattern: str, times: int = 1) -> list[dict[str, Any]]:
        """Wait until so many records match; return them."""
        with trio.fail_after(DEADLINE):
            while True:
                found = [record for record in self.log if re.search(pattern, record["message"])]
                if len(found) >= times:
                    return found
                assert not self._ended, f"no {pattern!r} in {self.log}"
                await self._new.wait()

    def pids(self) -> dict[int, int]:
        """Return the process id of each worker, as it said last."""
        found: dict[int, int] = {}
        for record in self.log:
            if match := re.fullmatch(r"ready, process (\d+)", record["message"]):
                found[record["worker"]] = int(match[1])
        return found

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the supervisor; return its exit code."""
        self.process.send_signal(number)
        with trio.fail_after(DEADLINE):
            return await self.process.wait()


def _record(line: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"message": line.decode(errors="replace")}
    return record


@asynccontextmanager
async def started(
    target: str = "tests.workers.application:broker", *options: str, workers: int = 2
) -> AsyncIterator[ServerProcess]:
    """Start a server on a free port; at the end it is killed if it is still there."""
    command = [sys.executable, "-m", "broker", "serve", target, "--workers", str(workers)]
    command += ["--log-format", "json", "--bind", "127.0.0.1:0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stderr=subprocess.PIPE, cwd=str(ROOT), env=environment
        )
        server = ServerProcess(process)
        nursery.start_soon(server.hear)
        try:
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + DEADLINE):
                await process.wait()


@asynccontextmanager
async def serving_processes(*options: str, workers: int = 2) -> AsyncIterator[ServerProcess]:
    """Start a server and wait until it listens."""
    async with started("tests.workers.application:broker", *options, workers=workers) as server:
        (record,) = await server.logged(r"listening on \S+ with")
        match = re.search(r"https?://127.0.0.1:(\d+)", record["message"])
        assert match is not None
        server.port = int(match[1])
        yield server


async def gone(pid: int) -> None:
    """Wait until there is no such process, or only what is left of one that nobody has reaped."""
    with trio.fail_after(DEADLINE):
        while _is_running(pid):  # noqa: ASYNC110 - it is no child of this process, so nothing tells
            await trio.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
