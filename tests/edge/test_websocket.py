"""The WebSocket transport: cases 57 to 65 of the table in README.md."""

from __future__ import annotations

import socket as plain_socket
import struct
from array import array
from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, Socket
from tests.peers import (
    BINARY,
    ENGINE_PATH,
    PING,
    PONG,
    TEXT,
    BareWebSocket,
    Closed,
    Frame,
    PollingPeer,
    build_frame,
    client,
    connect_packet,
    joined_id,
    settled,
)

from .endings import Ends, calm_broker, soon

Serve = Callable[..., Any]

HEADER = '451-["echo",{"_placeholder":true,"num":0}]'


async def test_057_text_and_binary_are_echoed(serve: Serve) -> None:
    async with serve(calm_broker()) as server, client(server) as peer:
        await peer.send_text('42["echo","hello"]')
        await peer.expect('42["echo","hello"]')
        await peer.send_text(HEADER)
        await peer.send_binary(b"\x01\x02\x03\x04")
        await peer.expect(HEADER)
        await peer.expect(b"\x01\x02\x03\x04")


@pytest.mark.parametrize("text", ["abc", "", "7", "b!"])
async def test_058_what_is_no_packet_closes(serve: Serve, text: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server, client(server) as peer:
        with soon():
            await peer.send_text(text)
            assert (await peer.expect_close()).code == 1002
            await ends.expect("parse error")


@pytest.mark.parametrize("how", ["one frame", "header alone", "fragments"])
async def test_059_message_above_the_bound_closes(serve: Serve, how: str) -> None:
    broker = calm_broker(max_payload_bytes=1000)
    ends = Ends(broker)
    got: list[int] = []
    broker.on("text")(lambda socket, text: got.append(len(text)))
    async with serve(broker) as server, await BareWebSocket.open(server) as peer:
        await peer.receive_frame()
        largest = b'42["text","%s"]' % (b"x" * 987)
        assert len(largest) == 1000
        await peer.send_frame(TEXT, b"40")
        await peer.receive_frame()
        await peer.send_frame(TEXT, largest)
        await settled()
        assert got == [987]
        if how == "one frame":
            await peer.send_frame(TEXT, largest + b" ")
        elif how == "header alone":
            await peer.send(build_frame(TEXT, b"", length=1001))
        else:
            await peer.send_frame(TEXT, largest, final=False)
            await peer.send_frame(0, b" ")
        with soon():
            assert await peer.expect_close() == Closed(1009, "message exceeds max_payload_bytes")
            await ends.expect("transport error")
        assert got == [987]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"\x01\x02", b"\x01\x02"),
        (bytearray(b"\x01\x02"), b"\x01\x02"),
        (memoryview(b"\x00\x01\x02\x03")[1:3], b"\x01\x02"),
        (memoryview(array("H", [1, 2, 257]))[1:].cast("B"), array("H", [2, 257]).tobytes()),
        (b"", b""),
    ],
)
async def test_060_every_kind_of_bytes_arrives_as_its_own_window(
    serve: Serve, value: Any, sent: bytes
) -> None:
    broker = calm_broker()

    @broker.on("give")
    def give(socket: Socket) -> None:
        socket.emit("echo", value)

    async with serve(broker) as server, client(server) as peer:
        await peer.emit("give")
        await peer.expect(HEADER)
        await peer.expect(sent)


async def test_061_no_extension_is_agreed_to(serve: Serve) -> None:
    offer = [
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ("Sec-WebSocket-Protocol", "chat"),
    ]
    async with serve(calm_broker()) as server, await BareWebSocket.open(server, headers=offer) as peer:
        assert peer.answer.status == 101
        assert peer.answer.header("sec-websocket-extensions") is None
        assert peer.answer.header("sec-websocket-protocol") == "chat"


async def test_062_headers_of_the_client_arrive(serve: Serve) -> None:
    broker = calm_broker()

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        socket.emit("token", socket.handshake.headers["x-token"])

    headers = [("X-Token", "abc")]
    async with serve(broker) as server:
        async with client(server, headers=headers) as peer:
            await peer.expect('42["token","abc"]')
        polling = await PollingPeer.open(server, headers=headers)
        await polling.join()
        await polling.expect('42["token","abc"]')


async def test_063_base64_is_taken_as_binary(serve: Serve) -> None:
    async with serve(calm_broker()) as server, client(server) as peer:
        await peer.send_text(HEADER)
        await peer.send_text("bAQID")
        await peer.expect(HEADER)
        await peer.expect(b"\x01\x02\x03")


async def test_064_base64_is_sent_to_who_asks_for_it(serve: Serve) -> None:
    path = f"{ENGINE_PATH}&b64=1"
    async with serve(calm_broker()) as server, client(server, path=path) as peer:
        await peer.send_text(HEADER)
        await peer.send_binary(b"\x01\x02\x03")
        await peer.expect(HEADER)
        await peer.expect("bAQID")


@pytest.mark.parametrize("query", ["", "&b64=1"])
async def test_064_ping_frame_is_answered_with_its_payload(serve: Serve, query: str) -> None:
    async with (
        serve(calm_broker()) as server,
        await BareWebSocket.open(server, path=f"{ENGINE_PATH}{query}") as peer,
    ):
        await peer.receive_frame()
        await peer.send_frame(PING, b"are you there")
        assert await peer.receive_frame() == Frame(PONG, b"are you there")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("end between messages", "transport close"),
        ("end within a message", "transport error"),
        ("reset", "transport error"),
    ],
)
async def test_065_abrupt_end_ends_the_session(serve: Serve, how: str, reason: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        async with await BareWebSocket.open(server) as peer:
            await peer.receive_frame()
            await peer.send_frame(TEXT, b"40")
            await peer.receive_frame()
            assert broker.engine.clients_count == 1
            if how == "end within a message":
                await peer.send(build_frame(TEXT, b"42", length=100))
            if how == "reset":
                assert isinstance(peer.peer.stream, trio.SocketStream)
                peer.peer.stream.socket.setsockopt(
                    plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        await ends.expect(reason)
        await settled()
        assert broker.engine.clients_count == 0


async def test_065_messages_in_fragments_of_one_byte(serve: Serve) -> None:
    async with serve(calm_broker()) as server, await BareWebSocket.open(server) as peer:
        await peer.receive_frame()
        await peer.send_frame(TEXT, connect_packet().encode())
        answer = await peer.receive_frame()
        assert answer is not None
        joined_id(answer.payload.decode())
        text = '42["echo","кот"]'.encode()
        for index, byte in enumerate(text):
            last = index == len(text) - 1
            for part in build_frame(0 if index else TEXT, bytes([byte]), final=last):
                await peer.send(bytes([part]))
        assert await peer.receive_frame() == Frame(TEXT, text)
        await peer.send_frame(TEXT, HEADER.encode())
        await peer.send_frame(BINARY, b"\x01", final=False)
        await peer.send_frame(0, b"\x02")
        assert await peer.receive_frame() == Frame(TEXT, HEADER.encode())
        assert await peer.receive_frame() == Frame(BINARY, b"\x01\x02")


async def test_065_a_hundred_come_and_go(serve: Serve) -> None:
    broker = Broker()
    async with serve(broker) as server:

        async def one() -> None:
            async with client(server) as peer:
                await peer.abort()

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
        await settled()
        assert broker.engine.clients_count == 0
        assert not broker.of("/").sockets
