"""Writes that the peer does not take: they end by time or by its going away, and never cut a frame."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
import trio

from broker import Broker, DisconnectReason, Limits
from broker.flow.encoded import EncodedMessage
from broker.transports.base import TransportEnded
from broker.transports.socket_websocket import SocketWebSocket
from broker.transports.stream_websocket import StreamWebSocket
from tests.broker import carriers
from tests.broker.carriers import Carrier
from tests.peers import (
    CLOSE,
    ENGINE_PATH,
    TEXT,
    BareWebSocket,
    build_frame,
    client,
    quick_broker,
    settled,
    until,
)

RESET = b"\1\0\0\0\0\0\0\0"  # close with RST
SIZE = 200_000
carried = pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.tls, carriers.sockets])


def watched(**limits: Any) -> tuple[Broker, list[DisconnectReason]]:
    """Return a broker with a short patience, and the reasons why its sockets ended."""
    broker = quick_broker(ping_interval=25.0, limits=Limits(close_timeout=0.1, **limits))
    reasons: list[DisconnectReason] = []
    broker.on("disconnect")(lambda socket, reason: reasons.append(reason))
    return broker, reasons


async def clog(broker: Broker) -> int:
    """Emit until something is left waiting; return how many messages that took."""
    await until(lambda: broker.sockets.sockets)
    for sent in range(1, 500):
        broker.emit("flood", "x" * SIZE)
        await settled()
        if broker.statistics().queued_bytes:
            return sent
    raise AssertionError("the peer takes everything")


@carried
async def test_a_write_without_progress_ends_the_session(carrier: Carrier) -> None:
    broker, reasons = watched(write_timeout=0.1)
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        await clog(broker)
        await until(lambda: reasons)
        assert reasons == [DisconnectReason.SLOW_CONSUMER]
        await until(lambda: broker.statistics().sessions == 0)


@carried
async def test_a_peer_that_reads_late_gets_every_frame_whole(carrier: Carrier) -> None:
    broker, reasons = watched()
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        sent = await clog(broker)
        broker.emit("last", b"\1\2")
        payloads: list[bytes] = []
        while not payloads or payloads[-1] != b"\1\2":
            frame = await bare.receive_frame()
            assert frame is not None
            payloads.append(frame.payload)
        assert payloads[2:-2] == [b'42["flood","%s"]' % (b"x" * SIZE)] * sent
        await settled()
        broker.emit("direct")
        frame = await bare.receive_frame()
        assert frame is not None
        assert frame.payload == b'42["direct"]'
        assert reasons == []


@carried
async def test_what_waits_is_written_before_the_close_frame(carrier: Carrier) -> None:
    broker, reasons = watched()
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        sent = await clog(broker)
        for one in broker.sockets.sockets.values():
            one.disconnect(close=True)
            break
        kinds = []
        while (frame := await bare.receive_frame()) is not None:
            kinds.append((frame.opcode, len(frame.payload) > SIZE))
        assert kinds[2:-2] == [(TEXT, True)] * sent
        assert kinds[-2:] == [(TEXT, False), (CLOSE, False)]
        assert reasons == [DisconnectReason.SERVER_NAMESPACE_DISCONNECT]


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.unix])
async def test_a_close_frame_waits_for_the_kernel_too(carrier: Carrier) -> None:
    # Over a Unix socket the kernel takes small writes whole or not at all: no begun frame stands before it.
    broker = quick_broker(ping_interval=25.0, limits=Limits(outbox_hard_bytes=50_000))
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        await until(lambda: broker.sockets.sockets)
        while not broker.emit("flood", "x" * 1_000).closed:
            pass
        await settled()
        assert await bare.expect_close() == (1013, "slow consumer")


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.sockets])
async def test_a_peer_that_goes_away_while_much_waits(carrier: Carrier) -> None:
    broker, reasons = watched()
    async with carrier(broker) as door:
        bare = await BareWebSocket.open(door)
        await bare.send(build_frame(TEXT, b"40"))
        await clog(broker)
        assert isinstance(bare.peer.stream, trio.SocketStream)
        if bare.peer.stream.socket.family == socket.AF_INET:
            bare.peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await bare.peer.abort()
        await until(lambda: reasons)
        assert reasons[0] in (DisconnectReason.TRANSPORT_ERROR, DisconnectReason.TRANSPORT_CLOSE)
        await until(lambda: broker.statistics().sessions == 0)


@carried
async def test_base64_while_much_waits(carrier: Carrier) -> None:
    broker, _ = watched()
    async with carrier(broker) as door, client(door, path=f"{ENGINE_PATH}&b64=1") as peer:
        for _ in range(20):
            broker.emit("flood", b"\0" * 30_000)
        for _ in range(20):
            await peer.expect('451-["flood",{"_placeholder":true,"num":0}]')
            await peer.expect("b" + "A" * 40_000)


# -- the transports themselves ---------------------------------------------------------------


def transport_pair() -> tuple[SocketWebSocket, socket.socket]:
    """Return a transport on a socket, and the peer's socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return SocketWebSocket(ours, b"", 1_000, Limits(), False), theirs


