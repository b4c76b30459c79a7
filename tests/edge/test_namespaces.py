"""Dynamic namespaces and middlewares: cases 170 to 177 of the table in README.md."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio

from broker import Broker, ConnectRefused, EventError, Limits, Socket
from tests.duplex import TRANSPORTS, duplex
from tests.peers import client, joined_id, quick_broker, settled, websocket

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]
DYNAMIC = re.compile(r"^/dynamic-\d+$")


@both
async def test_170_pattern(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    family = broker.of(DYNAMIC)

    @family.on("connect")
    def connect(socket: Socket) -> None:
        socket.join("room")

    async with serve(broker) as server, duplex(server, transport) as peer:
        await peer.join("/dynamic-101")
        assert list(family.children) == ["/dynamic-101"]
        child = broker.of("/dynamic-101")
        assert child is family.children["/dynamic-101"]
        assert family.emit("a").queued == 1
        assert [choice.emit("b").queued for choice in family.broadcasts()] == [1]
        child.emit("c")
        child.to("room").emit("d")
        await peer.expect(*(f'42/dynamic-101,["{name}"]' for name in "abcd"))
        await peer.send("40/dynamic-x")
        await peer.expect('44/dynamic-x,{"message":"Invalid namespace"}')
        assert set(broker.namespaces) == {"/", "/dynamic-101"}


async def test_171_predicate_that_waits_makes_one_namespace(serve: Serve) -> None:
    broker = quick_broker()
    made: list[str] = []
    asked: list[Any] = []
    going_on = trio.Event()
    broker.on_new_namespace(lambda namespace: made.append(namespace.name))

    @broker.of
    async def family(name: str, auth: Mapping[str, Any]) -> bool:
        asked.append((name, dict(auth)))
        await going_on.wait()
        return name == "/late"

    async with serve(broker) as server, websocket(server) as one, websocket(server) as two:
        for number, peer in enumerate((one, two)):
            await peer.opened()
            await peer.send_text(f'40/late,{{"n":{number}}}')
        await settled()
        going_on.set()
        for peer in (one, two):
            joined_id(await peer.receive(), "/late")
        assert broker.of("/late").emit("x").queued == 2
        for peer in (one, two):
            await peer.expect('42/late,["x"]')
            await peer.send_text("40/other")
            await peer.expect('44/other,{"message":"Invalid namespace"}')
    assert made == ["/late"]
    assert sorted(asked[:2], key=str) == [("/late", {"n": 0}), ("/late", {"n": 1})]


async def test_171_predicate_that_fails_admits_nobody(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    broker = quick_broker()

    @broker.of
    def family(name: str, auth: Mapping[str, Any]) -> bool:
        raise KeyError("secret")

    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        with caplog.at_level(logging.CRITICAL, logger="broker"):
            await peer.send_text("40/x")
            await peer.expect('44/x,{"message":"Invalid namespace"}')
        assert broker.statistics().events == {"predicate failed": 1}


@pytest.mark.parametrize("cleanup", [True, False])
@pytest.mark.parametrize("how", ["client", "server", "session", "refused"])
async def test_172_cleanup_of_empty_namespaces(serve: Serve, cleanup: bool, how: str) -> None:
    broker = quick_broker(cleanup_empty_child_namespaces=cleanup)
    family = broker.of(DYNAMIC)

    @family.use
    async def refuse(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        if socket.handshake.auth.get("bad"):
            raise ConnectRefused("bad")

    broker.of("/static")
    async with serve(broker) as server, client(server, "/static") as other:
        async with websocket(server) as peer:
            await peer.opened()
            if how == "refused":
                await peer.send_text('40/dynamic-1,{"bad":true}')
                await peer.expect('44/dynamic-1,{"message":"bad"}')
            else:
                await peer.join("/dynamic-1")
                assert broker.of("/dynamic-1") is family.children["/dynamic-1"]
                assert len(broker.namespaces["/dynamic-1"].sockets) == 1
            if how == "client":
                await peer.send_text("41/dynamic-1")
            elif how == "server":
                await broker.of("/dynamic-1").disconnect_sockets()
            elif how == "session":
                await peer.close()
            await settled()
            assert ("/dynamic-1" in broker.namespaces) == (not cleanup)
            assert ("/dynamic-1" in family.children) == (not cleanup)
        await other.send_text("41/static")
        await settled()
        assert "/static" in broker.namespaces
        # It can be made again.
        async with client(server, "/dynamic-1"):
            assert broker.statistics().sockets["/dynamic-1"] == 1


async def test_172_a_namespace_with_another_client_stays(serve: Serve) -> None:
    broker = quick_broker(cleanup_empty_child_namespaces=True)
    broker.of(DYNAMIC)
    async with serve(broker) as server, client(server, "/dynamic-1") as stays:
        async with client(server, "/dynamic-1") as leaves:
            assert len(broker.of("/dynamic-1").sockets) == 2
            await leaves.close()
        await settled()
        assert broker.of("/dynamic-1").emit("x").queued == 1
        await stays.expect('42/dynamic-1,["x"]')


async def test_172_a_goodbye_to_the_old_namespace_leaves_the_new_one(serve: Serve) -> None:
    broker = quick_broker(cleanup_empty_child_namespaces=True)
    family = broker.of(DYNAMIC)
    go_on = trio.Event()

    @family.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        if socket.handshake.auth.get("slow"):
            await go_on.wait()

    async with serve(broker) as server, websocket(server) as slow, client(server, "/dynamic-1") as other:
        await slow.opened()
        await slow.join("/dynamic-1", {"slow": True})
        await slow.send_text("41/dynamic-1")
        await settled()
        await other.send_text("41/dynamic-1")
        await settled()
        assert "/dynamic-1" not in broker.namespaces
        await other.join("/dynamic-1")
        go_on.set()
        await settled()
        assert broker.of("/dynamic-1").emit("x").queued == 1
        assert family.emit("y").queued == 1
        await other.expect('42/dynamic-1,["x"]')
        await other.expect('42/dynamic-1,["y"]')


def test_173_a_namespace_made_by_hand_belongs_to_the_family() -> None:
    broker = Broker()
    family = broker.of(DYNAMIC)
    child = broker.of("/dynamic-101")
    assert child.registry is family.registry
    assert child.parent is family
    assert broker.of("/other").parent is None


@both
async def test_174_middlewares_in_order(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    seen: list[str] = []

    @broker.use
    def first(socket: Socket) -> None:
        seen.append("first")

    @broker.use
    async def second(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        seen.append("second")
        auth = socket.handshake.auth
        if "token" not in auth:
            raise ConnectRefused("not authorized", data={"content": "Please retry later"})
        if auth["token"] == "coded":
            raise EventError("expired", "too old", {"by": 3})

    @broker.use
    def third(socket: Socket) -> None:
        seen.append("third")

    broker.on("connect")(lambda socket: seen.append("connect"))
    async with serve(broker) as server, duplex(server, transport) as peer:
        await peer.send("40")
        await peer.expect('44{"message":"not authorized","data":{"content":"Please retry later"}}')
        assert seen == ["first", "second"]
        await peer.send('40{"token":"coded"}')
        await peer.expect('44{"message":"too old","data":{"code":"expired","data":{"by":3}}}')
        seen.clear()
        await peer.join("/", {"token": "x"})
        assert seen == ["first", "second", "third", "connect"]
    assert broker.statistics().refusals == {"connect": 2}


async def test_174_too_many_refusals_end_the_session(serve: Serve) -> None:
    broker = quick_broker(limits=Limits(refused_connects=2))
    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        for _ in range(2):
            await peer.send_text("40/x")
            await peer.expect('44/x,{"message":"Invalid namespace"}')
        await peer.send_text("40/x")
        await peer.receive()
        assert (await peer.expect_close()).reason == "too many refused CONNECTs"


@pytest.mark.parametrize("how", ["leaves", "closes"])
async def test_175_client_that_goes_during_a_middleware(serve: Serve, how: str) -> None:
    broker = quick_broker()
    seen: list[str] = []

    @broker.use
    async def slow(socket: Socket) -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("cancelled")

    for event in ("connect", "disconnecting", "disconnect"):
        broker.on(event)(lambda socket, event=event: seen.append(event))
    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("40")
        await settled()
        assert broker.statistics().sockets == {"/": 0}
        if how == "leaves":
            await peer.send_text("41")
            await settled()
            # The session goes on, and there is no answer to what was withdrawn.
            await peer.send_text("40/x")
            await peer.expect('44/x,{"message":"Invalid namespace"}')
        else:
            await peer.close()
            await settled()
        assert seen == ["cancelled"]


async def test_175_a_middleware_that_goes_on_regardless(serve: Serve) -> None:
    """Even one that outlives the cancellation lets nobody in."""
    broker = quick_broker()
    seen: list[str] = []

    @broker.use
    async def stubborn(socket: Socket) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append("swallowed")

    broker.on("connect")(lambda socket: seen.append("connect"))
    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("40")
        await settled()
        await peer.send_text("41")
        await settled()
        assert seen == ["swallowed"]
        assert broker.statistics().sockets == {"/": 0}


async def test_176_connected_is_false_in_a_middleware(serve: Serve) -> None:
    broker = quick_broker()
    seen: list[bool] = []
    broker.use(lambda socket: seen.append(socket.connected))
    broker.on("connect")(lambda socket: seen.append(socket.connected))
    async with serve(broker) as server, client(server):
        assert seen == [False, True]


async def test_177_each_namespace_has_its_own(serve: Serve) -> None:
    broker = quick_broker()
    seen: list[str] = []
    broker.use(lambda socket: seen.append("/"))
    broker.of("/chat").use(lambda socket: seen.append("/chat"))
    async with serve(broker) as server:
        async with client(server, "/chat"):
            assert seen == ["/chat"]
        async with client(server):
            assert seen == ["/chat", "/"]


async def test_bounds_on_namespaces(serve: Serve) -> None:
    """SIO-NSP-3 and LIM-6."""
    broker = quick_broker(limits=Limits(namespaces_per_session=2, dynamic_namespaces=1))
    broker.of(DYNAMIC)
    async with serve(broker) as server, client(server) as peer, websocket(server) as other:
        await peer.join("/dynamic-1")
        await peer.send_text("40/dynamic-2")
        await peer.expect('44/dynamic-2,{"message":"Too many namespaces"}')
        await other.opened()
        await other.send_text("40/dynamic-2")
        await other.expect('44/dynamic-2,{"message":"Invalid namespace"}')
    assert broker.statistics().refusals == {"connect": 2, "dynamic namespaces": 1}


async def test_connect_handler_that_refuses_or_fails(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    broker = quick_broker()
    ended: list[Any] = []

    @broker.on("connect")
    async def connect(socket: Socket) -> None:
        await trio.lowlevel.checkpoint()
        if socket.handshake.auth.get("fail"):
            raise ValueError("secret")
        raise ConnectRefused("too late")

    broker.on("disconnect")(lambda socket, reason: ended.append(reason.value))
    async with serve(broker) as server, client(server) as peer:
        await peer.expect("41")
        with caplog.at_level(logging.CRITICAL, logger="broker"):
            await peer.join("/", {"fail": True})
            await peer.emit("echo", 1)
            await peer.expect('42["echo",1]')
    assert ended == ["server namespace disconnect", "transport close"]
    assert broker.statistics().events == {"failed": 1}
