"""Hostile WebSocket frames: rows 31 to 41 of the list, floods and trickles of frames."""

from __future__ import annotations

import socket
import struct
import tracemalloc

import pytest
import trio
from wsproto import frame_protocol

from protocol import websocket as websocket_module
from tests.broker import carriers
from tests.peers import (
    DEADLINE,
    BareWebSocket,
    PollingPeer,
    RawWebSocket,
    build_frame,
    quick_broker,
    websocket,
)
from tests.websocket.dsl import FULL

from .arena import Arena, arena, until

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

FRAMES = [
    # row, what, bytes, close code
    (31, "no mask", build_frame(TEXT, b"42", mask=None), 1002),
    (32, "reserved bit", build_frame(TEXT, b"42", rsv=4), 1002),
    (32, "reserved opcode", build_frame(0x3, b"42"), 1002),
    (33, "ping of 126 bytes", build_frame(PING, b"x" * 126), 1002),
    (33, "ping in fragments", build_frame(PING, b"x", final=False), 1002),
    (33, "length not minimal", b"\x81\xfe\x00\x01\0\0\0\0x", 1002),
    (34, "text that is not UTF-8", build_frame(TEXT, b'42["echo","\xff"]'), 1007),
    (
        34,
        "text that is not UTF-8, over two frames",
        build_frame(TEXT, b'42["echo","\xc3', final=False) + build_frame(0, b'("]'),
        1007,
    ),
    (35, "2^63-1 bytes", b"\x82\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0", 1009),
    (35, "one byte above the limit", build_frame(TEXT, b"", length=1_000_001), 1009),
    (
        35,
        "fragments together above the limit",
        build_frame(TEXT, b"4" * 60_000, final=False) + build_frame(0, b"4" * 60_000, final=False) * 20,
        1009,
    ),
    (
        36,
        "a million fragments",
        build_frame(TEXT, b"4", final=False) + build_frame(0, b"", final=False) * 1_100,
        1008,
    ),
    (37, "compressed frame", build_frame(TEXT, b"\xaa\x56\x4a\0", rsv=4), 1002),
    (41, "close with one byte", build_frame(CLOSE, b"x"), 1002),
    *(
        (41, f"close with {code}", build_frame(CLOSE, struct.pack("!H", code)), 1002)
        for code in (999, 1005, 1006, 65_535)
    ),
    (41, "close with a reason that is not UTF-8", build_frame(CLOSE, b"\x03\xe8\xff"), 1007),
]


async def joined(where: Arena) -> BareWebSocket:
    """Open a session on bare bytes and join the default namespace."""
    bare = await BareWebSocket.open(where.server)
    await bare.send_frame(TEXT, b"40")
    for _ in range(2):
        assert await bare.receive_frame() is not None
    return bare


@pytest.mark.parametrize(
    ("data", "code"), [pytest.param(one[2], one[3], id=f"{one[0]} {one[1]}") for one in FRAMES]
)
async def test_frames(data: bytes, code: int) -> None:
    async with arena() as where, await joined(where) as bare:
        try:
            await bare.send(data)
        except trio.BrokenResourceError:
            pass
        closed = await bare.expect_close()
        assert closed.code == code
        assert closed.reason
        assert len(where.violations) == 1


@pytest.mark.parametrize("size", [0, 1])
async def test_cve_2026_62389_tiny_fragments_weigh_little(size: int) -> None:
    """Fragments that are not finished yet cost their bytes, not an object each."""
    async with arena() as where, await joined(where) as bare:
        tracemalloc.start()
        try:
            await bare.send(
                build_frame(TEXT, b"4", final=False) + build_frame(0, b"x" * size, final=False) * 1_000
            )
            await bare.send_frame(PING, b"taken")
            answer = await bare.receive_frame()
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        assert answer is not None
        assert answer.payload == b"taken"
        # What the canaries hold, however many there are, is none of it.
        readers = [tracemalloc.Filter(True, module.__file__) for module in (websocket_module, frame_protocol)]
        kept = sum(trace.size for trace in snapshot.filter_traces(readers).traces)
        assert 0 < kept < 60_000


