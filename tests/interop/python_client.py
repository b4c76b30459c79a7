"""Drive python-socketio's clients; run as a program: KIND TRANSPORT NAME=URL..., one JSON line a check."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import engineio.payload
import socketio

PATIENCE = 20.0  # seconds; a busy machine is no failure
# Its client drops a connection on which more than 16 packets come in one answer, whatever the server; its
# documentation says to raise this.
engineio.payload.Payload.max_decode_packets = 100_000
TRANSPORTS = {
    "polling": ["polling"],
    "websocket": ["websocket"],
    "upgrade": ["polling", "websocket"],
}
KINDS = ("AsyncClient", "Client")

Check = Callable[["Peer"], Coroutine[Any, Any, None]]
CHECKS: dict[str, Check] = {}


def keep_order(client: socketio.Client) -> None:
    """Let the synchronous client handle packets as they come: of itself it starts a thread for each of them.

    Those threads overtake each other when the machine is busy, whatever the server does.
    """
    start = client.eio.start_background_task
    in_turn = ThreadPoolExecutor(max_workers=1)

    def start_in_turn(target: Callable[..., Any], *args: Any, **named: Any) -> Any:
        begin = in_turn.submit if target is client.eio.handlers["message"] else start
        return begin(target, *args, **named)

    client.eio.start_background_task = start_in_turn


def check(function: Check) -> Check:
    """Register a check under its name."""
    CHECKS[function.__name__] = function
    return function


class Peer:
    """Either client, with the same awaitable verbs; what arrives is kept by event."""

    def __init__(self, kind: str, transport: str, urls: dict[str, str]) -> None:
        self.kind = kind
        self.transport = transport
        self.urls = urls
        self._loop = asyncio.get_running_loop()
        self.made: list[Any] = []

    async def connect(
        self, *namespaces: str, broker: str = "main", auth: Any = None, headers: Any = None, **options: Any
    ) -> One:
        """Return a connected client."""
        client = getattr(socketio, self.kind)(**{"reconnection": False, **options})
        if self.kind == "Client":
            keep_order(client)
        one = One(client, self)
        self.made.append(one)
        await one.open(self.urls[broker], namespaces or ("/",), auth, headers or {})
        return one

    async def run(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a verb of either client."""
        if self.kind == "AsyncClient":
            return await function(*args, **named)
        return await asyncio.to_thread(function, *args, **named)

    def later(self, function: Callable[..., Any], *args: Any) -> None:
        """Call in the event loop, from whatever thread."""
        if threading.current_thread() is threading.main_thread():
            function(*args)
        else:
            self._loop.call_soon_threadsafe(function, *args)

    async def close(self) -> None:
        """Disconnect all clients."""
        for one in self.made:
            await self.run(one.client.disconnect)
        self.made.clear()


class One:
    """One client."""

    def __init__(self, client: Any, peer: Peer) -> None:
        self.client = client
        self.peer = peer
        self._queues: dict[tuple[str, str], asyncio.Queue[Any]] = {}

    async def open(self, url: str, namespaces: tuple[str, ...], auth: Any, headers: Any) -> None:
        for namespace in namespaces:
            for event in ("echo", "number", "news", "error", "connect", "disconnect", "connect_error"):
                self.answer(event, None, namespace)
        await self.peer.run(
            self.client.connect,
            url,
            namespaces=list(namespaces),
            auth=auth,
            headers=headers,
            transports=TRANSPORTS[self.peer.transport],
            wait_timeout=PATIENCE,
        )

    def answer(self, event: str, values: Any, namespace: str = "/") -> None:
        """Keep what comes as this event, and answer these values."""

        def came(*args: Any) -> Any:
            self.peer.later(self.queue(event, namespace).put_nowait, args)
            return values

        async def came_async(*args: Any) -> Any:  # noqa: ASYNC124 - it is to be a coroutine
            return came(*args)

        is_async = self.peer.kind == "AsyncClient"
        self.client.on(event, came_async if is_async else came, namespace=namespace)

    def queue(self, event: str, namespace: str = "/") -> asyncio.Queue[Any]:
        return self._queues.setdefault((event, namespace), asyncio.Queue())

    async def next(self, event: str, namespace: str = "/") -> tuple[Any, ...]:
        """Return the arguments of the next event of that name."""
        async with asyncio.timeout(PATIENCE):
            return tuple(await self.queue(event, namespace).get())

    async def emit(self, event: str, *args: Any, namespace: str = "/") -> None:
        await self.peer.run(self.client.emit, event, args, namespace=namespace)

    async def ask(self, event: str, *args: Any, namespace: str = "/") -> Any:
        return await self.peer.run(self.client.call, event, args, namespace=namespace, timeout=PATIENCE)


