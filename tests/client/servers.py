"""The three servers that the client is tried against: ours, Node's and python-socketio's, behaving alike."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from broker import Broker, ConnectRefused, Namespace, Socket
from tests.programs import run_program

HERE = Path(__file__).parent
NODE = shutil.which("node")
HAS_NODE = NODE is not None and (HERE.parent / "interop/node_modules/socket.io").is_dir()
DEADLINE = 15.0

needs_node = [
    pytest.mark.node,
    pytest.mark.skipif(not HAS_NODE, reason="node, or tests/interop/node_modules, is missing: `make setup`"),
]

Serving = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def child(
    command: list[str], port: int, record: Path | None, options: dict[str, Any]
) -> AsyncIterator[str]:
    """Run a server in a process of its own; yields its URL."""
    given = json.dumps({"port": port, "record": str(record), "options": options})
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            lambda task_status: run_program(
                [*command, given],
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                check=False,
                task_status=task_status,
            )
        )
        said = b""
        with trio.fail_after(DEADLINE):
            while not said.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, "the server ended before it said its port"
                said += chunk
        try:
            yield f"http://127.0.0.1:{int(said)}"
        finally:
            process.kill()  # no goodbye: clients see the connection break
            with trio.CancelScope(shield=True), trio.move_on_after(DEADLINE):
                await process.wait()
            nursery.cancel_scope.cancel()


def node_server(
    port: int = 0, record: Path | None = None, **options: Any
) -> AbstractAsyncContextManager[str]:
    return child([str(NODE), str(HERE / "node_server.cjs")], port, record, options)


def python_server(
    port: int = 0, record: Path | None = None, **options: Any
) -> AbstractAsyncContextManager[str]:
    return child([sys.executable, str(HERE / "python_server.py")], port, record, options)


@asynccontextmanager
async def our_server(port: int = 0, record: Path | None = None, **options: Any) -> AsyncIterator[str]:
    broker = make_broker(record, **options)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(broker.serve, "127.0.0.1", port)
        try:
            yield server.url
        finally:
            nursery.cancel_scope.cancel()


def make_broker(record: Path | None = None, **options: Any) -> Broker:
    broker = Broker(**options)
    chat = broker.of("/chat")
    _behave(broker, record)
    _behave(chat, record)

    @chat.use
    async def authenticate(socket: Socket) -> None:
        if socket.handshake.auth.get("token") != "s3cret":
            raise ConnectRefused("invalid token", data={"retry": False})

    return broker


def _behave(namespace: Broker | Namespace, record: Path | None) -> None:
    @namespace.on("echo")
    async def echo(socket: Socket, *args: Any) -> Any:
        return args

    @namespace.on("say")
    async def say(socket: Socket, *args: Any) -> None:
        socket.emit("said", *args)

    @namespace.on("ask", concurrency=8)
    async def ask(socket: Socket, value: Any) -> None:
        answer = await socket.call("question", value)
        socket.emit("answered", *(answer if isinstance(answer, tuple) else (answer,)))

    @namespace.on("silent", concurrency=8)
    async def silent(socket: Socket) -> None:
        await trio.sleep_forever()

    @namespace.on("leave")
    async def leave(socket: Socket) -> None:
        socket.disconnect()

    @namespace.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect(close=True)

    @namespace.on("handshake")
    async def handshake(socket: Socket) -> Any:
        shaken = socket.handshake
        return dict(shaken.auth), dict(shaken.query), dict(shaken.headers)

    @namespace.on("record")
    async def note(socket: Socket, value: Any) -> Any:
        assert record is not None
        with record.open("a") as file:
            file.write(f"{value}\n")
        return value


SERVERS: dict[str, Serving] = {"ours": our_server, "node": node_server, "python-socketio": python_server}
EACH_SERVER = [
    pytest.param(our_server, id="ours"),
    pytest.param(node_server, id="node", marks=needs_node),
    pytest.param(python_server, id="python-socketio"),
]