async def test_row_36_message_that_is_never_finished() -> None:
    async with arena(limits={"assembly_timeout": 0.15}) as where, await joined(where) as bare:
        await bare.send(build_frame(TEXT, b"4", final=False))
        assert (await bare.expect_close()) == (1008, "message not completed in time")
        assert where.violations == {"MESSAGE_TIMEOUT": 1}


async def test_row_36_control_frames_give_a_message_no_more_time() -> None:
    async with arena(limits={"assembly_timeout": 0.15}) as where, await joined(where) as bare:
        await bare.send(build_frame(TEXT, b"4", final=False))
        with trio.fail_after(2):
            while where.violations != {"MESSAGE_TIMEOUT": 1}:
                try:
                    await bare.send(build_frame(PING, b"life"))
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.01)


async def test_slowloris_on_a_frame() -> None:
    """One frame whose bytes trickle in; each of them is a sign of life."""
    async with arena(limits={"assembly_timeout": 0.15}) as where, await joined(where) as bare:
        frame = build_frame(TEXT, b'42["echo",' + b" " * 1_000 + b"1]")
        with trio.fail_after(2):
            for octet in frame:
                try:
                    await bare.send(bytes([octet]))
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.01)
                if where.violations:
                    break
        assert where.violations == {"MESSAGE_TIMEOUT": 1}


PARTS = {
    "one frame": (build_frame(TEXT, b"", length=60_000), b" "),
    "fragments": (build_frame(TEXT, b"4", final=False), build_frame(0, b" ", final=False)),
    "fragments and pings": (
        build_frame(TEXT, b"4", final=False),
        build_frame(0, b" ", final=False) + build_frame(PING, b"life"),
    ),
}


@pytest.mark.parametrize("carrier", [carriers.hypercorn, carriers.accepted, carriers.requested])
@pytest.mark.parametrize("what", list(PARTS))
async def test_a_message_that_somebody_else_puts_together_ends_with_the_heartbeat(
    what: str, carrier: carriers.Carrier
) -> None:
    """Within a message there is no room for a PONG, and nothing else of it is heard."""
    broker = quick_broker(ping_interval=0.1, ping_timeout=0.1)
    begin, more = PARTS[what]
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send_frame(TEXT, b"40")
        await bare.send(begin)
        with trio.fail_after(6 * DEADLINE):
            while not broker.statistics().disconnects:
                try:
                    await bare.send(more)
                except trio.BrokenResourceError:
                    pass
                await trio.sleep(0.01)
        assert broker.statistics().disconnects == {"ping timeout": 1}


async def test_large_messages_one_after_another_have_their_own_time_each() -> None:
    """A client that is always within some message is well-behaved as long as each of them completes."""
    async with arena(limits={"assembly_timeout": 0.3}) as where, await joined(where) as bare:
        frame = build_frame(TEXT, b'42["echo","' + b"x" * 1_000 + b'"]')
        data = frame * 12
        step = len(data) // 24 + 1
        for at in range(0, len(data), step):
            await bare.send(data[at : at + step])
            await trio.sleep(0.025)
        assert where.violations == {}
        for _ in range(12):
            assert await bare.receive_frame() is not None


@pytest.mark.parametrize("opcode", [PING, PONG], ids=["pings", "pongs"])
async def test_row_40_control_floods(opcode: int) -> None:
    """CVE-2026-48802: the number of tasks stays what it was, and nothing grows beyond the outbox."""
    async with arena() as where, await joined(where) as bare:
        tasks = trio.lowlevel.current_statistics().tasks_living
        flood = build_frame(opcode, b"flood") * 1_000
        try:
            with trio.move_on_after(3):
                for _ in range(100 if FULL else 10):
                    await bare.send(flood)
        except (trio.BrokenResourceError, trio.TooSlowError):
            pass
        assert trio.lowlevel.current_statistics().tasks_living <= tasks + 1
        assert where.broker.statistics().queued_bytes <= where.broker.settings.limits.outbox_hard_bytes


async def test_row_41_data_behind_a_close_frame() -> None:
    async with arena() as where, await joined(where) as bare:
        await bare.send(build_frame(CLOSE, b"\x03\xe8") + build_frame(TEXT, b'42["echo",1]'))
        assert (await bare.expect_close()).code == 1000


