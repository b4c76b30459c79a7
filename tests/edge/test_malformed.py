"""What the server does with each kind of malformed Socket.IO input, on both transports (SPEC section 21)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker import Broker, DisconnectReason, Limits, Socket
from protocol import Violation
from tests.peers import (
    TEXT,
    BareWebSocket,
    Closed,
    PollingPeer,
    build_frame,
    client,
    quick_broker,
    settled,
    websocket,
)

PLACE = '{"_placeholder":true,"num":%s}'
HEADER = "451-" + f'["bin",{PLACE % 0}]'

FORCED = [
    # what it is, the messages of a client that has joined "/", the row of the table
    ("unknown type abc", ["4abc"], Violation.UNKNOWN_TYPE),
    ("unknown type 999", ["4999"], Violation.UNKNOWN_TYPE),
    ("no payload", ["4"], Violation.UNKNOWN_TYPE),
    ("one blank", ["4 "], Violation.UNKNOWN_TYPE),
    ("CONNECT array", ["40[]"], Violation.INVALID_PAYLOAD),
    ("CONNECT text", ['40"x"'], Violation.INVALID_PAYLOAD),
    ("CONNECT text to a namespace", ['40/admin,"invalid"'], Violation.INVALID_PAYLOAD),
    ("CONNECT true", ["40true"], Violation.INVALID_PAYLOAD),
    ("CONNECT null", ["40null"], Violation.INVALID_PAYLOAD),
    ("DISCONNECT object", ["41{}"], Violation.INVALID_PAYLOAD),
    ("DISCONNECT object to a namespace", ["41/admin,{}"], Violation.INVALID_PAYLOAD),
    ("EVENT without data", ["42"], Violation.INVALID_PAYLOAD),
    ("EVENT object", ["42{}"], Violation.INVALID_PAYLOAD),
    ("EVENT empty", ["42[]"], Violation.INVALID_PAYLOAD),
    ("EVENT text", ['42"x"'], Violation.INVALID_PAYLOAD),
    ("EVENT named true", ["42[true]"], Violation.INVALID_PAYLOAD),
    ("EVENT named null", ["42[null]"], Violation.INVALID_PAYLOAD),
    ("EVENT named by an object", ['42[{"a":1}]'], Violation.INVALID_PAYLOAD),
    ("EVENT named by an object with toString", ['42[{"toString":"foo"}]'], Violation.INVALID_PAYLOAD),
    ("broken JSON", ['42["some","data"'], Violation.INVALID_PAYLOAD),
    ("JSON and more", ['42["some"]x'], Violation.INVALID_PAYLOAD),
    ("NaN", ['42["echo",NaN]'], Violation.INVALID_PAYLOAD),
    ("bad ack id", ['42abc["x"]'], Violation.INVALID_PAYLOAD),
    ("blank as ack id", ['42 ["x"]'], Violation.INVALID_PAYLOAD),
    ("long ack id", ['421234567890123456["x"]'], Violation.BAD_ACK_ID),
    ("ACK without id", ["43[]"], Violation.BAD_ACK_ID),
    ("ACK object", ["431{}"], Violation.INVALID_PAYLOAD),
    ("ACK text", ['431"x"'], Violation.INVALID_PAYLOAD),
    *(
        (f"reserved {name}", [f'42["{name}","x"]'], Violation.RESERVED_EVENT)
        for name in (
            "connect",
            "connect_error",
            "disconnect",
            "disconnecting",
            "newListener",
            "removeListener",
        )
    ),
    ("attachments missing", ["45"], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments without dash", ["451"], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments with letter", ["45a-"], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments fractional", ["451.23-"], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments exponent", ['451e0-["bin"]'], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments hexadecimal", ['450x1-["bin"]'], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments empty", ['45-1-["bin"]'], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments negative", ['45--1-["bin"]'], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments zero", ['450-["bin"]'], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments none", ['45-["bin"]'], Violation.ILLEGAL_ATTACHMENTS),
    ("attachments eleven", ['4511-["bin"]'], Violation.TOO_MANY_ATTACHMENTS),
    ("text while attachments are awaited", [HEADER, '42["echo"]'], Violation.UNEXPECTED_TEXT),
    ("binary without header", [b"\x01"], Violation.UNEXPECTED_BINARY),
    (
        "placeholder named",
        ['451-["bin",{"_placeholder":true,"num":"splice"}]'],
        Violation.ILLEGAL_ATTACHMENTS,
    ),
    ("placeholder negative", [f'451-["bin",{PLACE % -1}]'], Violation.ILLEGAL_ATTACHMENTS),
    ("placeholder beyond", [f'451-["bin",{PLACE % 1}]'], Violation.ILLEGAL_ATTACHMENTS),
    ("placeholder fractional", [f'451-["bin",{PLACE % 0.5}]'], Violation.ILLEGAL_ATTACHMENTS),
    ("too deep", ['42["echo",' + "[" * 64 + "]" * 64 + "]"], Violation.TOO_DEEP),
    ("control character in a namespace", ["40/a\x01b,"], Violation.BAD_NAMESPACE),
    ("long namespace", ["40/" + "n" * 256 + ","], Violation.BAD_NAMESPACE),
    ("CONNECT_ERROR from the client", ['44{"message":"no"}'], Violation.CLIENT_CONNECT_ERROR),
    ("CONNECT again", ["40"], Violation.ALREADY_CONNECTED),
    ("EVENT for another namespace", ['42/other,["echo"]'], Violation.NOT_CONNECTED),
    ("ACK for another namespace", ["43/other,1[]"], Violation.NOT_CONNECTED),
    ("DISCONNECT for another namespace", ["41/other,"], Violation.NOT_CONNECTED),
    ("binary event for another namespace", [f'451-/other,["bin",{PLACE % 0}]'], Violation.NOT_CONNECTED),
    # Engine.IO's own; a `b` in text is a binary packet on both transports.
    ("engine packet x", ["x"], Violation.UNKNOWN_PACKET),
    ("engine packet 7", ["7"], Violation.UNKNOWN_PACKET),
    ("not base64", ["b!!!!"], Violation.BAD_BASE64),
]
IDS = [name for name, _, _ in FORCED]
ENGINE_LEVEL = {Violation.UNKNOWN_PACKET, Violation.BAD_BASE64}


class Watch:
    """A broker that keeps how its sockets ended and which events it was handed."""

    def __init__(self) -> None:
        self.broker: Broker = quick_broker(ping_interval=25.0)
        self.reasons: list[DisconnectReason] = []
        self.events: list[Any] = []
        self.broker.of("/other")

        @self.broker.on("disconnect")
        def disconnect(socket: Socket, reason: DisconnectReason) -> None:
            self.reasons.append(reason)

        @self.broker.on("note")
        def note(socket: Socket, *args: Any) -> None:
            self.events.append(args)

    def assert_ended_by(self, violation: Violation) -> None:
        assert self.broker.statistics().violations == {violation.name: 1}
        assert self.reasons == [violation.reason]
        assert self.broker.statistics().events == {}


async def assert_undisturbed(bystander: Any) -> None:
    """Hold that another session has seen nothing and still works."""
    await bystander.send_text('421["echo","still here"]')
    await bystander.expect('42["echo","still here"]')
    await bystander.expect('431["still here"]')


@pytest.mark.parametrize(("messages", "violation"), [row[1:] for row in FORCED], ids=IDS)
async def test_websocket_closes_with_code_and_text_of_the_row(
    serve: Any, messages: list[str | bytes], violation: Violation
) -> None:
    watch = Watch()
    async with serve(watch.broker) as server, client(server) as bystander:
        async with client(server) as peer:
            for message in messages:
                await peer.connection.send_message(message)
            # What comes behind it is not acted on.
            await peer.connection.send_message('42["note"]')
            assert await peer.expect_close() == Closed(violation.close_code, violation.text)
        await settled()
        watch.assert_ended_by(violation)
        await assert_undisturbed(bystander)
    assert watch.events == []


def as_packet(message: str | bytes) -> str:
    return message if isinstance(message, str) else "bAQ=="


@pytest.mark.parametrize("parked", [False, True], ids=["next GET", "parked GET"])
@pytest.mark.parametrize(("messages", "violation"), [row[1:] for row in FORCED], ids=IDS)
async def test_polling_is_told_the_end(
    serve: Any, messages: list[str | bytes], violation: Violation, parked: bool
) -> None:
    watch = Watch()
    async with serve(watch.broker) as server, client(server) as bystander:
        peer = await PollingPeer.open(server)
        await peer.join()
        get = await peer.begin_get() if parked else None
        answer = await peer.post("\x1e".join([*map(as_packet, messages), '42["note"]']))
        if violation in ENGINE_LEVEL:
            assert (answer.status, answer.json["code"]) == (400, 104)
        else:
            assert (answer.status, answer.body) == (200, b"ok")
        if get is not None:
            assert (await get.receive()).text == "1"
            await get.abort()
        elif violation not in ENGINE_LEVEL:
            assert (await peer.get()).text == "6\x1e1"
        await settled()
        watch.assert_ended_by(violation)
        await assert_undisturbed(bystander)
        gone = await peer.get()
        assert (gone.status, gone.json["code"]) == (400, 1)
    assert watch.events == []


async def test_packets_before_the_bad_one_stand(serve: Any) -> None:
    watch = Watch()
    async with serve(watch.broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        await peer.post('42["note",1]\x1e42["note",2]\x1e42{}\x1e42["note",3]')
        assert (await peer.get()).text == "6\x1e1"
    assert watch.events == [(1,), (2,)]


async def test_nothing_behind_the_bad_one_is_handled_in_one_chunk_of_frames(serve: Any) -> None:
    watch = Watch()
    async with serve(watch.broker) as server, await BareWebSocket.open(server) as peer:
        assert (await peer.receive_frame()) is not None
        await peer.send_frame(TEXT, b"40")
        assert (await peer.receive_frame()) is not None
        texts = (b'42["note",1]', b"42{}", b'42["note",2]', b"41")
        await peer.send(b"".join(build_frame(TEXT, text) for text in texts))
        assert (await peer.expect_close()).reason == Violation.INVALID_PAYLOAD.text
    assert watch.events == [(1,)]
    assert watch.reasons == [DisconnectReason.FORCED_CLOSE]


async def test_events_before_connect_end_the_session(serve: Any) -> None:
    watch = Watch()
    async with serve(watch.broker) as server:
        async with websocket(server) as peer:
            await peer.opened()
            await peer.send_text('42["note"]')
            assert (await peer.expect_close()).reason == Violation.NOT_CONNECTED.text
        polling = await PollingPeer.open(server)
        await polling.send('42["note"]')
        assert (await polling.get()).text == "6\x1e1"
    assert (watch.events, watch.reasons) == ([], [])


async def test_attachments_together_are_bounded_by_max_payload(serve: Any) -> None:
    watch = Watch()
    watch.broker = broker = quick_broker(max_payload_bytes=1000)
    async with serve(broker) as server, client(server) as peer:
        await peer.send_text(f'452-["note",{PLACE % 0},{PLACE % 1}]')
        await peer.send_binary(bytes(600))
        await peer.send_binary(bytes(600))
        assert await peer.expect_close() == Closed(1009, Violation.ATTACHMENTS_TOO_BIG.text)
    assert broker.statistics().violations == {"ATTACHMENTS_TOO_BIG": 1}


async def test_incomplete_binary_packet_has_a_deadline(virtual_serve: Any) -> None:
    broker = quick_broker(limits=Limits(assembly_timeout=0.05))
    async with virtual_serve(broker) as server, client(server) as peer:
        await peer.send_text(HEADER)
        assert await peer.expect_close() == Closed(1008, Violation.ASSEMBLY_TIMEOUT.text)


async def test_incomplete_binary_packet_is_forgotten_at_the_end(serve: Any) -> None:
    watch = Watch()
    async with serve(watch.broker) as server:
        async with client(server) as peer:
            await peer.send_text(HEADER.replace("bin", "note"))
        async with client(server) as peer:
            await peer.send_text('42["note",1]')
            await settled()
    assert watch.events == [(1,)]


async def test_server_survives_hostile_names(serve: Any) -> None:
    """135-137: names of attributes and prototypes are names like any other, as events, rooms and keys."""
    watch = Watch()
    async with serve(watch.broker) as server, client(server) as peer:
        for name in ("__proto__", "__class__", "constructor", "error", "connection", "emit", "", "toString"):
            await peer.send_text("42" + json.dumps([name, {"__proto__": {"x": 1}}]))
        await assert_undisturbed(peer)
        assert watch.broker.statistics().events == {"unhandled": 8}
