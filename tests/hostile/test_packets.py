"""Hostile packets: rows 42 to 60 of the list, and floods of all that a client can send."""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections import Counter

import pytest
import trio
from trio_websocket import ConnectionClosed

from broker import Socket
from broker.sessions.engine import Engine
from protocol import Limits
from tests.peers import BareWebSocket, PollingPeer, build_frame, client, websocket

from .arena import Arena, arena, until

PLACE = '{"_placeholder":true,"num":%s}'
DEEP = "[" * 65 + "]" * 65
HALF = build_frame(0x2, b"x" * 200_000)

# What a client that has joined "/" sends, and the violation it ends with.
FORCED: list[tuple[int, str, list[str | bytes], str]] = [
    (42, "empty text", [""], "EMPTY_PACKET"),
    *(
        (43, f"first character {one!a}", [one], "UNKNOWN_PACKET")
        for one in ("7", "9", "a", "\u00b2", "\uff14", "\0", "\U0001f600")
    ),
    (45, "ping", ["2"], "WRONG_HEARTBEAT"),
    *(
        (48, f"base64 {one!a}", [one], "BAD_BASE64")
        for one in ("b!!", "bA", "bAA===", "b\u00e9\u00e9", "bA A=", "b-_-_")
    ),
    (49, "binary out of place", [b"\0"], "UNEXPECTED_BINARY"),
    *((50, f"packet {one}", [one], "UNKNOWN_TYPE") for one in ("4", "47", "4a", "4-", '4 2["x"]')),
    (51, "second CONNECT", ["40"], "ALREADY_CONNECTED"),
    (51, "event elsewhere", ['42/other,["x"]'], "NOT_CONNECTED"),
    (51, "ack elsewhere", ["43/other,1[]"], "NOT_CONNECTED"),
    (51, "binary event elsewhere", ['451-/other,["x",' + PLACE % 0 + "]"], "NOT_CONNECTED"),
    (51, "CONNECT_ERROR", ['44{"message":"x"}'], "CLIENT_CONNECT_ERROR"),
    *(
        (52, f"event {one}", [f"42{one}"], "INVALID_PAYLOAD")
        for one in ("{}", "[]", "[null]", "[{}]", '[["a"]]', "[true]", '[{"toString":"foo"}]')
    ),
    *(
        (52, f"event named {one}", [f'42["{one}"]'], "RESERVED_EVENT")
        for one in (
            "connect",
            "connect_error",
            "disconnect",
            "disconnecting",
            "newListener",
            "removeListener",
        )
    ),
    *(
        (53, f"ack id {one!a}", [f'42{one}["x"]'], "INVALID_PAYLOAD")
        for one in ("abc", "-1", "\u00b2", "\u0663", "1e3")
    ),
    *(
        (53, f"ack id of {size} digits", ["42" + "9" * size + '["x"]'], "BAD_ACK_ID")
        for size in (17, 5_000, 900_000)
    ),
    (54, "ack without id", ["43[]"], "BAD_ACK_ID"),
    (54, "ack with an object", ["431{}"], "INVALID_PAYLOAD"),
    *(
        (55, f"count {one}", [f'45{one}["x"]'], "ILLEGAL_ATTACHMENTS")
        for one in ("0-", "-", "1e1-", "1.0-", " 1-", "1", "99999999999999999999-")
    ),
    *((55, f"count {one}", [f'45{one}["x"]'], "TOO_MANY_ATTACHMENTS") for one in ("11-", "599999999-")),
    *(
        (56, f"num {one}", [f'451-["x",{PLACE % one}]'], "ILLEGAL_ATTACHMENTS")
        for one in ('"0"', "-1", "1", "1.0", "true", "99", "null", '"splice"', "1e9", "0.5")
    ),
    (56, "no num", ['451-["x",{"_placeholder":true}]'], "ILLEGAL_ATTACHMENTS"),
    (56, "num twice", [f'451-["x",{PLACE % 0},{PLACE % 0}]'], "ILLEGAL_ATTACHMENTS"),
    (56, "attachment unused", ['451-["x"]'], "ILLEGAL_ATTACHMENTS"),
    (56, "placeholder that is not true", ['451-["x",{"_placeholder":1,"num":0}]'], "ILLEGAL_ATTACHMENTS"),
    (57, "text between attachments", [f'451-["x",{PLACE % 0}]', '42["x"]'], "UNEXPECTED_TEXT"),
    (
        57,
        "attachments above the limit",
        [f'452-["x",{PLACE % 0},{PLACE % 1}]', b"x" * 600_000, b"x" * 600_000],
        "ATTACHMENTS_TOO_BIG",
    ),
    *(
        (58, f"JSON {one[:20]!a}", [f'42["x",{one}]'], "INVALID_PAYLOAD")
        for one in ("NaN", "Infinity", "-Infinity", "1,", "1]x", "/**/1", '"a\tb"', '"\\ud800"', "01", "'a'")
    ),
    (58, "JSON deeper than the limit", [f'42["x",{DEEP}]'], "TOO_DEEP"),
    (58, "a million brackets", ["42" + "[" * 999_000], "TOO_DEEP"),
    *((59, f"CONNECT {one}", [f"40/other,{one}"], "INVALID_PAYLOAD") for one in ('"x"', "[1]", "null")),
    (59, "CONNECT deeper than the limit", [f'40/other,{{"a":{DEEP}}}'], "TOO_DEEP"),
    (59, "namespace of 10 KB", ["40/" + "x" * 10_000], "BAD_NAMESPACE"),
    (59, "namespace with a control character", ["40/a\x01b,"], "BAD_NAMESPACE"),
]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize(
    ("messages", "violation"), [pytest.param(one[2], one[3], id=f"{one[0]} {one[1]}") for one in FORCED]
)
async def test_packets_that_end_the_session(
    messages: list[str | bytes], violation: str, transport: str
) -> None:
    if transport == "polling" and ("" in messages or any(isinstance(one, bytes) for one in messages)):
        pytest.skip("polling has no such message")
    async with arena() as where:
        if transport == "polling":
            peer = await PollingPeer.open(where.server)
            await peer.join()
            await peer.post("\x1e".join(str(one) for one in messages))
            await until(lambda: where.violations == {violation: 1})
            while "1" not in (answer := await peer.get()).text and answer.status == 200:
                pass
            return
        async with client(where.server) as framed:
            for message in messages:
                if isinstance(message, str):
                    await framed.send_text(message)
                else:
                    await framed.send_binary(message)
            closed = await framed.expect_close()
        assert closed.code in (1002, 1007, 1008, 1009)
        assert closed.reason
        assert where.violations == {violation: 1}


