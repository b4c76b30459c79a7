"""Serve this broker as the conformance fixture: `python -m tests.conformance.servers.ours`.

Prints one line, the URL of the main server, and serves until standard input ends.
"""

from __future__ import annotations

import argparse
import logging
import re
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from trio_websocket import serve_websocket

from broker import AckTimeout, Broker, ConnectRefused, Disconnected, EventError, Recovery, Socket, TooManyAcks
from broker.server.neighbours import Neighbours
from protocol import Limits
from protocol.engineio.owner import Owner
from tests.conformance.servers.ways import ELSEWHERE, TRANSPORTS

PARTS = [
    "broadcast",
    "broadcast-call",
    "burst",
    "call",
    "dynamic",
    "fail",
    "guarded",
    "handshake",
    "kick",
    "reasons",
    "slow",
    "slow-echo",
    "volatile",
]
Urls = dict[str, str]
Serve = Callable[..., Awaitable[None]]


def make_broker(urls: Urls, way: str, drain: Callable[[], None] | None = None, **options: Any) -> Broker:
    """Make one broker of the fixture."""
    broker = Broker(
        **{
            "ping_interval": 0.3,
            "ping_timeout": 0.2,
            "connect_timeout": 1.0,
            "max_payload_bytes": 1_000_000,
            "cors_allowed_origins": "*",
            **options,
        }
    )
    reasons: dict[str, str] = {}
    made = broker.of(re.compile(r"^/made-\d$"))
    for namespace in (broker.of("/"), broker.of("/custom"), broker.of("/slow"), broker.of("/guarded"), made):
        _add_base(namespace, reasons)
    _add_parts(broker, reasons)
    _add_calls(broker)

    @broker.on("conformance")
    def conformance(socket: Socket) -> dict[str, Any]:
        return {"parts": PARTS, "also": urls, "elsewhere": ELSEWHERE[way], "transports": TRANSPORTS[way]}

    @broker.on("drain")
    def drain_now(socket: Socket) -> None:
        if drain is not None:
            drain()

    @broker.of("/slow").use
    async def hesitate(socket: Socket) -> None:
        await trio.sleep(0.1)
        if socket.handshake.auth.get("refuse"):
            raise ConnectRefused("refused")

    @broker.of("/guarded").use
    def guard(socket: Socket) -> None:
        if socket.handshake.auth.get("token") != "s3cret":
            raise ConnectRefused("invalid token", data={"retry": False})

    return broker