async def test_reset_within_a_frame() -> None:
    async with arena() as where:
        for cut in (1, 2, 5, 9):
            bare = await joined(where)
            await bare.send(build_frame(TEXT, b"42" + b"x" * 100)[:cut])
            stream = bare.peer.stream
            assert isinstance(stream, trio.SocketStream)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await bare.peer.abort()


async def test_half_close_of_the_client() -> None:
    async with arena() as where, await joined(where) as bare:
        stream = bare.peer.stream
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
        assert (await bare.expect_close()).code in (1000, 1006)


async def test_peer_that_never_answers_a_close_frame() -> None:
    async with arena(limits={"close_timeout": 0.1}) as where, await joined(where) as bare:
        await bare.send_frame(TEXT, b"4?")
        assert (await bare.receive_frame()) is not None
        await until(lambda: where.broker.statistics().sessions == len(where.broker.of("/canary").sockets))


async def test_many_sockets_for_one_session() -> None:
    """One WebSocket may probe; the others are sent away, and the session lives."""
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        async with trio.open_nursery() as nursery:

            async def probe() -> None:
                async with await BareWebSocket.open(where.server, sid=peer.sid) as bare:
                    await bare.send_frame(TEXT, b"2probe")
                    await bare.receive_frame()

            for _ in range(20):
                nursery.start_soon(probe)
        assert await peer.status() == 200
        await peer.post("1")


PROBES = [
    ("upgrade without a probe", [b"5"]),
    ("strange probe", [b"2probeX"]),
    ("probe flood", [b"2probe"] * 200 + [b"junk"]),
    ("a message first", [b'42["echo",1]']),
]


@pytest.mark.parametrize("frames", [pytest.param(one[1], id=one[0]) for one in PROBES])
async def test_row_47_probes(frames: list[bytes]) -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        async with await BareWebSocket.open(where.server, sid=peer.sid) as bare:
            for frame in frames:
                await bare.send_frame(TEXT, frame)
            await bare.expect_close()
        assert await peer.status() == 200
        await peer.post("1")


async def test_row_47_probe_and_silence() -> None:
    async with arena(upgrade_timeout=0.1) as where:
        peer = await PollingPeer.open(where.server)
        async with await BareWebSocket.open(where.server, sid=peer.sid) as bare:
            await bare.send_frame(TEXT, b"2probe")
            await bare.expect_close()
        assert await peer.status() == 200
        await peer.post("1")


async def test_row_47_probe_on_a_session_born_on_websocket() -> None:
    async with arena() as where, websocket(where.server) as peer:
        await peer.opened()
        await peer.send_text("2probe")
        assert (await peer.expect_close()).reason == "ping from the client"


async def test_sessions_that_never_join() -> None:
    async with arena(connect_timeout=0.15) as where:
        peers = [await BareWebSocket.open(where.server) for _ in range(5)]
        for bare in peers:
            assert (await bare.expect_close()) == (1008, "no namespace joined in time")
            await bare.peer.abort()


async def test_polling_sessions_that_never_poll() -> None:
    async with arena(connect_timeout=0.15, limits={"close_timeout": 0.1}) as where:
        for _ in range(5):
            await PollingPeer.open(where.server)
        await until(lambda: where.broker.statistics().sessions == len(where.broker.of("/canary").sockets))


async def test_client_that_reads_nothing() -> None:
    """Row 7.8 of the advisories: the outbox ends it as a slow consumer, long before memory matters."""
    limits = {"outbox_hard_bytes": 100_000, "outbox_soft_bytes": 50_000, "close_timeout": 0.1}
    async with arena(limits=limits) as where, websocket(where.server) as peer:
        await peer.opened()
        await peer.join()
        await _fill(where, peer)
        assert where.broker.statistics().disconnects.get("slow consumer", 0) == 1


async def _fill(where: Arena, peer: RawWebSocket) -> None:
    stream = peer.connection._stream
    assert isinstance(stream, trio.SocketStream)
    payload = "x" * 60_000
    with trio.fail_after(5):
        while not where.broker.statistics().disconnects:
            where.broker.emit("flood", payload)
            await trio.lowlevel.checkpoint()