async def test_reading_without_waiting() -> None:
    transport, peer = transport_pair()
    assert transport.receive_now() == ()
    peer.send(build_frame(TEXT, b"4a")[:3])
    assert transport.receive_now() in ((), [])
    peer.send(build_frame(TEXT, b"4a")[3:])
    assert list(await transport.receive()) == [b"4a"]
    peer.close()
    with pytest.raises(TransportEnded) as ended:
        await transport.receive()
    assert ended.value.reason is DisconnectReason.TRANSPORT_CLOSE
    transport.abort()
    transport.abort()
    assert transport.fileno == -1
    with pytest.raises(TransportEnded):
        await transport.receive()


async def test_an_answer_to_a_probe_that_cannot_be_sent() -> None:
    transport, peer = transport_pair()
    messages = [EncodedMessage(b"4" + b"x" * 500_000)]
    with trio.move_on_after(0.02) as scope:
        await transport.write(messages)  # more than the kernel takes
    assert scope.cancelled_caught
    peer.close()
    with pytest.raises(TransportEnded) as ended:
        await transport.write(messages)
    assert ended.value.reason is DisconnectReason.TRANSPORT_ERROR
    await transport.close(1000, "")
    await transport.finish(DisconnectReason.TRANSPORT_ERROR, 1002, "")
    await transport.finish(DisconnectReason.TRANSPORT_ERROR, 1002, "")
    assert transport.fileno == -1


async def test_a_stream_whose_write_was_cut_is_not_used_again() -> None:
    ours, theirs = await carriers.memory_pair()
    transport = StreamWebSocket(ours, b"", 1_000, Limits(), False)
    await theirs.aclose()
    with pytest.raises(TransportEnded):
        await transport.write([EncodedMessage(b"4a")])
    await transport.close(1000, "")
    with pytest.raises(TransportEnded):
        await transport.receive()


class Odd(trio.abc.Stream):
    """A stream whose read raises once what no stream should, when it was told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.odd = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if self.odd:
            self.odd = False
            raise RuntimeError("odd")
        return data

    async def send_all(self, data: Any) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_an_error_nobody_foresaw_ends_one_session_alone(caplog: pytest.LogCaptureFixture) -> None:
    broker, reasons = watched()
    ours, theirs = await carriers.memory_pair()
    odd = Odd(theirs)
    async with broker, trio.open_nursery() as nursery:
        nursery.start_soon(broker.handle_stream, odd)
        async with client(0, stream=ours) as peer:
            odd.odd = True
            with caplog.at_level(logging.ERROR):
                await peer.emit("echo", 1)
                await until(lambda: reasons)
        assert reasons == [DisconnectReason.FORCED_CLOSE]
        assert "session failed" in caplog.text
        nursery.cancel_scope.cancel()