HARMLESS: list[tuple[int, str, str]] = [
    (44, "OPEN from the client", '0{"sid":"__proto__"}'),
    (46, "pong with data", "3data"),
    (46, "noop with data", "6data"),
    *(
        (52, f"event named {one}", f'42["{one}"]')
        for one in ("error", "__init__", "_private", "__proto__", "")
    ),
    (52, "event named by a megabyte", '42["' + "n" * 900_000 + '"]'),
    (53, "ack id 2^53", '42900719925474099["nobody"]'),
    (54, "unknown ack", "43999[]"),
    (55, "placeholder in a text event", f'42["nobody",{PLACE % 0}]'),
    (58, "duplicate keys", '42["nobody",{"a":1,"a":2}]'),
    (58, "many keys", '42["nobody",{' + ",".join(f'"k{number}":1' for number in range(50_000)) + "}]"),
    (58, "number beyond a double", '42["nobody",1' + "0" * 300 + "]"),
]


@pytest.mark.parametrize("text", [pytest.param(one[2], id=f"{one[0]} {one[1]}") for one in HARMLESS])
async def test_odd_packets_that_are_passed_over(text: str) -> None:
    """CVE-2024-38355 among them: an event named `error` that nobody listens to."""
    async with arena() as where, client(where.server) as peer:
        await peer.send_text(text)
        await peer.emit("echo", 1)
        await peer.expect('42["echo",1]')
        assert where.violations == {}


NAMESPACES = ["/unknown", "/a?x=1", "/../admin", "/__proto__", "//", "/caf\u00e9", "/cafe\u0301", "/a%2Fb"]