def _add_base(namespace: Any, reasons: dict[str, str]) -> None:
    @namespace.on("connect")
    def connect(socket: Socket) -> None:
        socket.emit("auth", dict(socket.handshake.auth))

    @namespace.on("message")
    def message(socket: Socket, *args: Any) -> None:
        socket.emit("message-back", *args)

    @namespace.on("message-with-ack")
    def message_with_ack(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @namespace.on("kick")
    def kick(socket: Socket, close: bool) -> None:
        socket.disconnect(close)

    @namespace.on("disconnect")
    def gone(socket: Socket, reason: Any) -> None:
        reasons[socket.id] = str(reason)


def _add_parts(broker: Broker, reasons: dict[str, str]) -> None:
    @broker.on("reason-of")
    def reason_of(socket: Socket, socket_id: str) -> list[Any]:
        return (reasons.get(socket_id),)  # type: ignore[return-value]

    @broker.on("handshake")
    def handshake(socket: Socket) -> dict[str, Any]:
        headers = dict(socket.handshake.headers)
        return {"fruit": socket.handshake.query.get("fruit"), "header": headers.get("x-fruit")}

    @broker.on("burst")
    def burst(socket: Socket, count: int) -> None:
        for number in range(count):
            socket.emit("number", number)

    @broker.on("letters")
    def letters(socket: Socket, size: int) -> None:
        socket.emit("letters", "x" * size)

    @broker.on("volatile")
    def volatile(socket: Socket, *args: Any) -> None:
        socket.volatile.emit("volatile-back", *args)

    @broker.on("shout")
    def shout(socket: Socket, *args: Any) -> None:
        broker.to("watchers").emit("shouted", *args)

    @broker.on("join")
    def join(socket: Socket, room: str) -> None:
        socket.join(room)

    @broker.on("slow-echo")
    async def slow_echo(socket: Socket, milliseconds: float, *args: Any) -> tuple[Any, ...]:
        await trio.sleep(milliseconds / 1000)
        socket.emit("slow-back", *args)
        return args

    @broker.on("fail")
    def fail(socket: Socket) -> None:
        raise EventError("not_found", "no such job")

    @broker.on("fail-with-data")
    def fail_with_data(socket: Socket) -> None:
        raise EventError("not_found", "no such job", data={"retry": [1, None]})

    @broker.on("fail-internally")
    def fail_internally(socket: Socket) -> None:
        raise RuntimeError("sentinel: secret text")


def _add_calls(broker: Broker) -> None:
    async def ask(socket: Socket, *args: Any, timeout: float = 5.0) -> None:
        try:
            answer = await socket.call("question", *args, timeout=timeout)
        except AckTimeout:
            socket.emit("no-answer")
        except TooManyAcks:
            socket.emit("too-many")
        else:
            socket.emit("answer", *([list(answer)] if isinstance(answer, tuple) else [[answer]]))

    @broker.on("ask-me")
    async def ask_me(socket: Socket, *args: Any) -> None:
        answer = await socket.call("question", *args, timeout=5.0)
        if isinstance(answer, bytes):
            socket.emit("answer", answer)
        else:
            socket.emit("answer", list(answer) if isinstance(answer, tuple) else [answer])

    @broker.on("ask-me-briefly")
    async def ask_me_briefly(socket: Socket) -> None:
        await ask(socket, timeout=0.1)

    @broker.on("ask-me-beside", concurrency=32)
    async def ask_me_beside(socket: Socket, *args: Any) -> None:
        await ask(socket, *args)

    @broker.on("ask-me-tell-all")
    async def ask_me_tell_all(socket: Socket, name: str) -> None:
        async def wait() -> None:
            try:
                await socket.call("question", timeout=20.0)
            except Disconnected:
                broker.to("watchers").emit("shouted", f"{name} gone")

        try:
            await wait()
        except trio.Cancelled:
            broker.to("watchers").emit("shouted", f"{name} gone")
            raise

    @broker.on("ask-room")
    async def ask_room(socket: Socket, room: str) -> None:
        async def gather() -> None:
            acks = await broker.to(room).timeout(3.0).call("question")
            socket.emit("answers", [value for _, value in acks.responses])

        socket.start_soon(gather)


def refuse_if_told(request: Any) -> Any:
    """Refuse a handshake with the header X-Refuse."""
    message = dict(request.headers).get("x-refuse")
    return message or True


BOUNDED = Limits(
    packets_per_payload=64,
    assembly_timeout=0.3,
    body_timeout=0.3,
    header_timeout=0.3,
    namespaces_per_session=2,
    outstanding_acks=4,
    inbox_messages=8,
    pause_timeout=1.0,
    dynamic_namespaces=2,
    close_timeout=0.3,
    outbox_hard_bytes=65_536,
    outbox_soft_bytes=32_768,
)
LISTED = {"cors_allowed_origins": ["https://app.example"], "cors_credentials": True, "cookie": "io"}
OPTIONS: dict[str, dict[str, Any]] = {
    "main": {},
    "strict": {"cors_allowed_origins": (), "error_acks": False, "allow_request": refuse_if_told},
    "listed": LISTED,
    "bounded": {"limits": BOUNDED, "upgrade_timeout": 0.3, "max_payload_bytes": 10_000},
    "full": {"limits": Limits(sessions=3)},
    "unjoined": {"limits": Limits(unjoined_sessions=2)},
    "rated": {"limits": Limits(session_rate=20.0)},
    "recovering": {
        "recovery": Recovery(window=1.0),
        "limits": Limits(recovery_probe_timeout=5.0),
        "ping_interval": 25.0,
        "ping_timeout": 20.0,
    },
}


async def serve_native(
    broker: Broker, tls: ssl.SSLContext | None, port: int = 0, *, task_status: trio.TaskStatus[int]
) -> None:
    """Serve by the broker's own listener."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(broker.serve, "127.0.0.1", port, ssl_context=tls))
        task_status.started(server.port)


async def serve_asgi(
    broker: Broker, tls: ssl.SSLContext | None, port: int = 0, *, task_status: trio.TaskStatus[int]
) -> None:
    """Serve as an ASGI application under hypercorn."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.graceful_timeout = 0.1
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(hypercorn_serve, broker.asgi(), config))
        task_status.started(int(urls[0].rpartition(":")[2]))


