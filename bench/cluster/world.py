"""What a figure of the cluster runs on: Redis, nodes of ours and on Node, each a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from bench.hold.service import Service, running
from bench.hold.wire import Gone, Line
from bench.processes import ROOT, MeasureError
from tests.programs import run_program

NODE_MODULES = ROOT / "tests" / "interop" / "node_modules"


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        short: Whether this is the form for tests: seconds, and no bounds on speed.
    """

    short: bool = False

    def full_or(self, full: int, short: int) -> int:
        """Choose an amount."""
        return short if self.short else full


@contextmanager
def node(url: str, mode: str, key: str = "socket.io", **options: Any) -> Iterator[Service]:
    """Run a node of ours."""
    chosen = {"url": url, "mode": mode, "key": key, **options}
    with running([sys.executable, "-m", "bench.cluster.node", json.dumps(chosen)]) as service:
        yield service


@contextmanager
def on_node(script: str, *arguments: str) -> Iterator[Service]:
    """Run a program on Node that says its port and then obeys; `script` is a path in the project."""
    command = ["env", f"NODE_PATH={NODE_MODULES}", "node", str(ROOT / script), *arguments]
    with running(command) as service:
        yield service


async def until(holds: Callable[[], bool], seconds: float, otherwise: str) -> float:
    """Wait; return how many seconds it took.

    Raises:
        MeasureError: It did not come true in time.
    """
    began = trio.current_time()
    with trio.move_on_after(seconds):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.02)
    if not holds():
        raise MeasureError(otherwise)
    return trio.current_time() - began


async def is_ready(port: int) -> bool:
    """Ask a node whether it wants clients."""
    line = await Line.open(port)
    try:
        with trio.fail_after(5):
            await line.ask("GET", "/socket.io/readyz")
    except Gone:
        return False
    finally:
        line.close()
    return True


async def until_ready(port: int, ready: bool, seconds: float) -> float:
    """Wait until a node is ready, or is not; return how many seconds it took.

    Raises:
        MeasureError: It did not happen in time.
    """
    began = trio.current_time()
    with trio.move_on_after(seconds):
        while await is_ready(port) is not ready:  # noqa: ASYNC110 - another process
            await trio.sleep(0.02)
        return trio.current_time() - began
    raise MeasureError(f"a node was not {'ready' if ready else 'out of touch'} after {seconds:g} s")


async def serve(
    arguments: Sequence[str], port: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run Python with these arguments until cancelled; it is started when it listens at the port."""
    nowhere = subprocess.DEVNULL
    run = partial(run_program, [sys.executable, *arguments], stderr=nowhere, stdout=nowhere, cwd=ROOT)
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        await until_listening(port)
        task_status.started()


async def until_listening(port: int) -> None:
    """Wait until a port takes connections."""
    with trio.fail_after(20):
        while True:
            try:
                (await Line.open(port)).close()
                return
            except OSError:
                await trio.sleep(0.05)


def missing_packages() -> list[str]:
    """Return what the figures need and what is not installed."""
    missing = [tool for tool in ("redis-server", "redis-cli", "node") if shutil.which(tool) is None]
    if not (NODE_MODULES / "@socket.io" / "redis-adapter").exists():
        missing.append("the packages of tests/interop (npm ci)")
    return missing


def run(play: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
    """Run an asynchronous figure, for so long at most."""

    async def bounded() -> Any:
        with trio.fail_after(seconds):
            return await play(*arguments)

    try:
        return trio.run(bounded)
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from None
