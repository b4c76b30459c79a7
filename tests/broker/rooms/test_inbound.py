"""Handlers: how they are run, ordered, bounded, cancelled, isolated and answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from attrs import frozen

from broker import (
    NO_ACK,
    Broker,
    Disconnected,
    DisconnectReason,
    EventError,
    Limits,
    NotRunning,
    Socket,
    Verdict,
)
from tests.peers import Closed, PollingPeer, client, quick_broker, settled

Serve = Callable[..., Any]
INTERNAL = '{"error":{"code":"internal","message":"internal error"}}'


class Gate:
    """Handlers that wait until the test lets one go on, and what has happened so far."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.running = 0
        self.most = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def handler(self, socket: Socket, *args: Any) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        self.seen.append(("begin", *args))
        try:
            await self._lot.park()
            self.seen.append(("end", *args))
            return args[0] if args else None
        except trio.Cancelled:
            self.seen.append(("cancelled", *args))
            raise
        finally:
            self.running -= 1

    async def open(self, count: int = 1) -> None:
        """Let waiting handlers go on, one after another."""
        for _ in range(count):
            self._lot.unpark()
            await settled()


def only(broker: Broker) -> Socket:
    (socket,) = broker.sockets.sockets.values()
    return socket


# -- what a handler returns -------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ack"),
    [
        (None, "430[]"),
        ("ok", '430["ok"]'),
        (("a", 2), '430["a",2]'),
        ((), "430[]"),
        (["a", 2], '430[["a",2]]'),
        (False, "430[false]"),
        ((None,), "430[null]"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async", "suspending", "awaitable"])
async def test_what_is_returned_is_the_ack(serve: Serve, value: Any, ack: str, kind: str) -> None:
    broker = quick_broker()

    async def suspending(socket: Socket | None) -> Any:
        await trio.lowlevel.checkpoint()
        return value

    async def never_suspending(socket: Socket) -> Any:
        return value

    class Awaitable:
        def __await__(self) -> Any:
            return (yield from suspending(None).__await__())

    handlers: dict[str, Callable[[Socket], Any]] = {
        "sync": lambda socket: value,
        "async": never_suspending,
        "suspending": suspending,
        "awaitable": lambda socket: Awaitable(),
    }
    broker.on("ask")(handlers[kind])
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('42["ask"]')
        await peer.send_text('420["ask"]')
        await peer.expect(ack)


async def test_no_ack_answers_nothing(serve: Serve) -> None:
    broker = quick_broker()
    broker.on("quiet")(lambda socket: NO_ACK)
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('420["quiet"]')
        await peer.send_text('421["echo"]')
        await peer.expect('42["echo"]')
        await peer.expect("431[]")


# -- order and concurrency ----------------------------------------------------------


async def test_events_of_one_socket_run_one_after_another(serve: Serve) -> None:
    broker = quick_broker()
    gate = Gate()
    broker.on("slow")(gate.handler)
    broker.on("quick")(lambda socket, number: gate.seen.append(("quick", number)))
    async with serve(broker) as server, client(server) as peer:
        for text in ('420["slow",1]', '421["quick",2]', '422["slow",3]', '423["quick",4]'):
            await peer.send_text(text)
        await settled()
        assert gate.seen == [("begin", 1)]
        await gate.open()
        assert gate.seen[1:] == [("end", 1), ("quick", 2), ("begin", 3)]
        await gate.open()
        assert gate.seen[4:] == [("end", 3), ("quick", 4)]
        for ack in ("430[1]", "431[]", "432[3]", "433[]"):
            await peer.expect(ack)


async def test_sockets_do_not_wait_for_each_other(serve: Serve) -> None:
    broker = quick_broker()
    gate = Gate()
    broker.on("slow")(gate.handler)
    broker.of("/other").on("quick")(lambda socket: "done")
    async with serve(broker) as server, client(server) as peer, client(server) as another:
        await peer.join("/other")
        await peer.send_text('42["slow"]')
        await peer.send_text('42/other,0["quick"]')
        await peer.expect('43/other,0["done"]')
        await another.emit("echo")
        await another.expect('42["echo"]')


async def test_acks_and_heartbeat_do_not_stand_behind_handlers(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=0.05, ping_timeout=0.2)

    @broker.on("ask me")
    async def ask_me(socket: Socket) -> Any:
        return await socket.call("what")

    async with virtual_serve(broker) as server, client(server) as peer:
        await peer.send_text('427["ask me"]')
        await peer.expect('420["what"]')
        await peer.send_text('42["echo","waits"]')
        peer.pongs = False
        for _ in range(3):
            await peer.expect("2")
            await peer.send_text("3")
        peer.pongs = True
        await peer.send_text('430["this"]')
        await peer.expect('437["this"]')
        await peer.expect('42["echo","waits"]')


async def test_concurrency_bounds_one_event(serve: Serve) -> None:
    broker = quick_broker()
    gate = Gate()
    broker.on("work", concurrency=2)(gate.handler)
    async with serve(broker) as server, client(server) as peer:
        for number in range(5):
            await peer.send_text(f'42{number}["work",{number}]')
        # Serial events pass by.
        await peer.send_text('429["echo"]')
        await peer.expect('42["echo"]')
        await peer.expect("439[]")
        assert gate.seen == [("begin", 0), ("begin", 1)]
        await gate.open(5)
        assert gate.most == 2
        acks = {await peer.receive() for _ in range(5)}
        assert acks == {f"43{number}[{number}]" for number in range(5)}
        assert only(broker).is_idle


@pytest.mark.parametrize("who", ["listener", "namespace listener", "middleware"])
async def test_who_sees_events_first_takes_nothing_from_their_concurrency(serve: Serve, who: str) -> None:
    broker = quick_broker()
    gate = Gate()
    heard: list[Any] = []
    broker.on("work", concurrency=2)(gate.handler)

    @broker.on("connect")
    def listen(socket: Socket) -> None:
        if who == "listener":
            socket.on_any(lambda event, *args: heard.append((event, *args)))
        elif who == "middleware":
            socket.use(lambda event, args: heard.append((event, *args)))

    if who == "namespace listener":
        broker.on_any(lambda event, *args: heard.append((event, *args)))
    async with serve(broker) as server, client(server) as peer:
        for number in range(3):
            await peer.send_text(f'42{number}["work",{number}]')
        await peer.send_text('429["echo"]')
        await peer.expect('42["echo"]')
        await peer.expect("439[]")
        assert gate.seen == [("begin", 0), ("begin", 1)]
        assert heard == [("work", 0), ("work", 1), ("echo",)]
        await gate.open(3)
        acks = {await peer.receive() for _ in range(3)}
        assert acks == {f"43{number}[{number}]" for number in range(3)}
        assert heard[3:] == [("work", 2)]


async def test_handlers_per_socket_is_a_ceiling_over_concurrent_events(serve: Serve) -> None:
    broker = quick_broker(limits=Limits(handlers_per_socket=3))
    gate = Gate()
    broker.on("a", concurrency=8)(gate.handler)
    broker.on("b", concurrency=8)(gate.handler)
    async with serve(broker) as server, client(server) as peer:
        for number in range(4):
            await peer.send_text(f'42["a",{number}]')
        # Each event can always make progress by itself.
        await peer.send_text('42["b",4]')
        await peer.send_text('42["b",5]')
        await settled()
        assert gate.running == 4
        await gate.open(6)
        assert sum(entry[0] == "end" for entry in gate.seen) == 6


@pytest.mark.parametrize("who", ["handler", "task"])
async def test_who_waits_below_the_ceiling_goes_on_when_there_is_room(serve: Serve, who: str) -> None:
    broker = quick_broker(limits=Limits(handlers_per_socket=2))
    first, gate = Gate(), Gate()
    broker.on("first", concurrency=8)(first.handler)
    broker.on("work", concurrency=8)(gate.handler)
    async with serve(broker) as server, client(server) as peer:
        if who == "handler":
            await peer.send_text('42["first"]')
        else:
            only(broker).start_soon(first.handler, only(broker))
        for number in range(3):
            await peer.send_text(f'42["work",{number}]')
        await settled()
        assert gate.seen == [("begin", 0)]
        await first.open()
        assert gate.seen == [("begin", 0), ("begin", 1)]
        await peer.send_text('42["work",3]')
        await gate.open(4)
        assert [entry for entry in gate.seen if entry[0] == "begin"] == [("begin", at) for at in range(4)]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_full_inbox_stops_the_reading_until_half_of_it_is_gone(
    virtual_serve: Serve, concurrency: int
) -> None:
    broker = quick_broker(ping_interval=0.05, ping_timeout=0.05, limits=Limits(inbox_messages=4))
    gate = Gate()
    broker.on("work", concurrency=concurrency)(gate.handler)
    async with virtual_serve(broker) as server, client(server) as peer:
        for number in range(concurrency + 4):
            await peer.send_text(f'42["work",{number}]')
        await settled()
        # Not read, so neither is the pong; but the peer is not held to account for it.
        await peer.send_text('420["echo"]')
        await trio.sleep(0.2)
        assert broker.statistics().sessions == 1
        await gate.open()
        assert only(broker)._paused
        await gate.open()
        assert not only(broker)._paused
        if concurrency == 1:
            await gate.open(3)
        await peer.expect('42["echo"]')
        await gate.open(6)
        assert [entry[1] for entry in gate.seen if entry[0] == "end"][: concurrency + 4] == list(
            range(concurrency + 4)
        )


async def test_reading_goes_on_only_when_every_lane_has_room(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0, limits=Limits(inbox_messages=2))
    serial, concurrent = Gate(), Gate()
    broker.on("serial")(serial.handler)
    broker.on("work", concurrency=2)(concurrent.handler)
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('42["serial",0]')
        await peer.send_text('42["serial",1]')
        for number in range(4):
            await peer.send_text(f'42["work",{number}]')
        await settled()
        await serial.open()  # an event leaves the serial lane while the other is full
        await peer.send_text('42["work",4]')
        await settled()
        await concurrent.open(5)
        assert [entry[1] for entry in concurrent.seen if entry[0] == "end"] == [0, 1, 2, 3, 4]
        await serial.open()


@pytest.mark.parametrize("behind", [0, 3])
async def test_handler_that_never_ends_is_named(
    virtual_serve: Serve, behind: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker(ping_interval=25.0, limits=Limits(inbox_messages=2, pause_timeout=0.05))
    gate = Gate()
    broker.on("work")(gate.handler)
    reasons: list[DisconnectReason] = []
    broker.on("disconnect")(lambda socket, reason: reasons.append(reason))
    async with virtual_serve(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        await peer.send(*(f'42["work",{number}]' for number in range(3 + behind)))
        async with client(server) as other:
            for number in range(3 + behind):
                await other.emit("work", number)
            assert await other.expect_close() == Closed(1013, "handler stalled")
        assert (await peer.get()).text == "6\x1e1"
        await settled()
    assert reasons == [DisconnectReason.HANDLER_STALLED] * 2
    assert [entry for entry in gate.seen if entry[0] != "cancelled"] == [("begin", 0)] * 2
    assert caplog.records == []


# -- the end of a handler -------------------------------------------------------------


@pytest.mark.parametrize("how", ["client", "server", "session", "shutdown", "lost"])
async def test_handler_of_a_socket_that_ends_is_cancelled_and_acks_nothing(serve: Serve, how: str) -> None:
    broker = quick_broker()
    seen: list[str] = []
    broker.of("/other")

    @broker.on("work")
    async def work(socket: Socket) -> str:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            seen.append("cleaned up")
            assert socket.emit("too late") is Verdict.CLOSED
        return "never"

    @broker.on("disconnecting")
    async def disconnecting(socket: Socket) -> None:
        seen.append("disconnecting")

    @broker.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        seen.append("disconnect")

    async with serve(broker) as server:
        async with client(server) as peer:
            await peer.join("/other")
            await peer.send_text('420["work"]')
            await peer.send_text('421["work"]')
            await settled()
            if how == "client":
                await peer.send_text("41")
            elif how == "server":
                only(broker).disconnect()
                await peer.expect("41")
            elif how == "session":
                await peer.close()
            elif how == "lost":
                await peer.abort()
            if how != "shutdown":
                await settled()
                assert seen == ["cleaned up", "disconnecting", "disconnect"]
            if how in {"client", "server"}:
                # The other namespace goes on over the same session, and no ack came.
                await peer.send_text("40")
                assert str(await peer.receive()).startswith('40{"sid"')
    assert seen[:3] == ["cleaned up", "disconnecting", "disconnect"]


async def test_handler_that_disconnects_its_own_socket(serve: Serve) -> None:
    broker = quick_broker()
    seen: list[str] = []

    @broker.on("bye")
    async def bye(socket: Socket, close: bool) -> str:
        socket.disconnect(close)
        socket.disconnect(close)
        seen.append("goes on to its next checkpoint")
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            seen.append("cancelled")
            raise
        return "never"

    broker.on("note")(lambda socket: seen.append("note"))
    broker.on("disconnect")(lambda socket, reason: seen.append(reason.value))
    async with serve(broker) as server, client(server) as peer:
        for close in (False, True):
            await peer.send_text(f'420["bye",{json.dumps(close)}]')
            await peer.send_text('42["note"]')
            await peer.expect("41")
            if not close:
                await peer.join()
        assert await peer.expect_close() == Closed(1000, "server namespace disconnect")
        await settled()
    assert seen == ["goes on to its next checkpoint", "cancelled", "server namespace disconnect"] * 2


async def _fail_when_cancelled() -> None:
    """Raise, as nurseries do, a cancellation and an error in one group."""

    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("secret")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean_up_badly)
        await trio.sleep_forever()


@pytest.mark.parametrize("where", ["event", "connect", "middleware", "task", "disconnect"])
async def test_who_fails_while_it_is_cancelled_disturbs_nobody(
    virtual_serve: Serve, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    broker = quick_broker(limits=Limits(cleanup_timeout=0.05))
    other = broker.of("/other")
    if where == "middleware":
        other.use(lambda socket: _fail_when_cancelled())
    elif where == "task":
        other.on("connect")(lambda socket: socket.start_soon(_fail_when_cancelled))
    else:
        other.on(where)(lambda socket: _fail_when_cancelled())

    async with virtual_serve(broker) as server, client(server) as peer:
        await peer.send_text("40/other,")
        if where != "middleware":
            assert str(await peer.receive()).startswith("40/other,")
        if where == "event":
            await peer.send_text('42/other,0["event"]')
        await settled()
        with caplog.at_level(logging.CRITICAL, logger="broker"):
            await peer.send_text("41/other,")
            await peer.send_text('421["echo"]')
            await peer.expect('42["echo"]')
            await peer.expect("431[]")
            await trio.sleep(0.1)
        events = broker.statistics().events
        assert events.pop("cleanup timeout", 0) == (where == "disconnect")
        assert events == {"task failed" if where == "task" else "failed": 1}


async def test_who_fails_while_the_session_ends_answers_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker()
    broker.on("work")(lambda socket: _fail_when_cancelled())
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('420["work"]')
        await settled()
        with caplog.at_level(logging.CRITICAL, logger="broker"):
            only(broker).disconnect(close=True)
            await peer.expect("41")
            assert await peer.expect_close() == Closed(1000, "server namespace disconnect")
            await settled()


async def test_handler_that_ignores_its_cancellation_is_waited_for_within_the_window(
    virtual_serve: Serve,
) -> None:
    broker = quick_broker(limits=Limits(cleanup_timeout=0.05))
    seen: list[str] = []
    released, told = trio.Event(), trio.Event()

    @broker.on("stubborn")
    async def stubborn(socket: Socket) -> None:
        with trio.CancelScope(shield=True):
            await released.wait()
        seen.append("stubborn is done")

    @broker.on("disconnect")
    def disconnect(socket: Socket) -> None:
        seen.append("disconnect")
        told.set()

    async with virtual_serve(broker) as server, client(server) as peer:
        await peer.emit("stubborn")
        await settled()
        only(broker).disconnect()
        await peer.expect("41")
        with trio.fail_after(2):
            await told.wait()
        assert seen == ["disconnect"]
        released.set()
        await settled()
    assert seen == ["disconnect", "stubborn is done"]


async def test_disconnect_handler_has_a_deadline(
    virtual_serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker(limits=Limits(cleanup_timeout=0.05))

    @broker.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        await trio.sleep_forever()

    async with virtual_serve(broker) as server:
        async with client(server) as peer:
            with caplog.at_level(logging.CRITICAL, logger="broker"):
                await peer.send_text("41")
                await settled()
    assert broker.statistics().events == {"cleanup timeout": 1}


# -- errors ------------------------------------------------------------------------------


def failing() -> Broker:
    broker = quick_broker()

    @broker.on("fails")
    def fails(socket: Socket) -> None:
        raise KeyError("secret")

    @broker.on("fails later")
    async def fails_later(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("secret")

    @broker.on("fails early")
    async def fails_early(socket: Socket) -> None:
        raise KeyError("secret")

    @broker.on("unsendable")
    def unsendable(socket: Socket) -> object:
        return object()

    @broker.on("refuses")
    async def refuses(socket: Socket) -> None:
        raise EventError("not_found", "no such job", {"id": 7})

    @broker.on("refuses in a nursery")
    async def refuses_in_a_nursery(socket: Socket) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuses, socket)

    @broker.on("refuses unsendably")
    def refuses_unsendably(socket: Socket) -> None:
        raise EventError("x", "y", object())

    return broker


@pytest.mark.parametrize("event", ["fails", "fails later", "fails early", "unsendable"])
async def test_exception_is_logged_counted_and_answered_without_its_text(
    serve: Serve, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = failing()
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text(f'420["{event}"]')
        await peer.expect(f"430[{INTERNAL}]")
        if event != "unsendable":  # without an ack there is nothing to send
            await peer.send_text(f'42["{event}"]')
            await peer.expect(f'42["error",{INTERNAL}]')
        # Nothing else is disturbed.
        await peer.emit("echo")
        await peer.expect('42["echo"]')
    count = 1 if event == "unsendable" else 2
    assert broker.statistics().events == {"failed": count}
    assert [record.exc_info is not None for record in caplog.records] == [True] * count
    assert f"handler of {event!r} in / failed" in caplog.messages[0]


@pytest.mark.parametrize("event", ["refuses", "refuses in a nursery"])
async def test_event_error_is_answered_with_its_code(
    serve: Serve, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = failing()
    error = '{"error":{"code":"not_found","message":"no such job","data":{"id":7}}}'
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text(f'420["{event}"]')
        await peer.expect(f"430[{error}]")
        await peer.send_text(f'42["{event}"]')
        await peer.expect(f'42["error",{error}]')
    assert broker.statistics().events == {"refused": 2}
    assert caplog.records == []


async def test_event_error_whose_data_cannot_be_sent(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(failing()) as server, client(server) as peer:
        await peer.send_text('420["refuses unsendably"]')
        await peer.expect('430[{"error":{"code":"x","message":"y"}}]')
        await peer.send_text('42["refuses unsendably"]')
        await peer.expect('42["error",{"error":{"code":"x","message":"y"}}]')
    assert caplog.messages == ["an EventError cannot be sent as it is"] * 2


async def test_error_acks_can_be_turned_off(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    broker = quick_broker(error_acks=False)

    @broker.on("refuses")
    async def refuses(socket: Socket) -> None:
        raise EventError("no", "no")

    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('420["refuses"]')
        await peer.send_text('42["refuses"]')
        await peer.emit("echo")
        await peer.expect('42["echo"]')
    assert broker.statistics().events == {"refused": 2}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "event 'two' takes 2 arguments, not 0"),
        (",1,2,3", "event 'two' takes 2 arguments, not 3"),
    ],
)
async def test_wrong_arity(serve: Serve, args: str, message: str) -> None:
    broker = quick_broker()

    @broker.on("two")
    def two(socket: Socket, a: int, b: int) -> None: ...

    async with serve(broker) as server, client(server) as peer:
        await peer.send_text(f'420["two"{args}]')
        answer = json.loads(str(await peer.receive())[3:])
        assert answer == [{"error": {"code": "wrong_arity", "message": message}}]
    assert broker.statistics().events == {"refused": 1}


@frozen
class Place:
    x: int
    y: int = 0


@dataclass
class Job:
    name: str
    places: list[Place]


async def test_typed_arguments(serve: Serve) -> None:
    broker = quick_broker()
    seen: list[Any] = []

    @broker.on("job")
    async def job(socket: Socket, job: Job, count: int = 1, *rest: Any) -> None:
        seen.append((job, count, rest))

    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('420["job",{"name":"a","places":[{"x":1},{"x":2,"y":3}]},5,"more"]')
        await peer.expect("430[]")
        assert seen == [(Job("a", [Place(1), Place(2, 3)]), 5, ("more",))]
        await peer.send_text('421["job",{"name":7,"places":[{"x":1},{"x":"2"}]}]')
        (answer,) = json.loads(str(await peer.receive())[3:])
        error = answer["error"]
        assert error["code"] == "invalid_arguments"
        assert error["data"] == [
            "invalid value for type, expected str @ job.name",
            "invalid value for type, expected int @ job.places[1].x",
        ]
        await peer.send_text('422["job",{"name":"a","places":[]},true]')
        (answer,) = json.loads(str(await peer.receive())[3:])
        assert answer["error"]["message"] == "arguments of 'job': expected int, got bool @ count"


# -- context and structured concurrency ------------------------------------------------------

current: ContextVar[str] = ContextVar("current", default="nothing")


@pytest.mark.parametrize("kind", ["sync", "async", "suspending", "middleware"])
async def test_context_variables_do_not_leak_between_events(serve: Serve, kind: str) -> None:
    broker = quick_broker()
    seen: list[str] = []

    def plain(socket: Socket, value: str) -> None:
        seen.append(current.get())
        current.set(value)

    async def never_suspending(socket: Socket, value: str) -> None:
        plain(socket, value)

    async def suspending(socket: Socket, value: str) -> None:
        plain(socket, value)
        await trio.lowlevel.checkpoint()
        assert current.get() == value
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, value)

    async def child(value: str) -> None:
        assert current.get() == value

    if kind == "middleware":
        broker.on("connect")(lambda socket: socket.use(lambda event, args: current.set("from middleware")))
    handlers: dict[str, Any] = {"sync": plain, "async": never_suspending, "suspending": suspending}
    broker.on("set")(handlers.get(kind, plain))
    async with serve(broker) as server, client(server) as peer:
        for number in range(3):
            await peer.send_text(f'42{number}["set","{number}"]')
            await peer.expect(f"43{number}[]")
    assert seen == ["from middleware" if kind == "middleware" else "nothing"] * 3


async def test_scopes_and_nurseries_work_inside_handlers(serve: Serve) -> None:
    broker = quick_broker()

    @broker.on("timeouts")
    async def timeouts(socket: Socket) -> Any:
        with trio.move_on_after(0.01) as scope:
            await trio.sleep_forever()
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.01):
                await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()
        return scope.cancelled_caught

    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('420["timeouts"]')
        await peer.expect("430[true]")
        await peer.emit("echo")
        await peer.expect('42["echo"]')


async def test_start_soon_ends_with_its_socket(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    broker = quick_broker()
    seen: list[str] = []

    async def task(socket: Socket, word: str) -> None:
        seen.append(word)
        try:
            await trio.sleep_forever()
        finally:
            seen.append("cancelled")

    async def fails() -> None:
        raise ValueError("secret")

    broker.on("disconnect")(lambda socket: seen.append("disconnect"))
    async with serve(broker) as server, client(server) as peer:
        socket = only(broker)
        socket.start_soon(task, socket, "begun")
        with caplog.at_level(logging.CRITICAL, logger="broker"):
            socket.start_soon(fails)
            await settled()
        assert broker.statistics().events == {"task failed": 1}
        assert not socket.is_idle
        await peer.send_text("41")
        await settled()
        assert seen == ["begun", "cancelled", "disconnect"]
        with pytest.raises(Disconnected) as caught:
            socket.start_soon(task, socket, "never")
        assert caught.value.reason is DisconnectReason.CLIENT_NAMESPACE_DISCONNECT


async def test_connect_handler_runs_before_any_event(serve: Serve) -> None:
    broker = quick_broker()
    gate = Gate()
    broker.on("connect")(gate.handler)
    async with serve(broker) as server, client(server) as peer:
        await peer.emit("echo", 1)
        await settled()
        await gate.open()
        await peer.expect('42["echo",1]')


async def test_handlers_can_be_replaced_while_running(serve: Serve) -> None:
    broker = quick_broker()
    async with serve(broker) as server, client(server) as peer:
        broker.off("echo")
        broker.off("never there")
        broker.on("echo")(lambda socket: "new")
        await peer.send_text('420["echo"]')
        await peer.expect('430["new"]')


async def test_listening_events_wait_in_order_too(serve: Serve) -> None:
    """With a listener before them, also those that nobody handles."""
    broker = quick_broker()
    gate = Gate()
    broker.on("slow")(gate.handler)
    async with serve(broker) as server, client(server) as peer:
        socket = only(broker)

        @socket.on_any
        async def listen(event: str, *args: Any) -> None:
            gate.seen.append(event)

        for text in ('420["slow",1]', '42["echo",2]', '42["unknown"]', '421["slow",3]'):
            await peer.send_text(text)
        await settled()
        assert gate.seen == ["slow", ("begin", 1)]
        await gate.open(2)
        assert gate.seen[2:] == [("end", 1), "echo", "unknown", "slow", ("begin", 3), ("end", 3)]
        for message in ("430[1]", '42["echo",2]', "431[3]"):
            await peer.expect(message)


def test_registration_mistakes() -> None:
    broker = Broker()
    for name in ("connect_error", "newListener", "removeListener"):
        with pytest.raises(ValueError, match="reserved"):
            broker.on(name)
    for concurrency in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="concurrency"):
            broker.on("x", concurrency=concurrency)(lambda socket: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="socket as its first"):
        broker.on("x")(lambda: None)
    with pytest.raises(TypeError, match="keyword-only"):
        broker.on("x")(lambda socket, *, must: None)


async def test_not_running() -> None:
    with pytest.raises(NotRunning, match="async with broker"):
        _ = Broker()._engine.nursery
