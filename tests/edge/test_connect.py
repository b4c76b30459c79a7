"""Joining and leaving namespaces: cases 102 to 119 and 127 of the table in README.md."""

from __future__ import annotations

import json
import socket as plain_socket
from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, DisconnectReason, NotRunning, Server, Socket
from tests.duplex import TRANSPORTS, duplex, joined
from tests.peers import PollingPeer, client, joined_id, quick_broker, settled, websocket

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]


def greeting(broker: Broker, namespace: str = "/") -> list[DisconnectReason]:
    """Have each socket told its auth, and collect how sockets end."""
    reasons: list[DisconnectReason] = []

    @broker.of(namespace).on("connect")
    def connect(socket: Socket) -> None:
        socket.emit("auth", dict(socket.handshake.auth))

    @broker.of(namespace).on("disconnect")
    def disconnect(socket: Socket, reason: DisconnectReason) -> None:
        reasons.append(reason)

    return reasons


@both
async def test_102_connect_is_answered_with_an_id_of_its_own(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    greeting(broker)
    async with serve(broker) as server, duplex(server, transport) as peer:
        await peer.send("40")
        answer = await peer.receive()
        assert isinstance(answer, str)
        assert list(json.loads(answer[2:])) == ["sid"]
        assert joined_id(answer) != peer.peer.handshake["sid"]
        await peer.expect('42["auth",{}]')


@both
async def test_103_auth_is_the_object_of_the_connect(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    greeting(broker)
    async with serve(broker) as server, duplex(server, transport) as peer:
        await peer.join("/", {"token": "123"})
        await peer.expect('42["auth",{"token":"123"}]')


@both
@pytest.mark.parametrize("packet", ["40/custom", "40/custom,", "40/custom,{}"])
async def test_104_custom_namespace(serve: Serve, transport: str, packet: str) -> None:
    broker = quick_broker()
    greeting(broker, "/custom")
    async with serve(broker) as server, duplex(server, transport) as peer:
        await peer.send(packet)
        joined_id(await peer.receive(), "/custom")
        await peer.expect('42/custom,["auth",{}]')


@both
async def test_105_unknown_namespace_is_refused_and_the_session_stays(serve: Serve, transport: str) -> None:
    async with serve(quick_broker()) as server, duplex(server, transport) as peer:
        await peer.send("40/random")
        await peer.expect('44/random,{"message":"Invalid namespace"}')
        await peer.join()


async def test_106_garbage_closes(serve: Serve) -> None:
    async with serve(quick_broker()) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("4abc")
        assert (await peer.expect_close()).code == 1002


@both
async def test_106_112_no_connect_in_time_closes(virtual_serve: Serve, transport: str) -> None:
    broker = quick_broker(connect_timeout=0.05)
    async with virtual_serve(broker) as server, duplex(server, transport) as peer:
        # A refusal does not stop the clock.
        await peer.send("40/random")
        await peer.expect('44/random,{"message":"Invalid namespace"}')
        await peer.expect_end()
    assert broker.statistics().violations == {"CONNECT_TIMEOUT": 1}


async def test_106_joining_stops_the_clock_for_good(virtual_serve: Serve) -> None:
    broker = quick_broker(connect_timeout=0.05, ping_interval=0.1)
    async with virtual_serve(broker) as server, websocket(server, pongs=False) as peer:
        await peer.opened()
        await peer.join()
        await peer.send_text("41")
        await peer.expect("2")  # comes after the connect timeout


@both
async def test_107_leaving_is_not_answered(virtual_serve: Serve, transport: str) -> None:
    broker = quick_broker(ping_interval=0.05)
    reasons = greeting(broker)
    async with virtual_serve(broker) as server, duplex(server, transport) as peer:
        await peer.join()
        await peer.expect('42["auth",{}]')
        await peer.send("41")
        if isinstance(peer.peer, PollingPeer):
            assert await peer.peer.packets() == ["2"]
        else:
            peer.peer.pongs = False
            await peer.expect("2")
    assert reasons == [DisconnectReason.CLIENT_NAMESPACE_DISCONNECT]


@both
@pytest.mark.parametrize("packet", ["41/custom", "41/custom,"])
async def test_108_leaving_one_namespace_leaves_the_others(serve: Serve, transport: str, packet: str) -> None:
    broker = quick_broker()
    reasons = greeting(broker)
    custom = greeting(broker, "/custom")
    async with serve(broker) as server, duplex(server, transport) as peer:
        for namespace in ("/", "/custom"):
            await peer.join(namespace)
            await peer.receive()
        await peer.send(packet)
        await peer.send('42["echo","x"]')
        await peer.expect('42["echo","x"]')
        assert (reasons, custom) == ([], [DisconnectReason.CLIENT_NAMESPACE_DISCONNECT])


async def test_109_two_connects(serve: Serve) -> None:
    async with serve(quick_broker()) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        await peer.send("40")
        assert (await peer.get()).text == "6\x1e1"


async def test_110_event_before_connect(serve: Serve) -> None:
    async with serve(quick_broker()) as server:
        peer = await PollingPeer.open(server)
        await peer.send('42["echo"]')
        assert (await peer.get()).text == "6\x1e1"


async def test_111_garbage_behind_connect(serve: Serve) -> None:
    broker = quick_broker()
    reasons = greeting(broker)
    async with serve(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.send("40", "4abc")
        packets = await peer.packets()
        joined_id(packets[0])
        assert packets[1:] == ['42["auth",{}]', "6", "1"]
        await settled()
        assert reasons == [DisconnectReason.FORCED_CLOSE]


@both
async def test_113_shutdown(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    reasons = greeting(broker)
    stopping = trio.Event()
    stopped = trio.Event()

    async def run(task_status: trio.TaskStatus[Server]) -> None:
        async with trio.open_nursery() as inner:
            task_status.started(await inner.start(broker.serve, "127.0.0.1", 0))
            await stopping.wait()
            inner.cancel_scope.cancel()
        stopped.set()

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(run)
        async with duplex(server, transport) as peer:
            await peer.join()
            await peer.expect('42["auth",{}]')
            stopping.set()
            await settled()
            if not isinstance(peer.peer, PollingPeer):
                assert (await peer.peer.expect_close()).code == 1001
        await stopped.wait()
    assert reasons == [DisconnectReason.SERVER_SHUTTING_DOWN]
    with plain_socket.socket() as again:
        again.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))  # the port is free


async def test_113_a_broker_that_does_not_run(serve: Serve) -> None:
    broker = quick_broker()
    assert broker.emit("x").queued == 0
    with trio.fail_after(1):
        await broker.drain()
    left, _right = trio.testing.memory_stream_pair()
    with pytest.raises(NotRunning):
        await broker.handle_stream(left)


@both
async def test_114_disconnect_with_close_leaves_all_namespaces(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    names = ["/", "/foo", "/bar"]
    reasons = {name: greeting(broker, name) for name in names}
    async with serve(broker) as server, duplex(server, transport) as peer:
        for name in names:
            await peer.join(name)
            await peer.receive()
        next(iter(broker.of("/bar").sockets.values())).disconnect(close=True)
        await peer.expect("41", "41/foo,", "41/bar,")
        await peer.expect_end()
        await settled()
    assert reasons == {name: [DisconnectReason.SERVER_NAMESPACE_DISCONNECT] for name in names}


@pytest.mark.parametrize("how", ["client", "server", "session"])
async def test_115_disconnecting_sees_rooms_disconnect_none(serve: Serve, how: str) -> None:
    broker = quick_broker()
    seen: list[Any] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        socket.join("a", "b")

    @broker.on("disconnecting")
    def disconnecting(socket: Socket, reason: DisconnectReason) -> None:
        seen.append(("disconnecting", socket.rooms == {socket.id, "a", "b"}, socket.connected))

    @broker.on("disconnect")
    def disconnect(socket: Socket, reason: DisconnectReason) -> None:
        seen.append(("disconnect", socket.rooms, socket.connected))

    async with serve(broker) as server, client(server) as peer:
        if how == "client":
            await peer.send_text("41")
        elif how == "server":
            await broker.disconnect_sockets()
        else:
            await peer.close()
        await settled()
        assert seen == [("disconnecting", True, False), ("disconnect", frozenset(), False)]
        assert broker.sockets.rooms == {}


def test_116_names_of_the_default_namespace() -> None:
    broker = Broker()
    assert broker.of("") is broker.of("/") is broker.sockets
    assert broker.of("abc") is broker.of("/abc")

    @broker.on("connection")
    def connect(socket: Socket) -> None: ...

    with pytest.raises(ValueError, match="off"):
        broker.of("/").on("connect")(connect)
    broker.off("connection")
    broker.of("/").on("connect")(connect)


@both
async def test_117_lost_transport_ends_every_socket(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    reasons = {name: greeting(broker, name) for name in ("/", "/foo")}
    async with serve(broker) as server:
        async with duplex(server, transport) as peer:
            for name in reasons:
                await peer.join(name)
                await peer.receive()
            if isinstance(peer.peer, PollingPeer):
                get = await peer.peer.begin_get()
                await get.abort()
        await settled()
    expected = {"polling": DisconnectReason.TRANSPORT_ERROR, "websocket": DisconnectReason.TRANSPORT_CLOSE}
    assert reasons == {name: [expected[transport]] for name in reasons}


@both
async def test_118_no_event_after_the_disconnect_event(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    seen: list[str] = []

    @broker.on("note")
    async def note(socket: Socket, data: Any) -> None:
        seen.append(f"note {data}")
        await trio.lowlevel.checkpoint()

    @broker.on("disconnect")
    def disconnect(socket: Socket) -> None:
        seen.append("disconnect")

    async with serve(broker) as server:
        async with joined(server, transport) as peer:
            await peer.send(
                '42["note",1]',
                '451-["note",{"_placeholder":true,"num":0}]',
                b"\x02",
                "41",
                "40",
                '42["note",3]',
            )
            await settled()
    assert seen.index("note 1") == 0
    assert "note b'\\x02'" not in seen[seen.index("disconnect") :]


async def test_119_no_room_after_the_end(serve: Serve) -> None:
    broker = quick_broker()
    sockets: list[Socket] = []
    broker.on("connect")(sockets.append)

    async with serve(broker) as server:
        async with client(server):
            pass
        await settled()
        sockets[0].join("late")
        assert (broker.sockets.rooms, sockets[0].rooms) == ({}, frozenset())


async def test_119_no_room_of_a_socket_that_a_middleware_refuses(serve: Serve) -> None:
    broker = quick_broker()

    @broker.of("/strict").use
    async def refuse(socket: Socket) -> None:
        socket.join("room")
        assert socket.rooms == {socket.id, "room"}
        raise ValueError("secret text")

    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("40/strict")
        await peer.expect('44/strict,{"message":"internal error"}')
        assert broker.of("/strict").rooms == {}


async def test_119_rooms_of_a_middleware_count_from_the_entry_on(serve: Serve) -> None:
    broker = quick_broker()
    going_on = trio.Event()

    @broker.use
    async def wait(socket: Socket) -> None:
        socket.join("room", "other")
        socket.leave("other", socket.id)
        assert socket.emit("too early").name == "CLOSED"
        await going_on.wait()

    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("40")
        await settled()
        assert broker.to("room").emit("too early").queued == 0
        going_on.set()
        joined_id(await peer.receive())
        assert broker.to("room").emit("x").queued == 1
        await peer.expect('42["x"]')
        assert list(broker.sockets.rooms) == ["room"]


async def test_127_query_is_the_sessions_auth_the_namespaces(serve: Serve) -> None:
    broker = quick_broker()
    seen: dict[str, Any] = {}

    def connect(socket: Socket) -> None:
        shake = socket.handshake
        seen[socket.namespace.name] = (shake.query["user"], dict(shake.auth), shake.address, shake.xdomain)

    for name in ("/", "/foo"):
        broker.of(name).on("connect")(connect)
    async with serve(broker) as server, websocket(server, "/socket.io/?EIO=4&user=7") as peer:
        await peer.opened()
        await peer.join("/", {"a": 1})
        await peer.join("/foo", {"b": 2})
    assert seen == {"/": ("7", {"a": 1}, "127.0.0.1", False), "/foo": ("7", {"b": 2}, "127.0.0.1", False)}