def same(got: Any, wanted: Any) -> None:
    """Compare."""
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


@check
async def every_kind_of_json(peer: Peer) -> None:
    one = await peer.connect()
    values = [
        "",
        "grüße 日本語 👩‍👩‍👧",
        "\x00\x1e\u2028",
        0,
        -1.5,
        2**53 - 1,
        True,
        None,
        [],
        {},
        [[[]]],
        {"ключ": ["🎈"]},
    ]
    for value in values:
        await one.emit("echo", value)
        same(await one.next("echo"), (value,))
    same(await one.ask("ack", *values), tuple(values))
    same(await one.ask("ack", "one"), "one")


@check
async def nested_binary_both_ways(peer: Peer) -> None:
    one = await peer.connect()
    value = {"bytes": bytes(range(256)), "deep": [{"more": b"x", "empty": b""}], "text": "t"}
    await one.emit("echo", value, b"second")
    same(await one.next("echo"), (value, b"second"))
    same(await one.ask("ack", b"a", b"b"), (b"a", b"b"))
    large = b"0123456789abcdef" * 30_000
    same(await one.ask("ack", large), large)


@check
async def acks_to_the_server(peer: Peer) -> None:
    one = await peer.connect()
    one.answer("question", ("a", {"b": b"bytes"}))
    same(await one.ask("ask_me", 1), {"answer": ["a", {"b": b"bytes"}]})
    one.answer("question", "one")
    same(await one.ask("ask_me", 1, 2), {"answer": "one"})
    same((await one.next("question"), await one.next("question")), ((1,), (1, 2)))


@check
async def a_broker_that_recovers_is_one_like_any_other(peer: Peer) -> None:
    """This client knows nothing of recovery: it is let in anew, and sees the offsets as arguments."""
    one = await peer.connect(broker="recovering")
    await one.emit("echo", 1, b"bytes")
    *args, offset = await one.next("echo")
    same(args, [1, b"bytes"])
    same(offset.replace("-", "").isdecimal(), True)
    same(await one.ask("ack", "no offset here"), "no offset here")


@check
async def typed_errors(peer: Peer) -> None:
    one = await peer.connect()
    wanted = {"error": {"code": "no_such_thing", "message": "there is none", "data": {"tried": [1, 2]}}}
    same(await one.ask("refuse"), wanted)
    await one.emit("refuse")
    same(await one.next("error"), (wanted,))


@check
async def auth_headers_and_refusals(peer: Peer) -> None:
    one = await peer.connect(auth={"token": "🔑"}, headers={"x-custom": "value"})
    known = await one.ask("handshake")
    same((known["auth"], known["headers"]["x-custom"]), ({"token": "🔑"}, "value"))
    for namespace, message in (("/guarded", "not you"), ("/unknown", "Invalid namespace")):
        try:
            await peer.connect(namespace)
        except socketio.exceptions.ConnectionError:
            refused = peer.made[-1]
        else:
            raise AssertionError(f"{namespace} let it in")
        same((await refused.next("connect_error", namespace))[0]["message"], message)
    guarded = await peer.connect("/guarded", auth={"token": "s3cret"})
    same(await guarded.ask("user", namespace="/guarded"), "ada")


@check
async def namespaces_over_one_connection(peer: Peer) -> None:
    one = await peer.connect("/", "/static", "/room-7")
    same(await one.ask("name", namespace="/static"), "/static")
    same(await one.ask("name", namespace="/room-7"), "/room-7")
    await one.emit("everyone", "hello", namespace="/room-7")
    same(await one.next("news", "/room-7"), ("hello",))
    await one.emit("kick", False, namespace="/static")
    await one.next("disconnect", "/static")
    same(await one.ask("ack", "there"), "there")


@check
async def rooms_and_broadcasts(peer: Peer) -> None:
    first, second, third = [await peer.connect() for _ in range(3)]
    room = f"{peer.kind}-{peer.transport}"
    await first.ask("join", room)
    await second.ask("join", room)
    same((await third.ask("emit_to", [room], [], b"bytes", 1))["queued"], 2)
    same((await first.next("news"), await second.next("news")), ((b"bytes", 1), (b"bytes", 1)))
    await first.ask("others_in", room, "others")
    same(await second.next("news"), ("others",))
    first.answer("question", 1)
    second.answer("question", 2)
    answers = await third.ask("ask_room", room, 5.0)
    same(sorted(answers["responses"].values()), [1, 2])
    same((answers["missing"], answers["disconnected"]), ([], []))
    same(first.queue("news").qsize() + third.queue("news").qsize(), 0)


