"""Two servers are replaced one after the other under load: official clients lose nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.programs import run_program

from .test_javascript import NODE
from .test_javascript import pytestmark as pytestmark  # node, and its clients, are needed here too

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRAIN_TIMEOUT = 10.0
PATIENCE = 60.0


class Switch:
    """What stands in front of the servers: newcomers go to the one in use, sessions to where they live."""

    def __init__(self) -> None:
        self.target = 0
        self._homes: dict[bytes, int] = {}

    async def serve(self, client: trio.SocketStream) -> None:
        """Carry one connection."""
        try:
            first = await client.receive_some()
            named = re.search(rb"[?&]sid=([\w-]+)", first)
            port = self._homes.get(named[1], self.target) if named else self.target
            async with (
                await trio.open_tcp_stream("127.0.0.1", port) as server,
                trio.open_nursery() as nursery,
            ):
                await server.send_all(first)
                nursery.start_soon(self._carry, client, server, None)
                await self._carry(server, client, port)
                nursery.cancel_scope.cancel()
        except* OSError:
            pass
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _carry(self, source: trio.SocketStream, sink: trio.SocketStream, port: int | None) -> None:
        async for data in source:
            for opened in re.finditer(rb'0\{"sid":"([\w-]+)"', data) if port is not None else ():
                self._homes[opened[1]] = port or 0
            await sink.send_all(data)
        await sink.send_eof()


class ServerProcess:
    """One `python -m broker serve`."""

    def __init__(self, process: trio.Process, port: int) -> None:
        self.port = port
        self._process = process

    @classmethod
    async def start(cls, nursery: trio.Nursery, record: Path) -> ServerProcess:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "broker", "serve", "tests.interop.rolling:broker"]
        command += ["--bind", "127.0.0.1:0", "--drain-timeout", f"{DRAIN_TIMEOUT:g}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ROLLING_RECORD": str(record)}
        process: trio.Process = await nursery.start(
            partial(run_program, command, check=False, env=environment, cwd=ROOT, stderr=subprocess.PIPE)
        )
        assert process.stderr is not None
        lines = Lines(process.stderr)
        async for line in lines:
            listening = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if listening:
                nursery.start_soon(drop, lines)
                return cls(process, int(listening[1]))
        raise AssertionError("the server did not start")

    async def restart(self, nursery: trio.Nursery, record: Path, switch: Switch, other: int) -> ServerProcess:
        """Replace it by a new one, while newcomers go to the other."""
        switch.target = other
        began = trio.current_time()
        self._process.send_signal(signal.SIGTERM)
        assert await self._process.wait() == 0
        assert trio.current_time() - began < DRAIN_TIMEOUT
        return await self.start(nursery, record)


class Lines:
    """The lines that a process writes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._rest = b""

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        while b"\n" not in self._rest:
            data = await self._stream.receive_some()
            if not data:
                raise StopAsyncIteration
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


async def drop(lines: Lines) -> None:
    async for _ in lines:
        pass


class Clients:
    """The official clients, in a process of their own."""

    def __init__(self) -> None:
        self.connected: Counter[str] = Counter()
        self.told: list[dict[str, Any]] = []
        self.acked = 0
        self._changed = trio.Event()

    async def listen(self, output: trio.abc.ReceiveStream) -> None:
        """Note what they tell."""
        async for line in Lines(output):
            told = json.loads(line)
            self.told = told.get("told", self.told)
            self.acked = told.get("acked", self.acked)
            self.connected.update([told["connected"]] if "connected" in told else [])
            self._changed.set()
            self._changed = trio.Event()

    async def wait_acked(self, least: int) -> None:
        """Wait until all together have so many events acknowledged."""
        while self.acked < least:
            await self._changed.wait()

    async def wait_connected(self, times: int) -> None:
        """Wait until all six have connected so often."""
        while len(self.connected) < 6 or min(self.connected.values()) < times:
            await self._changed.wait()


async def test_a_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    record = tmp_path / "handled"
    switch, clients = Switch(), Clients()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            first = await ServerProcess.start(nursery, record)
            second = await ServerProcess.start(nursery, record)
            switch.target = first.port
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, switch.serve, [listener])
            port = listener.socket.getsockname()[1]
            command = [NODE or "node", str(HERE / "rolling.js"), f"http://127.0.0.1:{port}"]
            node: trio.Process = await nursery.start(
                partial(run_program, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            assert node.stdin is not None
            assert node.stdout is not None
            nursery.start_soon(clients.listen, node.stdout)
            await clients.wait_connected(1)
            await clients.wait_acked(100)
            first = await first.restart(nursery, record, switch, second.port)
            await clients.wait_connected(2)
            await clients.wait_acked(300)
            second = await second.restart(nursery, record, switch, first.port)
            await clients.wait_connected(3)
            await clients.wait_acked(500)
            await node.stdin.aclose()
            assert await node.wait() == 0
            nursery.cancel_scope.cancel()
    check(clients.told, record)


def check(told: list[dict[str, Any]], record: Path) -> None:
    """Hold that each event was acknowledged with its own answer, and handled once."""
    lines = Counter(record.read_text().splitlines())
    assert len(told) == 6
    for client in told:
        assert client["wrong"] == [], client
        assert client["connects"] == 3, client
        expected = {f"{client['name']} {number}" for number in range(client["acked"])}
        assert expected <= lines.keys(), client
        # Stock clients came back by themselves, and were sent away by no DISCONNECT.
        assert "io server disconnect" not in client["reasons"], client
    # A drain sends the acks of all that it has handled, so nothing had to be sent twice.
    assert [line for line, times in lines.items() if times > 1] == []
    assert sum(lines.values()) == sum(client["acked"] for client in told)
