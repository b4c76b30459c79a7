"""Nodes that hear each other over a bus in memory: every verb that reaches over, and what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import frozen

from broker import (
    NO_ACK,
    AckTimeout,
    Broker,
    BusRefused,
    BusUnavailable,
    EventError,
    Gap,
    Limits,
    Server,
    Socket,
)
from broker.adapters.requests import Request
from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.options import BroadcastOptions
from tests.duplex import joined
from tests.peers import RawWebSocket, client, quick_broker, until

from .hub import Hub

Serve = Callable[..., Any]
Kind = MessageType


@frozen
class Node:
    broker: Broker
    server: Server
    peer: RawWebSocket
    socket: Socket


@asynccontextmanager
async def node(
    serve: Serve, hub: Hub, prepare: Callable[[Broker], None] = lambda broker: None, **options: Any
) -> AsyncIterator[Node]:
    broker = quick_broker(adapter=hub, ping_interval=1000.0, **options)
    prepare(broker)
    async with serve(broker) as server, client(server) as peer:
        (socket,) = broker.sockets.sockets.values()
        yield Node(broker, server, peer, socket)


@asynccontextmanager
async def two(
    serve: Serve, hub: Hub, prepare: Callable[[Broker], None] = lambda broker: None, **options: Any
) -> AsyncIterator[tuple[Node, Node]]:
    async with node(serve, hub, prepare, **options) as a, node(serve, hub, prepare, **options) as b:
        yield a, b


def inject(hub: Hub, at: Node, kind: MessageType, **fields: Any) -> None:
    """Send a node a message as one that is not a broker of ours would."""
    (bus,) = [bus for bus in hub.nodes if bus.host.events is at.broker._engine.counters.events]
    bus.links["/"].receive(ClusterMessage(type=kind, uid="foreign", namespace="/", **fields))


async def test_events_reach_the_sockets_of_other_nodes(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub()) as (a, b):
        b.socket.join("room")
        assert a.broker.emit("all", 1, b"\x01").queued == 1
        for one in (a, b):
            await one.peer.expect('451-["all",1,{"_placeholder":true,"num":0}]')
            await one.peer.expect(b"\x01")
        a.broker.to("room").emit("some")
        a.broker.except_("room").emit("rest")
        a.socket.broadcast.emit("others")
        a.broker.local.emit("here")
        b.broker.emit("end")
        for text in ("rest", "here", "end"):
            await a.peer.expect(f'42["{text}"]')
        for text in ("some", "others", "end"):
            await b.peer.expect(f'42["{text}"]')
        for number in range(2):
            a.broker.to(b.socket.id).volatile.emit("now or never", number)
        b.broker.emit("end")
        await b.peer.expect('42["now or never",0]')
        await b.peer.expect('42["end"]')


async def test_the_policy_of_an_emit_holds_on_every_node(virtual_serve: Serve) -> None:
    hub = Hub()
    slow = quick_broker(adapter=hub, ping_interval=1000.0, limits=Limits(outbox_messages=3))
    async with (
        node(virtual_serve, hub) as a,
        virtual_serve(slow) as server,
        joined(server, "polling") as peer,
    ):
        a.broker.overflow("keep_latest", key="k").emit("price", 1)
        a.broker.overflow("drop_oldest").emit("hint")
        a.broker.overflow("keep_latest", key="k").emit("price", 2)
        slow.emit("fill")
        a.broker.overflow("drop_newest").emit("too much")
        a.broker.overflow("wait").emit("too much")
        a.broker.overflow("drop_oldest").emit("hint", "newer")
        assert dict(slow.statistics().dropped) == {"replaced": 1, "newest": 1, "would wait": 1, "oldest": 1}
        await peer.expect('42["price",2]', '42["fill"]', '42["hint","newer"]')
        (socket,) = slow.sockets.sockets.values()
        for _ in range(4):
            a.broker.overflow("disconnect").emit("not to be missed")
        await until(lambda: not socket.connected)


@pytest.mark.parametrize(
    "odd", ["drop_newest", [], ["block"], [1], ["drop_newest", "k"], ["keep_latest", "k", "l"], {"a": 1}]
)
async def test_an_odd_policy_of_another_node_is_none(virtual_serve: Serve, odd: Any) -> None:
    hub = Hub()
    async with node(virtual_serve, hub, overflow="drop_newest") as a:
        options = BroadcastOptions(flags={"overflow": odd})
        inject(hub, a, Kind.BROADCAST, event=["fine"], options=options)
        await a.peer.expect('42["fine"]')
        assert a.socket.connected


async def test_rooms_and_disconnects_reach_over(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub()) as (a, b):
        await a.broker.sockets_join("r", "s")
        await a.broker.in_("r").sockets_leave("s")
        await a.broker.in_(b.socket.id).sockets_join("only b")
        assert b.socket.rooms == {b.socket.id, "r", "only b"}
        assert a.socket.rooms == {a.socket.id, "r"}
        await a.broker.local.sockets_leave("r")
        assert b.socket.rooms == {b.socket.id, "r", "only b"}
        await a.broker.in_("only b").disconnect_sockets()
        await b.peer.expect("41")
        assert not b.socket.connected


async def test_fetch_sockets_of_all_nodes(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub()) as (a, b):
        b.socket.join("room")
        b.socket.data["name"] = "Ada"
        found = await a.broker.fetch_sockets()
        assert found.complete
        assert [one.id for one in found] == [a.socket.id, b.socket.id]
        (remote,) = await a.broker.in_("room").fetch_sockets()
        assert remote.rooms == {b.socket.id, "room"}
        assert remote.data == {"name": "Ada"}
        assert remote.handshake.headers == b.socket.handshake.headers
        assert abs((remote.handshake.time - b.socket.handshake.time).total_seconds()) < 0.001
        assert remote.handshake.query["EIO"] == "4"
        assert len(await a.broker.local.fetch_sockets()) == 1

        remote.emit("hello")
        await remote.join("x")
        assert "x" in b.socket.rooms
        await remote.leave("x")
        assert "x" not in b.socket.rooms
        await b.peer.expect('42["hello"]')
        with pytest.raises(AckTimeout):
            await remote.call("question", timeout=0.5)
        await b.peer.expect('420["question"]')
        await remote.disconnect()
        await b.peer.expect("41")


async def test_acks_of_all_nodes(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub()) as (a, b):

        async def answer(one: Node, text: str) -> None:
            question = await one.peer.receive()
            assert str(question).endswith('["question",7]')
            number = str(question)[2:].split("[")[0]
            await one.peer.send_text(f"43{number}{text}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, a, "[1,2]")
            nursery.start_soon(answer, b, "[2,3]")
            acks = await a.broker.call("question", 7, timeout=5)
        # The bus carries one value of each ack, and not whose it is.
        assert sorted(acks.responses) == [("", 2), (a.socket.id, (1, 2))]
        assert acks.complete

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, b, "[]")
            acks = await a.broker.to(b.socket.id).call("question", 7, timeout=5)
        assert acks.responses == [(b.socket.id, None)]

        acks = await a.broker.to("nobody").call("question", timeout=5)
        assert (acks.responses, acks.complete) == ([], True)


async def test_acks_that_do_not_come(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub()) as (a, b):
        acks = await a.broker.call("question", timeout=0.5)
        assert (acks.responses, acks.missing, acks.silent) == ([], ["", a.socket.id], [])
        assert not acks.complete
        assert len(b.socket.acks) == 0
        # One that leaves first: the bus has no word for it.
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def leave() -> None:
                await b.peer.expect('420["question"]')
                await b.peer.expect('421["again"]')
                await b.peer.send_text("41")

            acks = await a.broker.to(b.socket.id).call("again", timeout=0.5)
        assert acks.missing == [b.socket.id]


async def test_silent_nodes_are_named(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, b):
        silent = (hub.nodes[1].uid,)
        hub.drops = lambda message: message.uid != silent[0]
        found = await a.broker.fetch_sockets()
        assert ([one.id for one in found], found.silent) == ([a.socket.id], silent)
        acks = await a.broker.to(b.socket.id).call("x", timeout=1)
        assert acks.silent == list(silent)
        answers = await a.broker.server_side_emit("x", timeout=1)
        assert (answers, answers.silent) == ([], silent)
        (remote,) = (await b.broker.to(b.socket.id).fetch_sockets())[:1]
        assert a.broker.statistics().events["silent node"] == 3
        assert remote.id == b.socket.id


async def test_a_bus_that_is_away(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, b):
        hub.away = True
        result = a.broker.emit("x")
        assert (result.queued, result.unpublished) == (1, 1)
        await a.peer.expect('42["x"]')
        with pytest.raises(BusUnavailable):
            await a.broker.sockets_join("r")
        with pytest.raises(BusUnavailable):
            await a.broker.sockets_leave("q")
        assert a.socket.rooms == {a.socket.id, "r"}
        assert (await a.broker.fetch_sockets()).silent == ("?",)
        assert (await a.broker.server_side_emit("x")).silent == ("?",)
        assert (await a.broker.call("y", timeout=0.1)).silent == ["?"]
        with pytest.raises(BusUnavailable):
            await a.broker.disconnect_sockets()
        await a.peer.expect('420["y"]')
        await a.peer.expect("41")
        assert b.socket.connected


async def test_a_bus_that_goes_away_between_count_and_question(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, _):

        class Fickle:
            async def peers(self) -> int:
                hub.away = True
                await trio.lowlevel.checkpoint()
                return 1

        link: Any = a.broker.sockets.link
        link._carrier.peers = Fickle().peers
        assert (await a.broker.fetch_sockets()).silent == ("?",)


async def test_names_that_cannot_be_asked_for(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, _):

        def lose(message: ClusterMessage) -> bool:
            hub.away = True
            return True

        hub.drops = lose
        assert (await a.broker.fetch_sockets()).silent == ("?",)


async def test_a_node_that_leaves_is_not_waited_for(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, _):
        gone = hub.nodes[1].uid
        hub.drops = lambda message: True
        link: Any = a.broker.sockets.link
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def leave() -> None:
                await trio.sleep(0.5)
                link.node_left(gone)
                link.node_left(gone)

            started = trio.current_time()
            assert (await a.broker.fetch_sockets()).silent == (gone,)
        assert trio.current_time() - started < 1


def serve_events(broker: Broker) -> None:
    @broker.on_server_event("add")
    def add(x: int, y: int) -> int:
        return x + y

    @broker.on_server_event("later")
    async def later(x: int) -> tuple[int, int]:
        await trio.sleep(0.1)
        return x, x

    @broker.on_server_event("refuse")
    def refuse() -> None:
        raise EventError("no", "not today")

    @broker.on_server_event("refuse in a nursery")
    async def refuse_in_a_nursery() -> None:
        async with trio.open_nursery():
            refuse()

    @broker.on_server_event("fail")
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("oh")

    @broker.on_server_event("quiet")
    def quiet() -> Any:
        return NO_ACK

    @broker.on_server_event("odd")
    def odd() -> Any:
        return ["unsendable"]


async def test_events_for_the_nodes_themselves(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with two(serve, Hub(), serve_events) as (a, b):
        assert await a.broker.server_side_emit("add", 1, 2) == []
        assert await a.broker.server_side_emit("add", 1, 2, timeout=1) == [3]
        assert await a.broker.sockets.server_side_emit("later", 4, timeout=1) == [4]
        for event in ("refuse", "refuse in a nursery"):
            assert await a.broker.server_side_emit(event, timeout=1) == [
                {"error": {"code": "no", "message": "not today"}}
            ]
        assert await a.broker.server_side_emit("nobody", timeout=1) == [None]
        assert not caplog.records
        assert await a.broker.server_side_emit("fail", timeout=1) == [
            {"error": {"code": "internal", "message": "internal error"}}
        ]
        assert "'fail'" in caplog.text
        assert (await a.broker.server_side_emit("quiet", timeout=0.05)).silent != ()
        assert await a.broker.server_side_emit("odd", timeout=1) == [None]
        assert b.broker.statistics().events == {
            "unhandled server event": 1,
            "failed": 1,
            "unsendable data": 1,
        }
        with pytest.raises(ValueError, match="reserved"):
            await a.broker.server_side_emit("connect")
        with pytest.raises(ValueError, match="handled already"):
            serve_events(a.broker)


async def test_data_without_a_form_is_left_out(virtual_serve: Serve) -> None:
    async with two(virtual_serve, Hub()) as (a, b):
        b.socket.data["x"] = "unsendable"
        found = await a.broker.fetch_sockets()
        assert [one.data for one in found] == [{}, {}]
        with pytest.raises(TypeError):
            a.broker.emit("unsendable")


async def test_what_makes_no_sense_is_counted(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, _):
        deep: Any = []
        for _ in range(300):
            deep = [deep]
        for event in (["connect"], ["deep", deep], ["set", object()]):
            inject(hub, a, Kind.BROADCAST, event=event)
            inject(hub, a, Kind.BROADCAST, event=event, request_id="1")
        assert a.broker.statistics().events["malformed bus message"] == 6
        many = tuple(map(str, range(2000)))
        inject(hub, a, Kind.SOCKETS_JOIN, rooms=many)
        assert a.broker.statistics().events["refused bus message"] == 1
        for kind in (Kind.FETCH_SOCKETS_RESPONSE, Kind.BROADCAST_ACK):
            inject(hub, a, kind, request_id="unknown")
        assert a.broker.statistics().events["late answer"] == 2
        for kind in (Kind.HEARTBEAT, Kind.INITIAL_HEARTBEAT, Kind.ADAPTER_CLOSE):
            inject(hub, a, kind)
        link: Any = a.broker.sockets.link
        link.receive(ClusterMessage(type=Kind.BROADCAST, uid="x", namespace="/other", event=["no"]))
        a.broker.emit("end")
        await a.peer.expect('42["end"]')


async def test_a_node_that_answers_twice_counts_once(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, b):
        link: Any = a.broker.sockets.link

        def twice(message: ClusterMessage) -> bool:
            if message.type is Kind.FETCH_SOCKETS_RESPONSE:
                link.receive(message)
            return False

        hub.drops = twice
        assert len(await a.broker.fetch_sockets()) == 2
        assert a.broker.statistics().events["late answer"] == 1
        assert b.socket.connected


def test_a_request_is_complete_when_all_clients_of_all_nodes_have_answered() -> None:
    request = Request(asks_clients=True)
    request.client_answered("early")
    assert request.silent() == ("?",)
    request.expect(2)
    assert request.node_answered("a", clients=1)
    assert not request.node_answered("a", clients=5)
    assert request.silent({"a", "b"}) == ("b",)
    assert not request.done.is_set()
    assert request.node_answered("?", clients=1)
    request.node_left("a")
    assert not request.done.is_set()
    request.client_answered("late")
    assert request.done.is_set()
    assert request.silent() == ()


async def test_a_bus_that_refuses_keeps_the_broker_closed() -> None:
    hub = Hub()
    hub.refuses = True
    broker = Broker(adapter=hub)
    with pytest.raises(BusRefused):
        async with broker:
            pass
    assert not broker.is_open
    hub.refuses = False
    async with broker:
        assert broker.is_open


async def test_gaps_are_told(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    broker = Broker(adapter=hub)
    gaps: list[Gap] = []

    @broker.on_gap
    def fail(gap: Gap) -> None:
        raise RuntimeError("oh")

    broker.on_gap(gaps.append)
    hub.nodes[0].host.report(Gap("test", 1.5))
    assert gaps == [Gap("test", 1.5)]
    assert broker.statistics().events == {"bus gap": 1, "failed": 1}
    assert "1.500 s: test" in caplog.text


async def test_the_bus_hears_of_rooms_with_members(virtual_serve: Serve) -> None:
    hub = Hub()
    async with node(virtual_serve, hub) as a:
        carrier = hub.nodes[0].carriers["/"]
        a.socket.join("x", "y")
        a.socket.leave("y")
        assert carrier.rooms == {a.socket.id, "x"}
        local: Any = carrier.bus.links["/"]._local
        assert local.has("x")
        assert local.has(a.socket.id)
        assert not local.has("y")
        assert local.all_rooms() == [a.socket.id, "x"]
        a.socket.disconnect()
        await a.peer.expect("41")
        assert carrier.rooms == set()


async def test_a_namespace_that_goes_leaves_the_bus(virtual_serve: Serve) -> None:
    hub = Hub()
    broker = quick_broker(adapter=hub, cleanup_empty_child_namespaces=True)
    family = broker.of(lambda name, auth: name.startswith("/dyn"))
    async with virtual_serve(broker) as server:
        async with client(server, "/dyn-1"):
            assert set(hub.nodes[0].links) == {"/", "/dyn-1"}
            assert family.emit("x").unpublished == 0
        await trio.testing.wait_all_tasks_blocked()
        assert set(hub.nodes[0].links) == {"/"}


async def test_odd_tales_of_sockets(virtual_serve: Serve) -> None:
    hub = Hub()
    async with two(virtual_serve, hub) as (a, b):
        local: Any = hub.nodes[1].links["/"]._local
        told: list[dict[str, Any]] = [
            {
                "id": "x",
                "rooms": [1, "x"],
                "handshake": {
                    "headers": {"a": ["b", "c"]},
                    "query": {"q": ["1", "2"]},
                    "issued": 10**30,
                    "auth": 5,
                },
            },
            {"id": "y", "rooms": [], "data": []},
        ]
        local.describe = lambda options: told
        found = await a.broker.except_(a.socket.id).fetch_sockets()
        assert found[0].rooms == {"1", "x"}
        assert found[0].handshake.headers == {"a": "b, c"}
        assert found[0].handshake.query == {"q": "2"}
        assert found[0].handshake.auth == {}
        assert found[0].handshake.time.year == 1970
        assert (found[1].data, found[1].handshake.url) == ({}, "")
        assert b.socket.connected