@pytest.mark.parametrize("name", NAMESPACES)
async def test_row_59_unknown_namespaces(name: str) -> None:
    async with arena() as where, client(where.server) as peer:
        where.broker.of("/admin")
        await peer.send_text(f"40{name},")
        answer = await peer.receive()
        assert answer == f'44{name},{{"message":"Invalid namespace"}}'


async def test_row_59_flood_of_refused_connects() -> None:
    async with arena() as where, client(where.server) as peer:
        with pytest.raises(ConnectionClosed):
            for number in range(30):
                await peer.send_text(f"40/none{number},")
            while True:
                await peer.receive()
        assert where.violations == {"TOO_MANY_REFUSALS": 1}


async def test_row_59_flood_of_namespaces() -> None:
    async with arena() as where, client(where.server) as peer:
        families = where.broker.of(_any_name)
        assert families is not None
        answers = Counter[str]()
        for number in range(20):
            await peer.send_text(f"40/room{number},")
            answers[str(await peer.receive())[:2]] += 1
        assert answers == {"40": Limits().namespaces_per_session - 1, "44": 5}


def _any_name(name: str, auth: object) -> bool:
    return name.startswith("/room")


async def test_dynamic_namespaces_are_bounded() -> None:
    async with arena(limits={"dynamic_namespaces": 3}) as where, client(where.server) as peer:
        where.broker.of(_any_name)
        answers = Counter[str]()
        for number in range(6):
            await peer.send_text(f"40/room{number},")
            answers[str(await peer.receive())[:2]] += 1
        assert answers == {"40": 3, "44": 3}
        assert where.refusals["dynamic namespaces"] == 3


async def test_row_57_attachments_that_never_come() -> None:
    """CVE-2026-48804: what is held goes when the time is up, and with the session."""
    async with arena(limits={"assembly_timeout": 0.15}) as where, client(where.server) as peer:
        await peer.send_text(f'452-["x",{PLACE % 0},{PLACE % 1}]')
        await peer.send_binary(b"x" * 500_000)
        closed = await peer.expect_close()
        assert closed == (1008, "binary packet not completed in time")
        assert where.violations == {"ASSEMBLY_TIMEOUT": 1}


@pytest.mark.parametrize("step", ["joined", "not joined"])
async def test_cve_2026_48804_half_of_a_packet_goes_with_its_session(step: str) -> None:
    """What is held for a packet is freed when its client goes, and nothing is held for one outside."""
    async with arena() as where:
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(10):
                async with await BareWebSocket.open(where.server) as bare:
                    if step == "joined":
                        await bare.send_frame(0x1, b"40")
                    try:
                        await bare.send_frame(0x1, f'452-["x",{PLACE % 0},{PLACE % 1}]'.encode())
                        await bare.send(HALF)
                    except trio.BrokenResourceError:
                        pass
            await until(lambda: where.broker.statistics().sessions == len(where.broker.of("/canary").sockets))
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert kept < 300_000


@pytest.mark.parametrize("header", ['450-["x"]', '4599999999-["x"]'])
async def test_cve_2026_33151_and_69185_attachments_without_end(header: str) -> None:
    async with arena() as where, await BareWebSocket.open(where.server) as bare:
        await bare.send_frame(0x1, b"40")
        await bare.send_frame(0x1, header.encode())
        try:
            for _ in range(50):
                await bare.send_frame(0x2, b"x" * 1_000)
        except trio.BrokenResourceError:
            pass
        await bare.expect_close()
        assert sum(where.violations.values()) == 1


async def test_rows_54_60_flood_of_acks_nobody_waits_for() -> None:
    async with arena() as where, client(where.server) as peer:
        for ack_id in range(500):
            await peer.send_text(f"43{ack_id}[]")
        await peer.emit("echo", 1)
        await peer.expect('42["echo",1]')
        assert where.events == {"unknown ack": 500}


async def test_forged_ack_of_another_socket() -> None:
    async with arena() as where, client(where.server) as victim, client(where.server) as forger:
        answers: list[object] = []

        @where.broker.on("begin")
        async def begin(socket: Socket) -> None:
            answers.append(await socket.call("question", timeout=2))

        await victim.emit("begin")
        question = str(await victim.receive())
        ack_id = question.removeprefix("42").partition("[")[0]
        await forger.send_text(f'43{ack_id}["forged"]')
        await forger.emit("echo", 1)
        await forger.expect('42["echo",1]')
        assert answers == []
        await victim.send_text(f'43{ack_id}["true"]')
        await until(lambda: answers == ["true"])


