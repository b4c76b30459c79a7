"""The brokers that official clients are tried against: every behaviour a client can meet, by event name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import trio
import trio.lowlevel

from broker import NO_ACK, Broker, ConnectRefused, DisconnectReason, EventError, Recovery, Socket


class Reasons:
    """Why sockets have left, by id, for those who ask before or after it happened."""

    def __init__(self) -> None:
        self._known: dict[str, DisconnectReason] = {}
        self._changed = trio.Event()

    def note(self, socket: Socket, reason: DisconnectReason) -> None:
        self._known[socket.id] = reason
        self._changed.set()
        self._changed = trio.Event()

    async def of(self, socket_id: str) -> DisconnectReason:
        while socket_id not in self._known:
            await self._changed.wait()
        return self._known[socket_id]


def make_broker(reasons: Reasons, **options: Any) -> Broker:
    """Return a broker with all behaviours; `reasons` is shared by the brokers of a test run."""
    broker = Broker(**options)
    _add_answers(broker)
    _add_rooms(broker)
    _add_calls(broker)
    _add_endings(broker, reasons)
    broker.engine.on("upgrade")(_tell_upgraded)
    _add_numbers(broker)
    _add_namespaces(broker, reasons)
    return broker


def session_of(socket: Socket) -> Any:
    """Return the engine session: no public verb drops a transport without a DISCONNECT before."""
    return socket._connection.session


# Who waits for the upgrade of which session.
UPGRADED: WeakKeyDictionary[Any, trio.Event] = WeakKeyDictionary()


def _tell_upgraded(session: Any) -> None:
    if session in UPGRADED:
        UPGRADED[session].set()


async def _upgraded(socket: Socket) -> None:
    session, upgraded = session_of(socket), trio.Event()
    UPGRADED[session] = upgraded
    await upgraded.wait()


def _add_answers(broker: Broker) -> None:
    @broker.on("echo")
    def echo(socket: Socket, *args: Any) -> None:
        socket.emit("echo", *args)

    @broker.on("ack")
    async def ack(socket: Socket, *args: Any) -> tuple[Any, ...]:  # noqa: ASYNC124 - most handlers are like it
        return args

    @broker.on("sizes")
    def sizes(socket: Socket, *args: bytes) -> list[list[Any]]:
        return [[type(one).__name__, len(one)] for one in args]

    @broker.on("handshake")
    def handshake(socket: Socket) -> dict[str, Any]:
        known = socket.handshake
        return {
            "auth": dict(known.auth),
            "query": dict(known.query),
            "headers": dict(known.headers),
            "address": known.address,
            "transport": socket.transport,
        }

    @broker.on("refuse")
    def refuse(socket: Socket) -> None:
        raise EventError("no_such_thing", "there is none", data={"tried": [1, 2]})

    @broker.on("crash")
    async def crash(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        raise EventError("crashed", "as it was told")

    @broker.on("never")
    def never(socket: Socket) -> Any:
        return NO_ACK

    @broker.on("typed")
    def typed(socket: Socket, count: int, name: str) -> str:
        return name * count

    @broker.on("slow")
    async def slow(socket: Socket, seconds: float, value: Any) -> Any:
        await trio.sleep(seconds)
        return value

    failures: dict[str, int] = {}

    @broker.on("third_time")
    async def third_time(socket: Socket, key: str) -> Any:  # noqa: ASYNC124 - it is to be a coroutine
        """Answer the third attempt only."""
        failures[key] = failures.get(key, 0) + 1
        return failures[key] if failures[key] >= 3 else NO_ACK


def _add_rooms(broker: Broker) -> None:
    @broker.on("join")
    def join(socket: Socket, *rooms: str) -> list[str]:
        socket.join(*rooms)
        return sorted(socket.rooms - {socket.id})

    @broker.on("leave")
    def leave(socket: Socket, *rooms: str) -> list[str]:
        socket.leave(*rooms)
        return sorted(socket.rooms - {socket.id})

    @broker.on("emit_to")
    def emit_to(socket: Socket, rooms: list[str], excepted: list[str], *args: Any) -> dict[str, int]:
        result = broker.to(*rooms).except_(*excepted).emit("news", *args)
        return {"queued": result.queued, "dropped": result.dropped, "closed": result.closed}

    @broker.on("others_in")
    def others_in(socket: Socket, room: str, *args: Any) -> None:
        socket.to(room).emit("news", *args)

    @broker.on("everyone")
    def everyone(socket: Socket, *args: Any) -> None:
        broker.emit("news", *args)

    @broker.on("broadcast")
    def broadcast(socket: Socket, *args: Any) -> None:
        socket.broadcast.emit("news", *args)

    @broker.on("fetch")
    async def fetch(socket: Socket, room: str) -> list[str]:
        return sorted(one.id for one in await broker.in_(room).fetch_sockets())

    @broker.on("disconnect_room")
    async def disconnect_room(socket: Socket, room: str, close: bool) -> None:
        await broker.in_(room).disconnect_sockets(close)


def _add_calls(broker: Broker) -> None:
    @broker.on("ask_me")
    async def ask_me(socket: Socket, *args: Any) -> Any:
        answer = await socket.call("question", *args, timeout=5.0)
        return {"answer": list(answer) if isinstance(answer, tuple) else answer}

    @broker.on("ask_briefly")
    async def ask_briefly(socket: Socket) -> str:
        try:
            await socket.timeout(0.05).call("question")
        except Exception as error:
            return type(error).__name__
        return "answered"

    @broker.on("ask_room")
    async def ask_room(socket: Socket, room: str, seconds: float, *args: Any) -> dict[str, Any]:
        acks = await broker.to(room).timeout(seconds).call("question", *args)
        return {
            "responses": dict(acks.responses),
            "missing": acks.missing,
            "disconnected": acks.disconnected,
        }


def _add_endings(broker: Broker, reasons: Reasons) -> None:
    @broker.on("disconnect")
    def gone(socket: Socket, reason: DisconnectReason) -> None:
        reasons.note(socket, reason)

    @broker.on("reason_of", concurrency=4)
    async def reason_of(socket: Socket, socket_id: str) -> str:
        return await reasons.of(socket_id)

    @broker.on("kick")
    def kick(socket: Socket, close: bool) -> None:
        socket.disconnect(close)

    @broker.on("drop_transport")
    def drop_transport(socket: Socket) -> None:
        session_of(socket).close(DisconnectReason.FORCED_CLOSE)

    @broker.on("drop_transport_of")
    def drop_transport_of(socket: Socket, socket_id: str) -> None:
        session_of(broker.sockets.sockets[socket_id]).close(DisconnectReason.FORCED_CLOSE)

    @broker.on("fall_silent")
    def fall_silent(socket: Socket) -> None:
        """Send no more pings, so that the client finds the server dead."""
        session = session_of(socket)
        session.engine.timers.suspend(session)


def _add_numbers(broker: Broker) -> None:
    @broker.on("number")
    def number(socket: Socket, value: int) -> None:
        numbers = socket.data.setdefault("numbers", [])
        numbers.append(value)
        socket.data.setdefault("transports", {}).setdefault(socket.transport, len(numbers))

    @broker.on("numbers")
    def numbers(socket: Socket, count: int) -> dict[str, Any]:
        """Tell whether the numbers came in order, once each, and over which transports."""
        got = socket.data.get("numbers", [])
        wrong = next((at for at, value in enumerate(got) if value != at), None)
        return {
            "count": len(got),
            "in_order": got == list(range(count)),
            "first_wrong": None if wrong is None else [wrong, got[wrong : wrong + 5]],
            "transports": socket.data.get("transports", {}),
        }

    @broker.on("send_numbers", concurrency=2)
    async def send_numbers(socket: Socket, count: int, slice_size: int, hold: int) -> str:
        """Send numbers in slices; past `hold` of them only once the session is on a WebSocket."""
        first_transport = socket.transport
        for start in range(0, count, slice_size):
            if start >= hold and socket.transport == "polling":
                await _upgraded(socket)
            for value in range(start, min(start + slice_size, count)):
                socket.emit("number", value)
            await trio.lowlevel.checkpoint()
        return f"{first_transport} to {socket.transport}"

    @broker.on("flood")
    def flood(socket: Socket, count: int) -> None:
        for value in range(count):
            socket.emit("number", value)

    @broker.on("volatile_flood")
    def volatile_flood(socket: Socket, count: int, text: str) -> dict[str, int]:
        verdicts = [socket.volatile.emit("number", value, text).name for value in range(count)]
        return {name: verdicts.count(name) for name in ("QUEUED", "DROPPED", "CLOSED")}


def _add_namespaces(broker: Broker, reasons: Reasons) -> None:
    _common(broker.of("/static"), reasons)
    _common(broker.of(re.compile(r"^/room-\d+$")), reasons)

    async def admits(name: str, auth: Mapping[str, Any]) -> bool:
        await trio.lowlevel.checkpoint()
        return name.startswith("/asked-") and auth.get("answer") == 42

    _common(broker.of(admits), reasons)

    expiring = broker.of("/expiring")
    _common(expiring, reasons)

    @expiring.use
    def identify(socket: Socket) -> None:
        socket.identity = "ada"
        socket.expires_at = datetime.now(UTC).timestamp() + socket.handshake.auth["seconds"]

    @expiring.on("refresh")
    def refresh(socket: Socket, seconds: float) -> None:
        socket.refresh(datetime.now(UTC).timestamp() + seconds, identity="ada")

    guarded = broker.of("/guarded")
    _common(guarded, reasons)

    @guarded.use
    async def authenticate(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        if socket.handshake.auth.get("token") != "s3cret":
            raise ConnectRefused("not you", data={"retry": False, "code": 42})
        socket.data["user"] = "ada"

    @guarded.use
    def second(socket: Socket) -> None:
        assert socket.data["user"] == "ada"

    @guarded.on("user")
    def user(socket: Socket) -> str:
        return str(socket.data["user"])

    refusing = broker.of("/refusing")

    @refusing.use
    def refuse(socket: Socket) -> None:
        raise EventError("banned", "go away", data={"until": "tomorrow"})

    fickle = broker.of("/fickle")
    _common(fickle, reasons)

    @fickle.on("connect")
    def connect(socket: Socket) -> None:
        raise ConnectRefused("changed my mind")

    _add_listening(broker.of("/listening"))


def _common(namespace: Any, reasons: Reasons) -> None:
    @namespace.on("name")
    def name(socket: Socket) -> str:
        return socket.namespace.name

    @namespace.on("everyone")
    def everyone(socket: Socket, *args: Any) -> None:
        socket.namespace.emit("news", *args)

    @namespace.on("kick")
    def kick(socket: Socket, close: bool) -> None:
        socket.disconnect(close)

    @namespace.on("ack")
    def ack(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @namespace.on("disconnect")
    def gone(socket: Socket, reason: DisconnectReason) -> None:
        reasons.note(socket, reason)


def _add_listening(namespace: Any) -> None:
    seen: list[list[Any]] = []
    sent: list[list[Any]] = []

    @namespace.on("connect")
    def connect(socket: Socket) -> None:
        seen.clear()
        sent.clear()

        @socket.use
        async def guard(event: str, args: list[Any]) -> None:
            await trio.lowlevel.checkpoint()
            if event == "forbidden":
                raise EventError("forbidden", "not for you")

    @namespace.on_any
    def on_any(event: str, *args: Any) -> None:
        seen.append([event, *args])

    @namespace.on_any_outgoing
    def on_any_outgoing(event: str, *args: Any) -> None:
        sent.append([event, *args])

    @namespace.on("echo")
    def echo(socket: Socket, *args: Any) -> None:
        socket.emit("echo", *args)

    @namespace.on("heard")
    def heard(socket: Socket) -> dict[str, Any]:
        return {"seen": seen[:], "sent": sent[:]}


class Mortal:
    """A broker that dies and comes back on the same port."""

    def __init__(self, make: Callable[[], Broker]) -> None:
        self._make = make
        self._scope = trio.CancelScope()
        self._pause = 0.0
        self._up = trio.Event()
        self.port = 0

    async def run(self, task_status: trio.TaskStatus[str]) -> None:
        while True:
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as nursery:
                    server = await nursery.start(self._make().serve, "127.0.0.1", self.port)
                    if self.port == 0:
                        task_status.started(server.url)
                    self.port = server.port
                    self._up.set()
            await trio.sleep(self._pause)

    async def restart(self, pause: float) -> None:
        self._pause = pause
        self._up = trio.Event()
        self._scope.cancel()
        await self._up.wait()


@dataclass
class Stage:
    """Where the brokers of a test run listen.

    Attributes:
        main: Default settings; also takes `/restart` and `/leftovers`.
        impatient: Short heartbeats.
        narrow: Small payloads, a cookie, and only polling's worth of room.
        msgpack: Speaks `socket.io-msgpack-parser`.
        mortal: Dies and comes back at `POST main/restart?pause=SECONDS`.
        recovering: Keeps lost sessions for two seconds.
        recovering_msgpack: The same with the other parser.
    """

    main: str
    impatient: str
    narrow: str
    msgpack: str
    mortal: str
    recovering: str
    recovering_msgpack: str

    def environment(self) -> dict[str, str]:
        return {f"BROKER_{name.upper()}": url for name, url in vars(self).items()}


async def run_stage(task_status: trio.TaskStatus[Stage]) -> None:
    """Run all brokers until cancelled."""
    reasons = Reasons()
    mortal = Mortal(lambda: make_broker(reasons))
    main = make_broker(reasons)
    impatient = make_broker(reasons, ping_interval=0.4, ping_timeout=0.4)
    narrow = make_broker(reasons, max_payload_bytes=2_000, cookie="sticky")

    msgpack = make_broker(reasons, parser="msgpack")
    recovery = Recovery(window=2.0)
    recovering = make_broker(reasons, recovery=recovery)
    recovering_msgpack = make_broker(reasons, recovery=recovery, parser="msgpack")

    async def control(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        query = parse_qs(scope["query_string"].decode())
        if scope["path"] == "/restart":
            await mortal.restart(float(query["pause"][0]))
        body = json.dumps({"path": scope["path"]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with trio.open_nursery() as nursery:

        async def url(broker: Broker, app: Any = None) -> str:
            async def serve(task_status: Any) -> None:  # noqa: ASYNC128 - hands it on
                await broker.serve("127.0.0.1", 0, app=app, task_status=task_status)

            return str((await nursery.start(serve)).url)

        task_status.started(
            Stage(
                main=await url(main, control),
                impatient=await url(impatient),
                narrow=await url(narrow),
                msgpack=await url(msgpack),
                mortal=await nursery.start(mortal.run),
                recovering=await url(recovering),
                recovering_msgpack=await url(recovering_msgpack),
            )
        )
