"""Floods within one chunk of input: others have their turn between two small parts of it.

Each pass of the scheduler is counted. A loop that worked off a whole chunk at once would have none of them
between the first packet of the chunk and the last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest
import trio

from broker import Socket
from broker.sessions import shared_reader
from protocol import Limits
from protocol.engineio.payload import PACKETS_PER_PIECE
from protocol.websocket import FRAMES_PER_FEED
from tests.broker import carriers
from tests.broker.carriers import Carrier
from tests.peers import (
    PING,
    PONG,
    SEPARATOR,
    TEXT,
    BareWebSocket,
    Door,
    PollingPeer,
    build_frame,
    quick_broker,
    until,
)

CHUNK_BYTES = 65_000
MARK = '42["mark","%s"]'
_UNSEEN = 2  # turns that are not counted: the tasks of one pass run in any order
SHAPES = {
    "ping frames": build_frame(PING),
    "pong frames": build_frame(PONG),
    "pongs": build_frame(TEXT, b"3"),
    "noops": build_frame(TEXT, b"6"),
    "events": build_frame(TEXT, b'42["e"]'),
    "events with an ack": build_frame(TEXT, b'421["e"]'),
    "acks": build_frame(TEXT, b"431[]"),
    "messages in two fragments": build_frame(TEXT, b"6", final=False) + build_frame(0),
}


class Marks:
    """A broker that notes in which pass of the scheduler it came to a mark."""

    def __init__(self, **limits: Any) -> None:
        self.broker = quick_broker(ping_interval=60.0, limits=Limits(**limits))
        self.passes = 0
        self.seen: list[tuple[str, int]] = []
        self.broker.on("mark")(self._mark)
        self.broker.on("e")(lambda socket: None)

    def _mark(self, socket: Socket, name: str) -> None:
        self.seen.append((name, self.passes))

    async def count(self) -> None:
        """Count passes until cancelled."""
        while True:
            await trio.lowlevel.checkpoint()
            self.passes += 1

    @asynccontextmanager
    async def serving(self, carrier: Carrier) -> AsyncIterator[Door]:
        """Serve the broker, and count."""
        async with carrier(self.broker) as door, trio.open_nursery() as nursery:
            nursery.start_soon(self.count)
            yield door
            nursery.cancel_scope.cancel()

    async def wait(self, count: int) -> list[tuple[str, int]]:
        """Wait until there are so many marks; return them with the passes since the first."""
        await until(lambda: len(self.seen) >= count)
        return [(name, at - self.seen[0][1]) for name, at in self.seen]


def mark(name: str) -> bytes:
    return build_frame(TEXT, (MARK % name).encode())


async def joined(door: Door) -> BareWebSocket:
    bare = await BareWebSocket.open(door)
    await bare.send_frame(TEXT, b"40")
    for _ in range(2):
        assert await bare.receive_frame() is not None
    return bare


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.tls, carriers.memory])
@pytest.mark.parametrize("shape", list(SHAPES))
async def test_a_chunk_of_tiny_frames_is_read_in_turns(shape: str, carrier: Carrier) -> None:
    unit = SHAPES[shape]
    count = CHUNK_BYTES // len(unit)
    marks = Marks()
    async with marks.serving(carrier) as door, await joined(door) as bare:
        await bare.send(mark("begin") + unit * count + mark("end"))
        (_, _), (name, passes) = await marks.wait(2)
        assert name == "end"
        assert count <= FRAMES_PER_FEED * (passes + _UNSEEN)
        assert marks.broker.statistics().violations == {}


async def test_a_long_payload_is_taken_in_turns() -> None:
    count = 100_000
    marks = Marks()
    async with marks.serving(carriers.plain) as door:
        peer = await PollingPeer.open(door)
        await peer.join()
        await peer.send(MARK % "begin", *["6"] * count, MARK % "end")
        (_, _), (name, passes) = await marks.wait(2)
        assert name == "end"
        assert count <= PACKETS_PER_PIECE * (passes + _UNSEEN)


async def test_a_long_payload_waits_for_a_full_inbox() -> None:
    marks = Marks(inbox_messages=3)
    got: list[int] = []

    @marks.broker.on("count")
    async def count(socket: Socket, value: int) -> None:
        await trio.lowlevel.checkpoint()
        got.append(value)

    async with marks.serving(carriers.plain) as door:
        peer = await PollingPeer.open(door)
        await peer.join()
        await peer.send(*[f'42["count",{value}]' for value in range(3 * PACKETS_PER_PIECE)])
        await until(lambda: len(got) == 3 * PACKETS_PER_PIECE)
        assert got == list(range(3 * PACKETS_PER_PIECE))


async def test_a_session_that_ends_within_a_payload_takes_no_more_of_it() -> None:
    marks = Marks()
    async with marks.serving(carriers.plain) as door:
        peer = await PollingPeer.open(door)
        await peer.join()
        body = SEPARATOR.join(["1", *["6"] * 3 * PACKETS_PER_PIECE, MARK % "late"])
        assert (await peer.post(body)).json["code"] == 1
        await until(lambda: not marks.broker.statistics().sessions)
        assert marks.seen == []


async def test_a_flood_of_several_chunks_has_no_more_than_its_turn() -> None:
    """Who has something left, and is readable besides, stands in the line once."""
    count = 40_000
    marks = Marks()
    async with marks.serving(carriers.plain) as door, await joined(door) as bare:
        await bare.send(mark("begin") + SHAPES["noops"] * count + mark("end"))
        (_, _), (name, passes) = await marks.wait(2)
        assert name == "end"
        assert count <= FRAMES_PER_FEED * (passes + _UNSEEN)


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone])
async def test_who_speaks_beside_a_flood_is_heard_after_one_part_of_it(carrier: Carrier) -> None:
    marks = Marks()
    async with marks.serving(carrier) as door, await joined(door) as flooder, await joined(door) as other:

        @marks.broker.on("flood")
        def flood(socket: Socket) -> None:
            send_at_once(other, mark("other"))

        begin = mark("begin") + build_frame(TEXT, b'42["flood"]')
        await flooder.send(begin + SHAPES["ping frames"] * 10_000 + mark("end"))
        seen = dict(await marks.wait(3))
        assert seen["other"] <= 5
        assert seen["end"] > 50


async def test_handlers_that_compute_share_the_time_with_others() -> None:
    """The reader of all sockets has a bound in time: what a handler does within its step nobody can bound."""
    marks = Marks()
    peers = 8

    @marks.broker.on("compute")
    def compute(socket: Socket, name: str) -> None:
        marks.seen.append((name, marks.passes))
        began = perf_counter()
        while perf_counter() - began <= shared_reader._TURN_TIME:
            pass

    async with marks.serving(carriers.plain) as door:
        bares = [await joined(door) for _ in range(peers)]
        await settled_but_for_counting()
        for number, bare in enumerate(bares):
            send_at_once(bare, build_frame(TEXT, b'42["compute","%d"]' % number))
        seen = await marks.wait(peers)
        assert seen[-1][1] >= peers - _UNSEEN
        for bare in bares:
            await bare.peer.abort()


async def test_floods_of_many_come_whole_and_in_order() -> None:
    """Who is left for the next turn keeps its place, and nobody is passed over for those who have more."""
    marks = Marks()
    peers, events = 40, 400
    got: dict[str, list[int]] = {}
    marks.broker.on("count")(lambda socket, value: got.setdefault(socket.id, []).append(value))
    data = b"".join(build_frame(TEXT, b'42["count",%d]' % value) for value in range(events))
    async with marks.serving(carriers.plain) as door:
        bares = [await joined(door) for _ in range(peers)]
        for bare in bares:
            send_at_once(bare, data + mark("end"))
        await marks.wait(peers)
        assert list(got.values()) == [list(range(events))] * peers
        for bare in bares:
            await bare.peer.abort()


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.tls, carriers.memory])
async def test_a_close_frame_behind_a_flood_is_found(carrier: Carrier) -> None:
    """The session has ended with the first packet; the rest is read for the close frame alone, to the end."""
    marks = Marks(close_timeout=60.0)
    async with marks.serving(carrier) as door, await joined(door) as bare:
        flood = SHAPES["ping frames"] * (4 * FRAMES_PER_FEED)
        await bare.send(build_frame(TEXT, b"4?") + flood + build_frame(0x8, b"\x03\xe8"))
        assert (await bare.expect_close()).code == 1002
        await until(lambda: not marks.broker.statistics().sessions)


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.tls])
async def test_a_flood_behind_an_upgrade_packet_comes_in_order(carrier: Carrier) -> None:
    marks = Marks()
    got: list[int] = []
    marks.broker.on("count")(lambda socket, value: got.append(value))
    events = b"".join(build_frame(TEXT, b'42["count",%d]' % value) for value in range(1_000))
    async with marks.serving(carrier) as door:
        peer = await PollingPeer.open(door)
        await peer.join()
        async with await BareWebSocket.open(door, sid=peer.sid) as bare:
            await bare.send_frame(TEXT, b"2probe")
            assert await bare.receive_frame() is not None
            await bare.send(build_frame(TEXT, b"5") + events + mark("end"))
            await marks.wait(1)
            assert got == list(range(1_000))


def send_at_once(bare: BareWebSocket, data: bytes) -> None:
    """Give all of it to the kernel before anybody else runs."""
    stream: Any = bare.peer.stream
    assert stream.socket._sock.send(data) == len(data)


async def settled_but_for_counting() -> None:
    """Let the broker end what it is about; `settled` would wait for the counting task too."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()