async def test_row_60_acks_that_one_peer_owes_are_bounded() -> None:
    async with arena(limits={"outstanding_acks": 5}) as where, client(where.server) as peer:
        outcomes: list[str] = []

        @where.broker.on("ask")
        async def ask(socket: Socket) -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(one, socket)

        async def one(socket: Socket) -> None:
            try:
                await socket.call("question", timeout=0.1)
            except Exception as error:
                outcomes.append(type(error).__name__)

        await peer.emit("ask")
        await until(lambda: len(outcomes) == 8)
        assert Counter(outcomes) == {"TooManyAcks": 3, "AckTimeout": 5}


async def test_row_60_rooms_are_bounded() -> None:
    async with arena(limits={"rooms_per_socket": 5, "room_bytes": 10}) as where, client(where.server) as peer:

        @where.broker.on("join")
        def join(socket: Socket, room: str) -> int:
            try:
                socket.join(room)
            except ValueError:
                return 0
            return len(socket.rooms) - 1

        answers = []
        for number, room in enumerate(["a", "b", "c", "__proto__", "", "f", "g" * 11, "\u00e9" * 6, "a"]):
            await peer.send_text(f'42{number}["join","{room}"]')
            answers.append(str(await peer.receive()).partition("[")[2])
        assert answers == ["1]", "2]", "3]", "4]", "5]", "0]", "0]", "0]", "5]"]


async def test_row_60_flood_of_events_with_ids_never_acked() -> None:
    """Ids of the client cost nothing: what grows is bounded whatever their number."""
    async with arena() as where, client(where.server) as peer:
        gc.collect()
        tracemalloc.start()
        try:
            for ack_id in range(500):
                await peer.send_text(f'42{ack_id}["nobody"]')
            await peer.emit("echo", 1)
            await peer.expect('42["echo",1]')
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert grown < 1_000_000
        assert where.events == {"unhandled": 500}


async def test_row_60_flood_of_events_for_a_slow_handler() -> None:
    """A full inbox stops the reading, and after the pause the session ends with its reason."""
    limits = {"inbox_messages": 8, "pause_timeout": 0.15, "close_timeout": 0.1}
    async with arena(limits=limits) as where, client(where.server) as peer:

        @where.broker.on("slow")
        async def slow(socket: Socket) -> None:
            await trio.sleep_forever()

        for _ in range(50):
            await peer.emit("slow")
        await until(lambda: where.broker.statistics().disconnects.get("handler stalled", 0) == 1)


async def test_rooms_of_another_socket_are_only_a_name() -> None:
    """The public id that names a socket's own room is not the secret one of its session."""
    async with arena() as where, client(where.server) as one, websocket(where.server) as other:
        secret = (await other.opened())["sid"]
        public = await other.join()
        assert secret != public
        await one.emit("echo", secret)
        await one.receive()
        assert secret not in where.broker.sockets.sockets


def test_cve_2017_16031_ids_are_random() -> None:
    """20 characters of 6 bits, all of them used alike: 120 bits each, no counter, no time."""
    ids = [Engine.new_id(None) for _ in range(20_000)]  # type: ignore[arg-type]  # it takes nothing of the engine
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {20}
    for position in range(20):
        counts = Counter(one[position] for one in ids)
        assert len(counts) == 64
        entropy = -sum(count / len(ids) * math.log2(count / len(ids)) for count in counts.values())
        assert entropy > 5.98


async def test_session_id_is_not_told_to_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with arena() as where, client(where.server) as one, client(where.server) as other:
        await one.emit("echo", "x")
        await one.receive()
        where.broker.emit("news", [socket.id for socket in where.broker.sockets.sockets.values()])
        news = str(await other.receive())
        for secret in _secrets(where):
            assert secret not in news
            assert secret not in caplog.text


def _secrets(where: Arena) -> list[str]:
    return list(where.broker._engine.sessions)
