"""Volatile events and broadcasts: cases 158 to 169 of the table in README.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from broker import Broadcast, Broker, EmitResult, Socket
from tests.duplex import TRANSPORTS, Duplex, duplex, joined
from tests.peers import quick_broker, settled

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]
PLACE = '{"_placeholder":true,"num":0}'


@asynccontextmanager
async def three(
    serve: Serve, broker: Broker, namespace: str = "/"
) -> AsyncIterator[tuple[list[Duplex], list[Socket]]]:
    """Have three clients, the second on polling; return them with their sockets."""
    async with serve(broker) as server, AsyncExitStack() as stack:
        peers, sockets = [], []
        for transport in ("websocket", "polling", "websocket"):
            peer = await stack.enter_async_context(duplex(server, transport))
            sockets.append(broker.of(namespace).sockets[await peer.join(namespace)])
            peers.append(peer)
        yield peers, sockets


async def heard(peers: list[Duplex], broker: Broker, namespace: str = "/") -> list[list[str]]:
    """Return the names of the events that each has got, in order."""
    broker.of(namespace).emit("end")
    prefix = "42" if namespace == "/" else f"42{namespace},"
    names: list[list[str]] = []
    for peer in peers:
        mine: list[str] = []
        while (message := await peer.receive()) != f'{prefix}["end"]':
            assert isinstance(message, str)
            mine.append(message.removeprefix(prefix)[2:].split('"')[0])
        names.append(mine)
    return names


def volatile_burst(broker: Broker, *kinds: str) -> None:
    @broker.on("connect")
    def connect(socket: Socket) -> None:
        for number, kind in enumerate(kinds):
            sender: Any = socket.volatile if kind.startswith("volatile") else socket
            sender.emit("ev", number, *([b"\x01"] if kind.endswith("binary") else []))


@both
@pytest.mark.parametrize(
    ("kinds", "arrive"),
    [
        pytest.param(("normal", "volatile"), [0], id="158"),
        pytest.param(("normal", "volatile", "normal"), [0, 2], id="160"),
    ],
)
async def test_158_160_volatile_behind_others_is_dropped(
    serve: Serve, transport: str, kinds: tuple[str, ...], arrive: list[int]
) -> None:
    broker = quick_broker()
    volatile_burst(broker, *kinds)
    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.expect(*(f'42["ev",{number}]' for number in arrive))
        await peer.send('42["echo"]')
        await peer.expect('42["echo"]')
    assert broker.statistics().dropped == {"volatile": 1}


@both
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_159_volatile_on_an_idle_connection(serve: Serve, transport: str, binary: bool) -> None:
    broker = quick_broker()

    @broker.on("twice")
    def twice(socket: Socket) -> None:
        data = [b"\x01"] if binary else []
        socket.volatile.emit("ev", *data)
        socket.volatile.emit("ev", *data)
        broker.volatile.emit("ev", *data)

    async with serve(broker) as server, joined(server, transport) as peer:
        if transport == "polling":
            get = await peer.peer.begin_get()  # type: ignore[union-attr]
            await peer.send('42["twice"]')
            text = (await get.receive()).text
            assert text == (f'451-["ev",{PLACE}]\x1ebAQ==' if binary else '42["ev"]')
            await get.abort()
        else:
            await peer.send('42["twice"]')
            await peer.expect(*([f'451-["ev",{PLACE}]', b"\x01"] if binary else ['42["ev"]']))
        await peer.send('42["echo"]')
        await peer.expect('42["echo"]')
    assert broker.statistics().dropped == {"volatile": 2}


async def test_159_volatile_to_a_polling_client_that_does_not_poll(serve: Serve) -> None:
    broker = quick_broker()
    async with serve(broker) as server, joined(server, "polling") as peer:
        assert broker.volatile.emit("ev") == EmitResult(queued=0, dropped=1)
        await peer.send('42["echo"]')
        await peer.expect('42["echo"]')


@pytest.mark.parametrize("namespace", ["/", "/custom"])
async def test_161_who_gets_it(serve: Serve, namespace: str) -> None:
    broker = quick_broker()
    async with three(serve, broker, namespace) as (peers, (a, b, c)):
        a.join("one", "two")
        b.join("two")
        space = broker.of(namespace)
        assert space.emit("all").queued == 3
        assert a.broadcast.emit("others").queued == 2
        assert space.to("one").to("two").emit("once").queued == 2
        assert space.in_("one", "two").emit("once more").queued == 2
        assert b.to("two").emit("neighbours").queued == 1
        assert c.in_("one").emit("from outside").queued == 1
        assert space.to("nobody").emit("nobody").queued == 0
        assert space.to(c.id).emit("own room").queued == 1
        assert space.to(c.id, "two").emit("both").queued == 3
        a.leave("one", "two")
        b.leave("two", "never joined")
        assert space.rooms == {}
        assert await heard(peers, broker, namespace) == [
            ["all", "once", "once more", "neighbours", "from outside", "both"],
            ["all", "others", "once", "once more", "both"],
            ["all", "others", "own room", "both"],
        ]


@pytest.mark.parametrize("namespace", ["/", "/custom"])
async def test_162_except(serve: Serve, namespace: str) -> None:
    broker = quick_broker()
    async with three(serve, broker, namespace) as (peers, (a, b, c)):
        a.join("one")
        b.join("one", "two")
        space = broker.of(namespace)
        space.except_(a.id).emit("not a")
        space.to("one").except_("two").emit("a only")
        space.except_("two").emit("not b")
        space.to("one").except_("one").emit("nobody")
        space.except_("nobody is here").emit("all")
        c.except_("one").emit("nobody")
        c.to("one").except_(b.id).emit("a again")
        assert await heard(peers, broker, namespace) == [
            ["a only", "not b", "all", "a again"],
            ["not a", "all"],
            ["not a", "not b", "all"],
        ]


async def test_163_operators_never_change_what_they_come_from(serve: Serve) -> None:
    broker = quick_broker()
    async with three(serve, broker) as (_, (a, _b, _c)):

        def parts(one: Broadcast) -> tuple[Any, ...]:
            return (one.rooms, one.except_rooms, one.is_local, one.is_volatile, one.ack_timeout)

        stored = broker.to("a").except_("b").local.volatile.compress(False).timeout(2)
        before = parts(stored)
        assert before == (("a",), ("b",), True, True, 2)
        for changed in (stored.to("x"), stored.in_("x"), stored.except_("x"), stored.timeout(3)):
            assert isinstance(changed, Broadcast)
            assert changed != stored
        plain = a.to("room")
        assert (plain.local.is_local, plain.volatile.is_volatile) == (True, True)
        assert (plain.is_local, plain.is_volatile, plain.except_rooms) == (False, False, (a.id,))
        assert a.broadcast.rooms == ()
        with pytest.raises(AttributeError):
            stored.rooms = ()  # type: ignore[misc]
    assert before == (
        stored.rooms,
        stored.except_rooms,
        stored.is_local,
        stored.is_volatile,
        stored.ack_timeout,
    )


async def test_164_acks_of_a_broadcast(virtual_serve: Serve) -> None:
    broker = quick_broker()
    async with three(virtual_serve, broker) as (peers, sockets), trio.open_nursery() as nursery:
        results: list[Any] = []

        async def ask(**options: Any) -> None:
            results.append(await broker.call("ev", **options))

        nursery.start_soon(ask)
        for number, peer in enumerate(peers):
            await peer.expect('420["ev"]')
            await peer.send(f"430[{number}]")
        await settled()
        assert results[0].responses == [(socket.id, number) for number, socket in enumerate(sockets)]
        assert results[0].complete
        # One that stays silent.
        async with trio.open_nursery() as waiting:

            async def ask_briefly() -> None:
                results.append(await broker.timeout(0.2).call("ev"))

            waiting.start_soon(ask_briefly)
            for peer in peers[:2]:
                await peer.expect('421["ev"]')
                await peer.send("431[7]")
        assert results[1].responses == [(sockets[0].id, 7), (sockets[1].id, 7)]
        assert (results[1].missing, results[1].disconnected) == ([sockets[2].id], [])
        assert not results[1].complete
        # Nobody at all.
        with trio.fail_after(1):
            assert (await broker.to("empty").call("ev")).responses == []
        assert [len(socket.acks) for socket in sockets] == [0, 0, 0]


async def test_164_one_that_leaves_while_it_is_asked(serve: Serve) -> None:
    broker = quick_broker()
    async with three(serve, broker) as (peers, sockets), trio.open_nursery() as nursery:
        results: list[Any] = []

        async def ask() -> None:
            results.append(await broker.call("ev"))

        nursery.start_soon(ask)
        await settled()
        sockets[2].disconnect()
        await peers[0].send("430[]")
        await peers[1].send("430[1,2]")
        await settled()
        (acks,) = results
        assert acks.disconnected == [sockets[2].id]
        assert acks.responses == [(sockets[0].id, None), (sockets[1].id, (1, 2))]


async def test_164_an_ack_counts_only_from_the_socket_it_was_asked_of(serve: Serve) -> None:
    broker = quick_broker()
    async with three(serve, broker) as (peers, (a, _b, _c)):
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await a.call("secret"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settled()
            await peers[2].send('430["forged"]')
            await settled()
            assert answers == []
            await peers[0].send('430["true"]')
        assert answers == ["true"]


async def test_165_broadcast_with_attachments(serve: Serve) -> None:
    broker = quick_broker()
    async with three(serve, broker) as (peers, _):
        broker.emit("ev", b"\x01", {"deep": [b"\x02"]})
        for peer in peers:
            await peer.expect(
                f'452-["ev",{PLACE},{{"deep":[{{"_placeholder":true,"num":1}}]}}]', b"\x01", b"\x02"
            )


async def test_166_managing_sockets(serve: Serve) -> None:
    broker = quick_broker()
    async with three(serve, broker) as (peers, (a, b, c)):
        a.data["name"] = "Ada"
        assert [remote.id for remote in await broker.fetch_sockets()] == [a.id, b.id, c.id]
        await broker.to(a.id, b.id).sockets_join("room")
        remotes = await broker.in_("room").fetch_sockets()
        assert [(remote.id, remote.rooms) for remote in remotes] == [
            (a.id, {a.id, "room"}),
            (b.id, {b.id, "room"}),
        ]
        assert remotes[0].data == {"name": "Ada"}
        assert remotes[0].handshake.address == "127.0.0.1"
        await broker.sockets_join("all")
        await broker.except_(a.id).sockets_leave("all", "room")
        assert broker.sockets.rooms == {"room": {a.id}, "all": {a.id}}
        await broker.to("room").disconnect_sockets()
        await peers[0].expect("41")
        assert list(broker.sockets.sockets) == [b.id, c.id]
        await broker.disconnect_sockets(close=True)
        for peer in peers[1:]:
            await peer.expect("41")
            await peer.expect_end()
        await settled()
        assert await broker.fetch_sockets() == []


async def test_167_set_algebra_of_rooms(serve: Serve) -> None:
    broker = quick_broker()
    rooms = ("r", "s", "t")
    async with three(serve, broker) as (_, sockets):
        members = {"r": {0, 1}, "s": {1, 2}, "t": {0}}
        for room, numbers in members.items():
            for number in numbers:
                sockets[number].join(room)
        choices = [()] + [(one,) for one in rooms] + [(x, y) for x in rooms for y in rooms]
        for to in choices:
            for without in choices:
                ids = {socket.id for socket in broker.to(*to).except_(*without).select()}
                wanted = set().union(*(members[one] for one in to)) if to else {0, 1, 2}
                wanted -= set().union(*(members[one] for one in without))
                assert ids == {sockets[number].id for number in wanted}, (to, without)


async def test_169_a_broadcast_is_one_message_whatever_the_number_of_receivers(serve: Serve) -> None:
    """That its frame is built once is held in tests/broker/flow/test_encoded.py."""
    broker = quick_broker()
    seen: list[Any] = []
    broker.on_any_outgoing(lambda event, *args: seen.append((event, args)))
    async with three(serve, broker) as (peers, _):
        broker.emit("ev", {"a": 1})
        for peer in peers:
            await peer.expect('42["ev",{"a":1}]')
    assert seen == [("ev", ({"a": 1},))]


def test_rooms_are_given_as_arguments() -> None:
    broker = Broker()
    for method in (broker.to, broker.in_, broker.except_):
        with pytest.raises(TypeError, match="several arguments"):
            method(["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="greater than 0"):
        broker.timeout(0)


async def test_fifo_of_broadcasts_and_answers(serve: Serve) -> None:
    """FLOW-2, FLOW-3: whatever way they go out, messages keep the order in which they were sent."""
    broker = quick_broker()

    @broker.on("mix")
    async def mix(socket: Socket) -> str:
        socket.emit("n", 1)
        broker.emit("n", 2)
        await trio.lowlevel.checkpoint()
        broker.to(socket.id).emit("n", 3)
        socket.emit("n", 4)
        return "5"

    async with three(serve, broker) as (peers, _):
        await peers[0].send('420["mix"]')
        await peers[0].expect(*(f'42["n",{number}]' for number in (1, 2, 3, 4)), '430["5"]')
        await peers[1].expect('42["n",2]')
