"""Builds, starts and ends the processes of a measurement; every wait has a deadline."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
ROOT = HERE.parent
BIN = HERE / "bin"

BUILD_TIMEOUT = 120.0
NPM_TIMEOUT = 300.0
START_TIMEOUT = 20.0
END_TIMEOUT = 3.0

COMMANDS: dict[str, list[str]] = {
    "limit": [str(BIN / "limit")],
    "node": ["node", str(HERE / "node" / "server.js")],
    "python-socketio": [sys.executable, "-m", "bench.servers.python_socketio"],
    "ours": [sys.executable, "-m", "bench.servers.ours"],
    "client-peer": ["node", str(HERE / "node" / "client_peer.js")],
}
"""By server; the port is appended."""

# Below the range of ports that the kernel gives to outgoing connections, so that none of the
# generator's is in the way.
# Each process begins elsewhere, so that two of them at once rarely try the same one.
_ports = itertools.cycle(range(21_000 + os.getpid() * 37 % 7_000, 29_000))


class MeasureError(Exception):
    """A measurement that gave no value; says why."""


# -- set-up --------------------------------------------------------------------------------------


def build() -> None:
    """Compile the generator and the limit into ``bench/bin``.

    Raises:
        MeasureError: if there is no compiler or it fails.
    """
    BIN.mkdir(exist_ok=True)
    for name in ("sioload", "limit"):
        source, target = HERE / "load" / f"{name}.c", BIN / name
        flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
        _run_tool(["cc", *flags, "-o", str(target), str(source)], BUILD_TIMEOUT, ROOT)


def install_node_packages() -> None:
    """Run ``npm ci`` for Node's server, unless what is pinned is there already.

    Raises:
        MeasureError: if npm is missing or fails.
    """
    folder = HERE / "node"
    pinned = json.loads((folder / "package.json").read_text())["dependencies"]["socket.io"]
    installed = folder / "node_modules" / "socket.io" / "package.json"
    if installed.exists() and json.loads(installed.read_text())["version"] == pinned:
        return
    _run_tool(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund"], NPM_TIMEOUT, folder)


def _run_tool(command: Sequence[str], timeout: float, folder: Path) -> None:
    with tempfile.TemporaryFile("w+") as output:
        with child(command, folder, stdout=output, stderr=output) as process:
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise MeasureError(f"{command[0]} took longer than {timeout:g} s") from None
        if status:
            output.seek(0)
            raise MeasureError(f"{command[0]} failed:\n{output.read().strip()}")


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, for the children too; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


# -- children ------------------------------------------------------------------------------------


@contextlib.contextmanager
def child(
    command: Sequence[str],
    folder: Path,
    *,
    stdout: IO[str] | int,
    stderr: IO[str],
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[str]]:
    """Start a process in a group of its own, and end the group on exit, whatever happens.

    The group keeps a terminal's Ctrl-C from the children: they are ended here, in order.
    """
    environment = {**os.environ, "NODE_ENV": "production", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise MeasureError(f"{command[0]} is not installed") from None
    try:
        yield process
    finally:
        _end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _end(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            continue
        return


@dataclass(frozen=True)
class Server:
    """A running server under test."""

    process: subprocess.Popen[str]
    port: int
    errors: IO[str]

    def resident_kib(self) -> int:
        """Return the resident memory of the process."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
        raise MeasureError("the kernel does not tell the server's memory")

    def waited_ns(self) -> int:
        """Return how long the main thread has been ready to run but had to wait for its core."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1])

    def check_alive(self) -> None:
        """Raise ``MeasureError`` if the server has ended."""
        status = self.process.poll()
        if status is not None:
            said = last_line(self.errors)
            raise MeasureError(f"the server ended with status {status}{said and ': ' + said}")


def last_line(file: IO[str]) -> str:
    """Return the last line with text in a file, shortened."""
    file.seek(0)
    lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    return lines[-1].replace(f"{ROOT}/", "")[:200] if lines else ""


@contextlib.contextmanager
def running_server(name: str, cpu: int) -> Iterator[Server]:
    """Start a server on one core, wait until it accepts connections, end it on exit.

    Raises:
        MeasureError: if it ends or does not accept within ``START_TIMEOUT``.
    """
    port = free_port()
    command = ["taskset", "-c", str(cpu), *COMMANDS[name], str(port)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        child(command, ROOT, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        server = Server(process, port, errors)
        wait_until_accepting(server)
        yield server


def free_port() -> int:
    """Return a port that nobody listens at.

    Raises:
        MeasureError: if there is none.
    """
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise MeasureError("no free port")


def wait_until_accepting(server: Server) -> None:
    """Wait until a server accepts connections.

    Raises:
        MeasureError: if it ends or does not within ``START_TIMEOUT``.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise MeasureError(f"the server did not accept a connection within {START_TIMEOUT:g} s")


# -- the generator -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generator:
    """A running load generator; it says JSON, a line at a time."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def next_line(self, timeout: float) -> dict[str, Any]:
        """Return the next line it prints.

        Raises:
            MeasureError: if none comes in time, or it ends without one.
        """
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise MeasureError(f"the load generator said nothing for {timeout:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise MeasureError(f"the load generator failed: {last_line(self.errors)}")
        said: dict[str, Any] = json.loads(line)
        return said


@contextlib.contextmanager
def running_generator(arguments: Sequence[str], port: int, cpu: int) -> Iterator[Generator]:
    """Start the load generator on one core; end it on exit."""
    command = ["taskset", "-c", str(cpu), str(BIN / "sioload"), "-p", str(port), *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        child(command, ROOT, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        yield Generator(process, errors)


def missing_tools() -> list[str]:
    """Return the programs needed by every measurement that are not installed."""
    return [tool for tool in ("cc", "taskset") if shutil.which(tool) is None]
