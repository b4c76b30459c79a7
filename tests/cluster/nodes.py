"""Starts what a cluster is made of: Redis, Socket.IO servers on Node, brokers of ours, and clients."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from broker import Broker, RedisAdapter, Server, Socket
from tests.programs import run_program

HERE = Path(__file__).resolve().parent
INTEROP = HERE.parent / "interop"
REDIS = shutil.which("redis-server")
NODE = shutil.which("node")
DEADLINE = 15.0

needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
needs_node = pytest.mark.skipif(
    NODE is None or not (INTEROP / "node_modules" / "@socket.io" / "redis-adapter").exists(),
    reason="Node.js or the packages of tests/interop are not installed",
)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- Redis -----------------------------------------------------------------------


@define
class RedisServer:
    """A Redis server of our own, without persistence; it can be killed, hung and started anew on its port."""

    port: int
    directory: Path
    options: tuple[str, ...] = ()
    process: trio.Process | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        assert REDIS is not None
        command = [
            REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self.directory), "--unixsocket", str(self.directory / "redis.sock"), *self.options,
        ]  # fmt: skip
        self.process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL)
        with trio.fail_after(DEADLINE):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    await trio.sleep(0.02)
                else:
                    await stream.aclose()
                    return

    async def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            await self.process.wait()
            self.process = None

    def hang(self) -> None:
        """Let it do nothing any more."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def ask(self, *parts: str) -> str:
        """Run one command with redis-cli; return what it prints."""
        cli = shutil.which("redis-cli") or "redis-cli"
        done = await run_program(
            [cli, "-p", str(self.port), *parts], capture_stdout=True, capture_stderr=True
        )
        return bytes(done.stdout).decode().strip()


@asynccontextmanager
async def redis_server(*options: str) -> AsyncIterator[RedisServer]:
    """Run a Redis server for the block."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(free_port(), Path(directory), options)
        try:
            await server.start()
            yield server
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await server.stop()


# -- Node ------------------------------------------------------------------------


@define(eq=False)
class NodeProcess:
    """A program on Node that takes a JSON request a line and answers each with a line."""

    process: trio.Process
    ready: Any = None
    _rest: bytes = b""
    _number: int = 0
    _answers: dict[int, Any] = field(factory=dict)
    _turn: trio.Lock = field(factory=trio.Lock)

    async def _line(self) -> Any:
        while b"\n" not in self._rest:
            assert self.process.stdout is not None
            data = await self.process.stdout.receive_some()
            if not data:
                raise EOFError("the program on Node has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def call(self, verb: str, *args: Any) -> Any:
        """Have it do something; return what it says of that.

        Raises:
            RuntimeError: It failed there.
        """
        self._number += 1
        request = json.dumps([self._number, verb, *args])
        with trio.fail_after(DEADLINE):
            async with self._turn:
                assert self.process.stdin is not None
                await self.process.stdin.send_all(request.encode() + b"\n")
                number, error, value = await self._line()
        assert number == self._number
        if error is not None:
            raise RuntimeError(error)
        return value


@asynccontextmanager
async def node_program(script: str, *args: str) -> AsyncIterator[NodeProcess]:
    """Run a program of this directory on Node for the block."""
    assert NODE is not None
    environment = {**os.environ, "NODE_PATH": str(INTEROP / "node_modules")}
    process = await trio.lowlevel.open_process(
        [NODE, str(HERE / script), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    program = NodeProcess(process)
    try:
        with trio.fail_after(DEADLINE):
            program.ready = await program._line()
        yield program
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()


# -- members, of either kind -------------------------------------------------------


@define(eq=False)
class Member:
    """A Socket.IO server in the cluster with the verbs that all have, whatever it is written in.

    Attributes:
        name: For messages of tests.
        url: Where it listens.
        do: Runs one of the verbs of `VERBS`, with plain values.
    """

    name: str
    url: str
    do: Callable[..., Awaitable[Any]]


def new_broker(adapter: RedisAdapter, name: str, **options: Any) -> Broker:
    """Make a broker with the handlers that the tests speak to; the same as in server.cjs."""
    broker = Broker(adapter=adapter, cors_allowed_origins="*", **options)
    broker.of("/chat")

    @broker.on("join")
    def join(socket: Socket, *rooms: str) -> str:
        socket.join(*rooms)
        return "joined"

    @broker.on_server_event("question")
    def question(value: Any) -> Any:
        return {"from": name, "got": value}

    @broker.on_server_event("note")
    def note(value: Any) -> None:
        broker.local.emit("noted", name, value)

    return broker


def broker_member(broker: Broker, server: Server, name: str) -> Member:
    """Give a broker of ours the verbs of the tests."""

    def chosen(rooms: list[str], excepted: list[str]) -> Any:
        return broker.to(*rooms).except_(*excepted)

    async def do(verb: str, *args: Any) -> Any:
        if verb == "emit":
            return chosen(*args[:2]).emit(*args[2:]).unpublished
        if verb == "emit_binary":
            return chosen(*args[:2]).emit(args[2], bytes(args[3])).unpublished
        if verb == "emit_chat":
            return broker.of("/chat").emit(*args).unpublished
        if verb == "fetch":
            found = await chosen(*args).fetch_sockets()
            return sorted([one.id, sorted(one.rooms), one.data] for one in found)
        if verb == "join":
            return await chosen(*args[:2]).sockets_join(*args[2])
        if verb == "leave":
            return await chosen(*args[:2]).sockets_leave(*args[2])
        if verb == "disconnect":
            return await chosen(*args[:2]).disconnect_sockets(args[2])
        if verb == "call":
            acks = await chosen(*args[:2]).call(*args[2:], timeout=5.0)
            assert acks.complete, acks
            return sorted(str(value) for _, value in acks.responses)
        if verb == "server_emit":
            return list(await broker.server_side_emit(*args))
        if verb == "server_call":
            return sorted(
                (one["from"], one["got"]) for one in await broker.server_side_emit(*args, timeout=5.0)
            )
        raise AssertionError(verb)

    return Member(name, server.url, do)


@asynccontextmanager
async def our_member(adapter: RedisAdapter, name: str, **options: Any) -> AsyncIterator[Member]:
    """Serve a broker of ours for the block."""
    broker = new_broker(adapter, name, **options)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(lambda task_status: broker.serve(port=0, task_status=task_status))
        yield broker_member(broker, server, name)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def node_member(redis: RedisServer, mode: str, name: str) -> AsyncIterator[Member]:
    """Serve Socket.IO on Node for the block."""
    async with node_program("server.cjs", mode, str(redis.port), name) as program:

        async def do(verb: str, *args: Any) -> Any:
            value = await program.call(verb, *args)
            if verb == "fetch":
                return sorted([one[0], sorted(one[1]), one[2]] for one in value)
            if verb == "server_call":
                return sorted((one["from"], one["got"]) for one in value)
            return sorted(map(str, value)) if verb == "call" else value

        yield Member(name, f"http://127.0.0.1:{program.ready['port']}", do)
