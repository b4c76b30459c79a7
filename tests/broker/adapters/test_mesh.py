"""The bus between the processes of one server, over pipes in memory that a test can hold or break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import trio
from attrs import frozen

from broker import Broker, Gap, Limits, Socket
from broker.adapters.mesh import MeshBus
from protocol.bus.frames import FrameKind, write_frame
from tests.broker.carriers import memory
from tests.peers import RawWebSocket, client, quick_broker

from .street import Street


@frozen
class Node:
    broker: Broker
    bus: MeshBus
    peer: RawWebSocket
    socket: Socket


@asynccontextmanager
async def neighbours(count: int = 2, **options: Any) -> AsyncIterator[tuple[Street, list[Node]]]:
    """Run processes that have found each other, with one client each."""
    async with trio.open_nursery() as nursery:
        street = Street(count, nursery)
        async with _nodes(street, [], **options) as nodes:
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)
            yield street, nodes
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _nodes(street: Street, nodes: list[Node], **options: Any) -> AsyncIterator[list[Node]]:
    if len(nodes) == len(street.houses):
        yield nodes
        return
    house = street.houses[len(nodes)]
    broker = quick_broker(adapter=house.adapter, ping_interval=1000.0, **options)
    async with memory(broker) as door, client(door) as peer:
        (socket,) = broker.sockets.sockets.values()
        assert house.bus is not None
        nodes.append(Node(broker, house.bus, peer, socket))
        async with _nodes(street, nodes, **options) as all_of_them:
            yield all_of_them


def frames_to(street: Street, sender: int, receiver: int) -> list[bytes]:
    """Note what is sent from now on."""
    sent: list[bytes] = []
    stream = street.opened[sender, receiver]

    def note(data: bytes) -> list[tuple[bytes, float]]:
        sent.append(data)
        return [(data, 0.0)]

    stream.on_send = note
    return sent


async def test_every_verb_reaches_over(autojump_clock: Any) -> None:
    async with neighbours(3) as (_, (a, b, c)):
        b.socket.join("room")
        a.broker.emit("all", 1, b"\x01")
        for one in (a, b, c):
            await one.peer.expect('451-["all",1,{"_placeholder":true,"num":0}]')
            await one.peer.expect(b"\x01")
        a.broker.to("room").emit("some")
        await b.peer.expect('42["some"]')
        found = await c.broker.fetch_sockets()
        assert found.complete
        assert {one.id for one in found} == {a.socket.id, b.socket.id, c.socket.id}
        await c.broker.in_("room").sockets_join("other")
        await trio.testing.wait_all_tasks_blocked()
        assert b.socket.rooms == {b.socket.id, "room", "other"}
        await a.broker.in_("other").disconnect_sockets()
        await b.peer.expect("41")


async def test_acks_and_events_between_processes(autojump_clock: Any) -> None:
    async with neighbours(2) as (_, (a, b)):

        @b.broker.on_server_event("add")
        def add(x: int, y: int) -> int:
            return x + y

        assert list(await a.broker.server_side_emit("add", 1, 2, timeout=1)) == [3]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, a.peer, "a")
            nursery.start_soon(answer, b.peer, "b")
            acks = await a.broker.call("question", timeout=5)
        assert sorted(value for _, value in acks.responses) == ["a", "b"]
        assert acks.complete


async def answer(peer: RawWebSocket, value: str) -> None:
    question = await peer.receive()
    assert isinstance(question, str)
    digits = question.removeprefix("42").partition("[")[0]
    await peer.send_text(f'43{digits}["{value}"]')


async def test_a_process_without_members_gets_no_frames(autojump_clock: Any) -> None:
    async with neighbours(3) as (street, (a, b, c)):
        c.socket.join("room")
        await trio.testing.wait_all_tasks_blocked()
        to_b, to_c = frames_to(street, 0, 1), frames_to(street, 0, 2)
        for _ in range(10):
            a.broker.to("room").emit("x")
        a.broker.to(c.socket.id).emit("x")
        await a.broker.in_("nowhere").sockets_join("y")
        a.broker.of("/elsewhere").emit("x")
        await trio.testing.wait_all_tasks_blocked()
        assert to_b == []
        assert to_c
        for _ in range(11):
            await c.peer.expect('42["x"]')
        c.socket.leave("room")
        await trio.testing.wait_all_tasks_blocked()
        to_c.clear()
        a.broker.to("room").emit("x")
        await trio.testing.wait_all_tasks_blocked()
        assert to_c == []
        assert b.bus.lines[2].rooms["/"] == {c.socket.id}


async def test_rooms_of_a_namespace_that_goes(autojump_clock: Any) -> None:
    import re

    async with neighbours(2, cleanup_empty_child_namespaces=True) as (_, (a, b)):
        for one in (a, b):
            one.broker.of(re.compile("/dyn.*"))
        await b.peer.join("/dyn1")
        await trio.testing.wait_all_tasks_blocked()
        assert len(a.bus.lines[1].rooms["/dyn1"]) == 1
        await b.peer.send_text("41/dyn1,")
        await trio.testing.wait_all_tasks_blocked()
        assert "/dyn1" not in a.bus.lines[1].rooms
        assert "/dyn1" not in b.bus.links


async def test_a_process_without_the_namespace_is_not_waited_for(autojump_clock: Any) -> None:
    async with neighbours(2) as (_, (a, b)):
        namespace = a.broker.of("/only-here")
        begun = trio.current_time()
        assert (await namespace.fetch_sockets()).complete
        assert (await namespace.call("x")).complete
        answers = await namespace.server_side_emit("x", timeout=5)
        assert (answers, answers.silent) == ([], ())
        assert trio.current_time() == begun
        b.broker.of("/only-here")
        assert await namespace.server_side_emit("x", timeout=5) == [None]


async def test_a_message_just_before_the_line_is_there_waits_for_it(autojump_clock: Any) -> None:
    async with neighbours(2) as (street, (a, b)):
        street.houses[1].is_there = False
        await street.opened[0, 1].aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert a.broker.emit("late").unpublished == 0
        street.houses[1].is_there = True
        await b.peer.expect('42["late"]')


async def test_a_process_that_dies_is_not_waited_for(autojump_clock: Any) -> None:
    async with neighbours(2) as (street, (a, b)):
        street.opened[0, 1].outgoing.held = True
        async with trio.open_nursery() as nursery:
            found: list[Any] = []

            async def fetch() -> None:
                found.append(await a.broker.fetch_sockets())

            nursery.start_soon(fetch)
            await trio.testing.wait_all_tasks_blocked()
            street.houses[1].is_there = False
            await street.opened[1, 0].aclose()
            await street.opened[0, 1].aclose()
        assert found[0].silent == (b.bus.uid,)
        assert a.bus.lines[1].uid is None
        assert a.broker.emit("x").unpublished == 0
        assert a.broker.statistics().events["bus overflow"] == 0


async def test_a_neighbour_that_does_not_read(autojump_clock: Any) -> None:
    """What is beyond the budget is lost, told at once, and told to both sides once it is over."""
    gaps: dict[str, list[Gap]] = {"a": [], "b": []}
    async with neighbours(2, limits=Limits(bus_buffer_bytes=10_000)) as (street, (a, b)):
        a.broker.on_gap(gaps["a"].append)
        b.broker.on_gap(gaps["b"].append)
        pipe = street.opened[0, 1].outgoing
        pipe.held = True
        taken, lost = 0, 0
        while lost < 5:
            unpublished = a.broker.to(b.socket.id).emit("x", "x" * 1_000).unpublished
            lost += unpublished
            taken += not unpublished
            await trio.testing.wait_all_tasks_blocked()
        assert 60 < taken < 80  # what the pipe holds, and the budget
        assert a.broker.statistics().events["bus overflow"] == lost
        await trio.sleep(2)
        pipe.held = False
        pipe.wake()
        for _ in range(taken):
            await b.peer.receive()
        await trio.testing.wait_all_tasks_blocked()
        (ours,), (theirs,) = gaps["a"], gaps["b"]
        assert (ours.cause, ours.lost) == ("worker 1 did not read fast enough", lost)
        assert 2 <= ours.seconds < 3
        assert theirs.cause == f"worker 0 could not pass on {lost} messages"
        assert b.broker.statistics().events["bus gap"] == 1
        a.broker.emit("again")
        await b.peer.expect('42["again"]')


async def test_a_neighbour_that_hangs_is_connected_to_anew(autojump_clock: Any) -> None:
    gaps: list[Gap] = []
    async with neighbours(2) as (street, (a, b)):
        a.broker.on_gap(gaps.append)
        first = street.opened[0, 1]
        first.outgoing.held = True
        for _ in range(100):
            a.broker.to(b.socket.id).emit("x", "x" * 1_000)
        await trio.sleep(a.broker.settings.limits.write_timeout + 1)
        assert street.opened[0, 1] is not first
        assert gaps[0].lost > 0
        a.broker.emit("again")
        await b.peer.expect('42["again"]')
        # What the old line held comes to nobody: a newer one has taken its place.
        first.outgoing.held = False
        first.outgoing.wake()
        a.broker.emit("end")
        await b.peer.expect('42["end"]')
        assert (await b.broker.fetch_sockets()).complete


async def test_a_process_that_comes_again_is_another_node(autojump_clock: Any) -> None:
    async with neighbours(2) as (street, (a, _)):
        line = a.bus.lines[1]
        old = line.uid
        ours, theirs = street.opened[1, 0], None
        assert theirs is None
        await ours.send_all(write_frame(FrameKind.HELLO, orjson.dumps({"uid": "another"})))
        await trio.testing.wait_all_tasks_blocked()
        assert line.uid == "another" != old
        assert line.rooms == {}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (FrameKind.MESSAGE, b"{}"),
        (FrameKind.MESSAGE, b"{"),
        (FrameKind.MESSAGE, b"\xc1"),
        (FrameKind.ROOMS, b"{"),
        (FrameKind.ROOMS, b"5"),
        (FrameKind.ROOMS, b"[5]"),
        (FrameKind.ROOMS, b"[[1,[],true]]"),
        (FrameKind.HELLO, b"{}"),
        (FrameKind.HELLO, b"[]"),
        (FrameKind.GAP, b"{}"),
        (FrameKind.GAP, b'{"lost":[],"seconds":1}'),
    ],
)
async def test_nonsense_is_counted(autojump_clock: Any, kind: FrameKind, content: bytes) -> None:
    async with neighbours(2) as (street, (a, b)):
        await street.opened[1, 0].send_all(write_frame(kind, content))
        await trio.testing.wait_all_tasks_blocked()
        assert a.broker.statistics().events["malformed bus message"] == 1
        b.broker.emit("x")
        await a.peer.expect('42["x"]')


async def test_what_is_not_known_is_passed_over(autojump_clock: Any) -> None:
    async with neighbours(2) as (street, (a, b)):
        line = street.opened[1, 0]
        await line.send_all(write_frame(FrameKind.MESSAGE, b'{"type":1,"uid":"x","nsp":"/unknown"}'))
        await line.send_all(b"\0\0\0\0\x63")
        await line.send_all(write_frame(FrameKind.ROOMS, b'[["/never","x",false]]'))
        b.broker.emit("x")
        await a.peer.expect('42["x"]')
        assert a.broker.statistics().events["malformed bus message"] == 0
        await a.bus.serve_line(7, line)


async def test_size_of_a_message(autojump_clock: Any) -> None:
    async with neighbours(2, limits=Limits(bus_message_bytes=1_000)) as (street, (a, b)):
        assert a.broker.to(b.socket.id).emit("x", "x" * 1_000).unpublished == 1
        assert a.broker.statistics().events["oversized bus message"] == 1
        await street.opened[0, 1].send_all(b"\0\0\x03\xe9\x02")
        await trio.sleep(1)
        assert b.broker.statistics().events["oversized bus message"] == 1
        a.broker.emit("x")
        await b.peer.expect('42["x"]')


async def test_a_line_that_breaks_comes_again(autojump_clock: Any) -> None:
    async with neighbours(2) as (street, (a, b)):
        street.opened[0, 1].outgoing.break_off()
        street.opened[0, 1].incoming.break_off()
        await trio.sleep(1)
        a.broker.emit("x")
        await b.peer.expect('42["x"]')
        assert (await a.broker.fetch_sockets()).complete


async def test_many_rooms_are_announced_in_parts(autojump_clock: Any) -> None:
    rooms = [f"{number} \x01\x02" for number in range(100)]
    async with neighbours(2, limits=Limits(bus_message_bytes=500)) as (street, (a, b)):
        sent = frames_to(street, 1, 0)
        b.socket.join(*rooms)
        await trio.sleep(1)
        assert a.bus.lines[1].rooms["/"] == {b.socket.id, *rooms}
        assert len(sent) == 1
        await street.opened[1, 0].aclose()
        await trio.sleep(1)
        assert a.bus.lines[1].rooms["/"] == {b.socket.id, *rooms}
        assert a.broker.statistics().events["oversized bus message"] == 0
