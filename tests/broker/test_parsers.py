"""Brokers with another parser than the text, byte by byte, over each kind of transport."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from broker import Broker, DisconnectReason, Limits, Socket
from protocol import Violation
from protocol.socketio.decoder import NEED_ATTACHMENTS, NeedAttachments
from protocol.socketio.msgpack import encode
from protocol.socketio.packet import Packet, PacketType
from tests.broker.carriers import ALL, Carrier, plain
from tests.edge.endings import Ends
from tests.peers import (
    ENGINE_PATH,
    Closed,
    PollingPeer,
    RawWebSocket,
    client,
    quick_broker,
    settled,
    websocket,
)

msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed")

CONNECT = encode(Packet(PacketType.CONNECT, data={"token": "x"}))


def in_base64(packed: bytes) -> str:
    return "b" + base64.b64encode(packed).decode()


def packed_event(*args: Any, ack_id: int | None = None, namespace: str = "/") -> bytes:
    return encode(Packet(PacketType.EVENT, namespace, ack_id, list(args)))


async def joined(peer: RawWebSocket) -> str:
    """Join the default namespace of a msgpack broker."""
    await peer.send_binary(CONNECT)
    answer = await peer.receive()
    assert isinstance(answer, bytes)
    packet = msgpack.unpackb(answer)
    assert (packet["type"], packet["nsp"]) == (0, "/")
    return str(packet["data"]["sid"])


def broker_with_rooms(**options: Any) -> Broker:
    broker = quick_broker(ping_interval=25.0, parser="msgpack", **options)

    @broker.on("ask_me")
    async def ask_me(socket: Socket, *args: Any) -> Any:
        return [await socket.call("question", *args)]

    @broker.on("everyone")
    def everyone(socket: Socket, *args: Any) -> None:
        broker.emit("news", *args)

    return broker


@pytest.mark.clause("SIO-PARSER-2")
@pytest.mark.parametrize("carrier", ALL)
async def test_a_websocket_of_each_kind(carrier: Carrier) -> None:
    broker = broker_with_rooms(cors_allowed_origins="*")
    async with carrier(broker) as door, websocket(door) as peer:
        await peer.opened()
        await joined(peer)
        await peer.send_binary(packed_event("echo", b"\x01", [None], ack_id=7))
        await peer.expect(packed_event("echo", b"\x01", [None]))
        await peer.expect(encode(Packet(PacketType.ACK, "/", 7, [b"\x01", [None]])))
        await peer.send_binary(packed_event("ask_me", 5, ack_id=8))
        question = await peer.receive()
        assert isinstance(question, bytes)
        ack_id = msgpack.unpackb(question)["id"]
        assert question == packed_event("question", 5, ack_id=ack_id)
        await peer.send_binary(encode(Packet(PacketType.ACK, "/", ack_id, [b"answer"])))
        await peer.expect(encode(Packet(PacketType.ACK, "/", 8, [[b"answer"]])))
        await peer.send_binary(packed_event("everyone", {"a": 1}))
        await peer.expect(packed_event("news", {"a": 1}))
        await peer.send_binary(encode(Packet(PacketType.DISCONNECT)))
        await settled()
        assert not broker.sockets.sockets


async def test_base64_for_who_asks_for_it() -> None:
    async with plain(broker_with_rooms()) as door, websocket(door, path=f"{ENGINE_PATH}&b64=1") as peer:
        await peer.opened()
        await peer.send_text(in_base64(CONNECT))
        answer = await peer.receive()
        assert isinstance(answer, str)
        assert answer.startswith("b")
        await peer.send_text(in_base64(packed_event("everyone", b"\x01")))
        await peer.expect(in_base64(packed_event("news", b"\x01")))


@pytest.mark.clause("SIO-PARSER-2")
async def test_polling_has_one_packet_for_each() -> None:
    async with plain(broker_with_rooms()) as door:
        peer = await PollingPeer.open(door)
        await peer.send(in_base64(CONNECT))
        assert (await peer.receive()).startswith("b")
        await peer.send(*(in_base64(packed_event("everyone", at)) for at in range(20)))
        first = await peer.packets()
        assert len(first) == Limits().packets_per_poll
        assert first + await peer.packets() == [in_base64(packed_event("news", at)) for at in range(20)]


async def test_refusals_and_error_answers() -> None:
    broker = broker_with_rooms()

    @broker.on("typed")
    def typed(socket: Socket, number: int) -> Any:
        return object() if number else None

    async with plain(broker) as door, websocket(door) as peer:
        await peer.opened()
        await peer.send_binary(encode(Packet(PacketType.CONNECT, "/unknown")))
        refused = Packet(PacketType.CONNECT_ERROR, "/unknown", None, {"message": "Invalid namespace"})
        await peer.expect(encode(refused))
        await joined(peer)
        for args, code in (((), "wrong_arity"), ((1,), "internal")):
            await peer.send_binary(packed_event("typed", *args, ack_id=1))
            answer = await peer.receive()
            assert isinstance(answer, bytes)
            assert msgpack.unpackb(answer)["data"][0]["error"]["code"] == code


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        ('42["echo"]', Violation.WRONG_PARSER),
        ("40", Violation.WRONG_PARSER),
        (b"", Violation.INVALID_PAYLOAD),
        (packed_event("connect"), Violation.RESERVED_EVENT),
        (packed_event("x", namespace="/other"), Violation.NOT_CONNECTED),
        (CONNECT, Violation.ALREADY_CONNECTED),
    ],
)
async def test_what_is_wrong_ends_the_session(message: str | bytes, violation: Violation) -> None:
    broker = broker_with_rooms()
    ends = Ends(broker)
    async with plain(broker) as door, websocket(door) as peer:
        await peer.opened()
        await joined(peer)
        await (peer.send_text(message) if isinstance(message, str) else peer.send_binary(message))
        assert await peer.expect_close() == Closed(violation.close_code, violation.text)
        await ends.expect(violation.reason)
        assert broker.statistics().violations[violation.name] == 1


async def test_a_binary_client_of_a_text_broker_is_told() -> None:
    async with plain(quick_broker()) as door, websocket(door) as peer:
        await peer.opened()
        await peer.send_binary(CONNECT)
        violation = Violation.UNEXPECTED_BINARY
        assert await peer.expect_close() == Closed(violation.close_code, violation.text)


# A parser of the application's own: a line of JSON, each run of bytes behind it


class Lines:
    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        data = packet.data
        binary = [each for each in data if isinstance(each, bytes)] if isinstance(data, list) else []
        rest = [each for each in data if not isinstance(each, bytes)] if isinstance(data, list) else data
        head = [int(packet.type), packet.namespace, packet.ack_id, rest, len(binary)]
        return [json.dumps(head), *binary]

    def decoder(self, limits: Limits, max_payload_bytes: int) -> LinesDecoder:
        return LinesDecoder()


class LinesDecoder:
    def __init__(self) -> None:
        self.pending: Packet | None = None
        self._missing = 0

    def reset(self) -> None:
        self.pending = None

    def feed_text(self, text: bytes) -> Packet | NeedAttachments | Violation:
        kind, namespace, ack_id, data, self._missing = json.loads(text)
        packet = Packet(PacketType(kind), namespace, ack_id, data)
        if not self._missing:
            return packet
        self.pending = packet
        return NEED_ATTACHMENTS

    def feed_binary(self, data: bytes) -> Packet | NeedAttachments | Violation:
        packet = self.pending
        if packet is None:
            return Violation.UNEXPECTED_BINARY
        packet.data.append(data)
        self._missing -= 1
        if self._missing:
            return NEED_ATTACHMENTS
        self.reset()
        return packet


@pytest.mark.clause("SIO-PARSER-1")
async def test_a_parser_of_the_application() -> None:
    async with plain(quick_broker(ping_interval=25.0, parser=Lines())) as door, websocket(door) as peer:
        await peer.opened()
        await peer.send_text('4[0, "/", null, {}, 0]')
        answer = await peer.receive()
        assert isinstance(answer, str)
        assert json.loads(answer[1:])[:2] == [0, "/"]
        await peer.send_text('4[2, "/", 3, ["echo", 1], 2]')
        await peer.send_binary(b"\x01")
        await peer.send_binary(b"")
        await peer.expect('4[2, "/", null, ["echo", 1], 2]')
        await peer.expect(b"\x01")
        await peer.expect(b"")
        await peer.expect('4[3, "/", 3, [1], 2]')


async def test_a_parser_that_fails_ends_its_session_alone(caplog: pytest.LogCaptureFixture) -> None:
    broker = quick_broker(ping_interval=25.0, parser=Lines())
    ends = Ends(broker)
    async with plain(broker) as door, websocket(door) as witness, websocket(door) as peer:
        for each in (witness, peer):
            await each.opened()
            await each.send_text('4[0, "/", null, {}, 0]')
            await each.receive()
        await peer.send_text("4not json")
        violation = Violation.INVALID_PAYLOAD
        assert await peer.expect_close() == Closed(violation.close_code, violation.text)
        await ends.expect(DisconnectReason.FORCED_CLOSE)
        assert "the decoder of the parser failed" in caplog.text
        await witness.send_text('4[2, "/", null, ["echo"], 0]')
        await witness.expect('4[2, "/", null, ["echo"], 0]')


async def test_the_text_is_still_the_default() -> None:
    async with plain(quick_broker(ping_interval=25.0)) as door, client(door) as peer:
        await peer.send_text('421["echo",1]')
        await peer.expect('42["echo",1]')
        await peer.expect("431[1]")