async def serve_websockets(
    broker: Broker, tls: ssl.SSLContext | None, port: int = 0, *, task_status: trio.TaskStatus[int]
) -> None:
    """Serve WebSockets of a trio-websocket server through `handle_websocket`."""

    async def handle(request: Any) -> None:
        await broker.handle_websocket(await request.accept())

    async with broker, trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, handle, "127.0.0.1", port, None))
        task_status.started(server.port)


WAYS: dict[str, Any] = {"native": serve_native, "asgi": serve_asgi, "websockets": serve_websockets}


async def serve_draining(
    urls: Urls, way: str, tls: ssl.SSLContext | None, *, task_status: trio.TaskStatus[int]
) -> None:
    """Serve a broker that drains when asked, and then a new one on the same port, for ever."""
    port = 0
    while True:
        asked = trio.Event()
        broker = make_broker(urls, way, asked.set)
        async with trio.open_nursery() as nursery:
            new_port = await nursery.start(WAYS[way], broker, tls, port)
            if port == 0:
                port = new_port
                task_status.started(port)
            await asked.wait()
            await broker.drain(1.0, rate=20.0)
            nursery.cancel_scope.cancel()


async def serve_sharing(
    nursery: trio.Nursery, urls: Urls, way: str, tls: ssl.SSLContext | None
) -> dict[str, int]:
    """Serve two nodes of one application; returns their ports.

    The second one knows where the first is and passes on to it; the other way, and over TLS, each tells.
    """
    ports: dict[str, int] = {}
    for number, name in enumerate(("neighbour", "node")):
        known = {at: ("127.0.0.1", port) for at, port in enumerate(ports.values()) if tls is None}
        broker = make_broker(urls, way)
        broker.settle_beside(Neighbours(Owner(number, 0), None, Limits(), known))
        ports[name] = await nursery.start(WAYS[way], broker, tls)
    return ports


@asynccontextmanager
async def serving(way: str = "native", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve the whole fixture; gives the URL of the main server."""
    urls: Urls = {}
    start = "https://localhost" if tls else "http://127.0.0.1"
    async with trio.open_nursery() as nursery:
        ports: dict[str, int] = {}
        for name, options in OPTIONS.items():
            if way == "websockets" and name != "main":
                continue
            ports[name] = await nursery.start(WAYS[way], make_broker(urls, way, **options), tls)
        if way == "native":
            ports["drain"] = await nursery.start(serve_draining, urls, way, tls)
            ports |= await serve_sharing(nursery, urls, way, tls)
        urls |= {name: f"{start}:{port}" for name, port in ports.items()}
        yield urls.pop("main")
        nursery.cancel_scope.cancel()


async def run(way: str, tls: ssl.SSLContext | None) -> None:
    """Serve until standard input ends."""
    async with serving(way, tls) as url:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
        stdin = trio.lowlevel.FdStream(sys.stdin.fileno())
        while await stdin.receive_some():
            continue


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=sorted(WAYS), nargs="?", default="native")
    parser.add_argument("--mutant", help="the name of a fault of tests/conformance/mutants.py")
    parser.add_argument("--certificate", help="PEM with key and chain: serve over TLS")
    arguments = parser.parse_args()
    if arguments.mutant:
        from tests.conformance.mutants import MUTANTS

        MUTANTS[arguments.mutant].apply()
    context = None
    if arguments.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.certificate)
    logging.disable(logging.CRITICAL)  # hundreds of faults of clients are what it is here for
    trio.run(run, arguments.way, context)
