"""What an application does with a socket, a namespace and the sockets it fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import (
    AckTimeout,
    Broker,
    BrokerError,
    Disconnected,
    DisconnectReason,
    EmitResult,
    Limits,
    Socket,
    TooManyAcks,
    Unanswered,
    Verdict,
)
from tests.duplex import TRANSPORTS, joined
from tests.peers import client, quick_broker, settled, websocket

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]


def only(broker: Broker) -> Socket:
    (socket,) = broker.sockets.sockets.values()
    return socket


@both
async def test_what_a_socket_tells(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, joined(server, transport) as peer:
        socket = only(broker)
        assert (socket.transport, socket.connected, socket.recovered) == (transport, True, False)
        assert socket.rooms == {socket.id}
        assert socket.namespace is broker.sockets
        assert repr(socket) == f"<Socket {socket.id} in />"
        assert repr(broker.sockets) == "<Namespace / with 1 sockets>"
        assert repr(broker) == "<Broker with 1 sessions>"
        assert len(socket.id) == 20
        assert socket.handshake is socket.handshake
        assert socket.send("a", 1) is Verdict.QUEUED
        assert broker.send("b").queued == 1
        assert socket.broadcast.send("nobody").queued == 0
        assert broker.sockets.send("c").queued == 1
        await peer.expect('42["message","a",1]', '42["message","b"]', '42["message","c"]')


@pytest.mark.parametrize(
    ("ack", "value"),
    [("[]", None), ("[1]", 1), ("[1,null]", (1, None)), ("[[1,2]]", [1, 2]), ("[null]", None)],
)
async def test_call_returns_what_was_answered(serve: Serve, ack: str, value: Any) -> None:
    broker = quick_broker()
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await only(broker).call("ask", 7))

    async with serve(broker) as server, client(server) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await peer.expect('420["ask",7]')
        await peer.send_text(f"430{ack}")
        await settled()
        assert answers == [value]
        assert len(only(broker).acks) == 0


@pytest.mark.parametrize("how", ["client", "server", "session"])
async def test_call_fails_when_the_socket_ends(serve: Serve, how: str) -> None:
    broker = quick_broker()
    caught: list[Any] = []

    async def ask(socket: Socket) -> None:
        try:
            await socket.call("ask")
        except Disconnected as error:
            caught.append(error)

    async with serve(broker) as server, client(server) as peer, trio.open_nursery() as nursery:
        socket = only(broker)
        nursery.start_soon(ask, socket)
        nursery.start_soon(ask, socket)
        await settled()
        if how == "client":
            await peer.send_text("41")
        elif how == "server":
            socket.disconnect()
        else:
            await peer.abort()
        await settled()
        assert [type(error) for error in caught] == [Disconnected] * 2
        assert len(socket.acks) == 0
        with pytest.raises(Disconnected, match="socket has been disconnected") as again:
            await socket.call("ask")
        assert again.value.reason is caught[0].reason
        remote = socket.view()
        with pytest.raises(Disconnected):
            await remote.call("ask")


async def test_call_that_is_cancelled_or_late_leaves_no_waiter(virtual_serve: Serve) -> None:
    broker = quick_broker(limits=Limits(ack_timeout=0.02))
    async with virtual_serve(broker) as server, client(server):
        socket = only(broker)
        with trio.move_on_after(0.01) as scope:
            await socket.call("ask", timeout=60)
        assert scope.cancelled_caught
        with pytest.raises(AckTimeout) as caught:
            await socket.call("ask")
        assert caught.value.timeout == 0.02
        assert (await broker.call("ask")).missing == [socket.id]
        with trio.move_on_after(0.01):
            await broker.call("ask", timeout=60)
        assert len(socket.acks) == 0


async def test_too_many_acks(serve: Serve) -> None:
    broker = quick_broker(limits=Limits(outstanding_acks=2))
    async with serve(broker) as server, client(server), trio.open_nursery() as nursery:
        socket = only(broker)
        for _ in range(2):
            nursery.start_soon(socket.call, "ask")
        await settled()
        assert len(socket.acks) == 2
        with pytest.raises(TooManyAcks, match="2"):
            await socket.call("ask")
        acks = await broker.call("ask", timeout=0.01)
        assert (acks.missing, acks.responses) == ([socket.id], [])
        nursery.cancel_scope.cancel()


async def test_a_socket_cannot_be_called_in_a_middleware(serve: Serve) -> None:
    broker = quick_broker()
    caught: list[BaseException] = []

    @broker.use
    async def middleware(socket: Socket) -> None:
        try:
            await socket.call("too early")
        except BrokerError as error:
            caught.append(error)
        assert socket.volatile.emit("too early") is Verdict.CLOSED

    async with serve(broker) as server, client(server) as peer:
        await peer.emit("echo")
        await peer.expect('42["echo"]')
    assert [str(error) for error in caught] == [
        "the socket is not in its namespace yet: it cannot be called in a middleware"
    ]


async def test_nothing_is_sent_to_a_socket_that_has_left(serve: Serve) -> None:
    broker = quick_broker()
    async with serve(broker) as server, client(server) as peer:
        socket = only(broker)
        socket.join("room")
        socket.disconnect()
        assert socket.emit("x") is Verdict.CLOSED
        assert socket.volatile.emit("x") is Verdict.CLOSED
        assert await socket.send_event("x") is Verdict.CLOSED
        assert broker.to("room").emit("x") == EmitResult()
        assert broker.emit("x") == EmitResult()
        socket.disconnect()  # once is enough
        socket.disconnect(close=True)
        await peer.expect("41")
        await peer.expect_close()


async def test_rooms_are_bounded_and_checked(serve: Serve) -> None:
    broker = quick_broker(limits=Limits(rooms_per_socket=3))
    async with serve(broker) as server, client(server):
        socket = only(broker)
        socket.join("a", "b", "a")
        socket.join("a", socket.id, "c")
        with pytest.raises(ValueError, match="3 rooms at most"):
            socket.join("d")
        assert socket.rooms == {socket.id, "a", "b", "c"}
        socket.leave("a", socket.id)
        assert socket.rooms == {socket.id, "b", "c"}
        for method in (socket.join, socket.leave, socket.to):
            with pytest.raises(TypeError, match="several arguments"):
                method(["a"])  # type: ignore[arg-type]


async def test_what_a_client_has_not_said_can_be_sent_on(serve: Serve) -> None:
    broker = quick_broker()
    broker.on("me")(lambda socket: (socket.handshake.auth, socket.claims))
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text('420["me"]')
        await peer.expect("430[{},{}]")


async def test_a_socket_with_too_many_rooms_keeps_no_other_out(serve: Serve) -> None:
    broker = quick_broker(limits=Limits(rooms_per_socket=1))
    async with serve(broker) as server, client(server), client(server), client(server):
        first, full, last = broker.sockets.sockets.values()
        full.join("its own")
        with pytest.raises(ValueError, match="1 rooms at most"):
            await broker.sockets_join("hall")
        assert broker.sockets.rooms["hall"] == {first.id, last.id}
        with pytest.raises(ValueError, match="bytes at most"):
            await broker.sockets_join("x" * 10_000)
    assert broker.sockets.rooms == {}


async def test_send_event_waits_for_room(serve: Serve) -> None:
    broker = quick_broker(
        ping_interval=25.0, limits=Limits(outbox_soft_bytes=10_000, outbox_hard_bytes=8_000_000)
    )
    async with serve(broker) as server, joined(server, "polling") as peer:
        socket = only(broker)
        sent: list[int] = []

        async def send() -> None:
            for number in range(4):
                assert await socket.send_event("ev", number, "x" * 9_000) is Verdict.QUEUED
                sent.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await settled()
            assert sent == [0, 1]  # one over the budget, then it waits
            cancelled = trio.CancelScope()
            with cancelled:
                nursery.start_soon(cancel_when_waiting, cancelled)
                await socket.send_event("never")
            assert cancelled.cancelled_caught
            for number in range(4):
                await peer.expect(f'42["ev",{number},"{"x" * 9_000}"]')


async def cancel_when_waiting(scope: trio.CancelScope) -> None:
    await settled()
    scope.cancel()


async def test_send_event_to_a_socket_that_leaves_meanwhile(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0, limits=Limits(outbox_soft_bytes=1_000, close_timeout=0.1))
    verdicts: list[Verdict] = []
    async with virtual_serve(broker) as server, joined(server, "polling"), trio.open_nursery() as nursery:
        socket = only(broker)
        socket.emit("ev", "x" * 2_000)

        async def send() -> None:
            verdicts.append(await socket.send_event("ev"))

        nursery.start_soon(send)
        await settled()
        socket.disconnect(close=True)
        with trio.fail_after(2):
            await settled()
    assert verdicts == [Verdict.CLOSED]


@pytest.mark.parametrize(
    ("overflow", "verdicts", "rest"),
    [
        ("drop_newest", "QQQDD", [0, 1, 2]),
        ("drop_oldest", "QQQQQ", [2, 3, 4]),
        ("keep_latest", "QQQQQ", [4]),
        ("disconnect", "QQQCC", None),
    ],
)
async def test_overflow_policies(serve: Serve, overflow: str, verdicts: str, rest: list[int] | None) -> None:
    broker = quick_broker(
        overflow=overflow, ping_interval=25.0, limits=Limits(outbox_messages=3, close_timeout=0.1)
    )
    reasons: list[DisconnectReason] = []
    broker.on("disconnect")(lambda socket, reason: reasons.append(reason))
    async with serve(broker) as server, joined(server, "polling") as peer:
        socket = only(broker)
        assert "".join(socket.emit("ev", number).name[0] for number in range(5)) == verdicts
        if rest is not None:
            await peer.expect(*(f'42["ev",{number}]' for number in rest))
            await settled()
            assert broker.statistics().queued_bytes == 0
        else:
            assert broker.emit("ev") == EmitResult(closed=1)
            await settled()
            assert reasons == [DisconnectReason.SLOW_CONSUMER]
            assert broker.statistics().dropped == {"slow consumer": 1, "closed": 2}
    missing = 6 if rest is None else 5 - len(rest)
    assert sum(broker.statistics().dropped.values()) == missing


async def test_acks_are_never_dropped(serve: Serve) -> None:
    broker = quick_broker(overflow="drop_newest", ping_interval=25.0, limits=Limits(outbox_messages=4))
    async with serve(broker) as server, joined(server, "polling") as peer:
        await peer.send(*(f'42{number}["echo"]' for number in range(2)))
        await settled()
        assert broker.emit("ev").dropped == 1
        await peer.expect('42["echo"]', "430[]", '42["echo"]', "431[]")


async def test_remote_sockets(serve: Serve) -> None:
    broker = quick_broker()
    async with serve(broker) as server, client(server) as peer:
        (remote,) = await broker.local.fetch_sockets()
        await remote.join("a", "b")
        await remote.leave("b")
        assert only(broker).rooms == {remote.id, "a"}
        assert remote.rooms == {remote.id}  # as it was when it was fetched
        assert remote.emit("ev", 1) == EmitResult(queued=1)
        await peer.expect('42["ev",1]')
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await remote.call("ask"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await peer.expect('420["ask"]')
            await peer.send_text("430[5]")
        assert answers == [5]
        with pytest.raises(AckTimeout):
            await remote.call("ask", timeout=0.01)
        await peer.receive()
        await remote.disconnect()
        await peer.expect("41")
        await remote.disconnect(close=True)  # is gone already


async def test_verbs_of_direct_sending(serve: Serve) -> None:
    broker = quick_broker()
    async with serve(broker) as server, client(server) as peer:
        socket = only(broker)
        assert socket.timeout(5).volatile.emit("a") is Verdict.QUEUED
        assert socket.timeout(5).emit("b") is Verdict.QUEUED
        assert socket.volatile.timeout(5).emit("c") is Verdict.QUEUED
        await peer.expect('42["a"]')
        await peer.expect('42["b"]')
        await peer.expect('42["c"]')
        with pytest.raises(AckTimeout):
            await socket.volatile.timeout(0.01).call("d")


async def test_server_side_emit_has_no_other_node() -> None:
    broker = Broker()
    assert await broker.server_side_emit("x", 1) == []
    assert await broker.of("/chat").server_side_emit("x", timeout=1) == []


async def test_bystanders_see_nothing_of_a_slow_consumer(serve: Serve) -> None:
    broker = quick_broker(
        ping_interval=25.0,
        limits=Limits(outbox_hard_bytes=50_000, outbox_soft_bytes=40_000, close_timeout=0.1),
    )
    async with serve(broker) as server, joined(server, "polling"), client(server) as other:
        results = [broker.emit("ev", "x" * 10_000) for _ in range(10)]
        assert sum(result.closed for result in results) == 6
        assert sum(result.queued for result in results) == 14
        for _ in range(10):
            assert str(await other.receive()).startswith('42["ev"')
        await settled()
        assert broker.statistics().sockets == {"/": 1}


async def test_namespaces_of_one_session_are_independent(serve: Serve) -> None:
    broker = quick_broker()
    broker.of("/other")
    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        first, second = await peer.join(), await peer.join("/other")
        assert first != second
        assert broker.statistics().sockets == {"/": 1, "/other": 1}
        only(broker).disconnect()
        await peer.expect("41")
        assert broker.of("/other").emit("x").queued == 1
        await peer.expect('42/other,["x"]')
        # What the client sent before it knew is passed over.
        await peer.send_text('42["echo"]')
        await peer.send_text("43/,1[]")
        await peer.send_text("41")
        await peer.join()
        await peer.emit("echo")
        await peer.expect('42["echo"]')


async def test_a_slow_goodbye_in_one_namespace_keeps_no_ghost_in_another(serve: Serve) -> None:
    broker = quick_broker()
    other = broker.of("/other")
    go_on = trio.Event()

    @other.use
    def identify(socket: Socket) -> None:
        socket.identity = "ada"
        socket.join("hall")

    @broker.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        await go_on.wait()

    async with serve(broker) as server:
        async with client(server) as peer:
            await peer.join("/other")
            (socket,) = other.sockets.values()
            await peer.abort()
        await settled()
        assert not socket.connected
        assert other.sockets == other.rooms == {}
        assert other.emit("x").queued == 0
        go_on.set()


async def test_calls_without_an_answer_are_counted_by_outcome(virtual_serve: Serve) -> None:
    broker = quick_broker(limits=Limits(outstanding_acks=1))
    caught: list[tuple[str, int]] = []

    async def ask(timeout: float) -> None:
        try:
            await socket.call("ask", timeout=timeout)
        except Unanswered as error:
            caught.append((error.word, error.code))

    async with virtual_serve(broker) as server, client(server) as peer, trio.open_nursery() as nursery:
        socket = only(broker)
        await ask(0.01)
        with trio.move_on_after(0.01):
            await ask(10)
        await broker.call("ask", timeout=0.01)
        nursery.start_soon(ask, 10)
        await settled()
        await ask(10)
        await broker.call("ask", timeout=0.01)
        nursery.start_soon(peer.send_text, "41")
        await settled()
        await ask(10)
        assert caught == [("timeout", 500), ("too many", 502), ("disconnected", 501), ("disconnected", 501)]
        assert broker.statistics().acks == {"timeout": 2, "cancelled": 1, "too many": 2, "disconnected": 2}