@check
async def two_thousand_events_in_order(peer: Peer) -> None:
    one = await peer.connect()
    await one.emit("flood", 2000)
    for value in range(300):
        await one.emit("number", value)
    same((await one.ask("numbers", 300))["in_order"], True)
    same([(await one.next("number"))[0] for _ in range(2000)], list(range(2000)))


@check
async def disconnects_and_their_reasons(peer: Peer) -> None:
    witness = await peer.connect()
    left = await peer.connect("/", "/static")
    left_id = left.client.get_sid("/static")
    await peer.run(left.client.disconnect)
    assert await witness.ask("reason_of", left_id) in ("client namespace disconnect", "transport close")
    kicked = await peer.connect()
    kicked_id = kicked.client.get_sid()
    await kicked.emit("kick", True)
    await kicked.next("disconnect")
    same(await witness.ask("reason_of", kicked_id), "server namespace disconnect")


@check
async def comes_back_after_the_transport_was_dropped(peer: Peer) -> None:
    if peer.transport == "polling":
        await _is_told_on_polling(peer)
        return
    one = await peer.connect(reconnection=True, reconnection_delay=0.02, randomization_factor=0)
    await one.next("connect")
    before = one.client.get_sid()
    await one.emit("drop_transport")
    await one.next("disconnect")
    await one.next("connect")
    assert one.client.get_sid() != before
    same(await one.ask("ack", "back"), "back")


async def _is_told_on_polling(peer: Peer) -> None:
    """This client takes the CLOSE packet, which ends polling, as the server's wish that it stays away."""
    one = await peer.connect(reconnection=True, reconnection_delay=0.02)
    await one.emit("drop_transport")
    same((await one.next("disconnect"))[0], "server disconnect")
    again = await peer.connect()
    same(await again.ask("ack", "back"), "back")


@check
async def messagepack_in_place_of_text(peer: Peer) -> None:
    first = await peer.connect(broker="msgpack", serializer="msgpack", auth={"token": b"\x00\xff"})
    same((await first.ask("handshake"))["auth"], {"token": b"\x00\xff"})
    value = {"bytes": bytes(range(256)), "deep": [{"more": b"x", "empty": b""}], "ключ": [None, -1.5, 2**53]}
    await first.emit("echo", value, b"second")
    same(await first.next("echo"), (value, b"second"))
    same(await first.ask("ack", value, b"second"), (value, b"second"))
    first.answer("question", ("a", {"b": b"bytes"}))
    same(await first.ask("ask_me", 1), {"answer": ["a", {"b": b"bytes"}]})
    second = await peer.connect("/", "/static", broker="msgpack", serializer="msgpack")
    room = f"{peer.kind}-{peer.transport}"
    await second.ask("join", room)
    same((await first.ask("emit_to", [room], [], b"bytes", 1))["queued"], 1)
    same(await second.next("news"), (b"bytes", 1))
    same(await second.ask("name", namespace="/static"), "/static")
    await second.emit("kick", False, namespace="/static")
    await second.next("disconnect", "/static")
    try:
        await peer.connect("/guarded", broker="msgpack", serializer="msgpack")
    except socketio.exceptions.ConnectionError:
        same((await peer.made[-1].next("connect_error", "/guarded"))[0]["data"], {"retry": False, "code": 42})
    else:
        raise AssertionError("it was let in")


@check
async def heartbeats_keep_it_alive(peer: Peer) -> None:
    one = await peer.connect(broker="impatient")
    await asyncio.sleep(1.5)  # longer than an interval and a timeout of that broker
    same(await one.ask("ack", "alive"), "alive")
    same(one.queue("disconnect").qsize(), 0)


async def _run(kind: str, transport: str, urls: dict[str, str]) -> None:
    for name, function in CHECKS.items():
        peer = Peer(kind, transport, urls)
        failure = None
        try:
            async with asyncio.timeout(3 * PATIENCE):
                await function(peer)
        except Exception:
            failure = traceback.format_exc()
        await _quietly(peer.close())
        print(json.dumps({"name": name, "failure": failure}), flush=True)


async def _quietly(closing: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await closing
    except Exception as error:
        print(f"while closing: {error!r}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2], dict(pair.split("=", 1) for pair in sys.argv[3:])))
