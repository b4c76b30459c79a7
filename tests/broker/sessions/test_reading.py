"""Reading with the shared reader and without: handlers that suspend, full inboxes, upgrades between them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from broker import Broker, DisconnectReason, Limits, Socket
from tests.broker import carriers
from tests.broker.carriers import Carrier
from tests.peers import (
    PING,
    PONG,
    TEXT,
    BareWebSocket,
    Closed,
    PollingPeer,
    build_frame,
    client,
    settled,
    websocket,
)

every = pytest.mark.parametrize(
    "carrier", [carriers.plain, carriers.alone, carriers.tls, carriers.accepted, carriers.hypercorn]
)
sockets = pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone])
with_polling = pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.tls])


class Gated:
    """A broker whose `number` handler waits for a gate; `now` does not wait."""

    def __init__(self, **options: Any) -> None:
        self.broker = Broker(**{"ping_interval": 25.0, **options})
        self.gate = trio.Event()
        self.got: list[Any] = []
        self.reasons: list[DisconnectReason] = []
        self.broker.on("number")(self._number)
        self.broker.on("now")(self._now)
        self.broker.on("disconnect")(lambda socket, reason: self.reasons.append(reason))

    async def _number(self, socket: Socket, value: int) -> int:
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.got.append("cancelled")
            raise
        self.got.append(value)
        return value

    def _now(self, socket: Socket, value: Any) -> Any:
        self.got.append(value)
        return value


# -- handlers that suspend -----------------------------------------------------------------


@every
async def test_others_are_served_while_a_handler_waits(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door, client(door) as busy, client(door) as other:
        await busy.send_text('421["number",1]')
        await settled()
        await other.send_text('422["now",2]')
        await other.expect("432[2]")
        # Of its own socket, what comes next waits in order.
        await busy.send_text('423["now",3]')
        await settled()
        assert gated.got == [2]
        gated.gate.set()
        await busy.expect("431[1]")
        await busy.expect("433[3]")
        assert gated.got == [2, 1, 3]


@every
async def test_acks_and_heartbeats_pass_a_waiting_handler(carrier: Carrier) -> None:
    broker = Broker(ping_interval=0.05, ping_timeout=0.1)

    @broker.on("ask")
    async def ask(socket: Socket) -> Any:
        return await socket.call("which")

    async with carrier(broker) as door, client(door) as peer:
        await peer.send_text('427["ask"]')
        await peer.expect('420["which"]')
        with trio.move_on_after(0.3):
            await peer.receive()  # answers pings
        await peer.send_text("430[5]")
        await peer.expect("437[5]")


@every
async def test_a_waiting_handler_is_cancelled_by_the_end(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door:
        async with client(door) as peer, client(door) as other:
            await peer.emit("number", 1)
            await peer.emit("now", 2)
            await settled()
            await peer.abort()
            with trio.fail_after(5):
                while not gated.reasons:  # noqa: ASYNC110 - it is the broker that fills it
                    await trio.sleep(0.001)
            assert gated.got == ["cancelled"]
            await other.send_text('421["now",3]')
            await other.expect("431[3]")
        assert gated.reasons[0] in (DisconnectReason.TRANSPORT_CLOSE, DisconnectReason.TRANSPORT_ERROR)


@every
async def test_one_of_two_waiting_handlers_is_cancelled_alone(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door, client(door) as one, client(door) as other:
        await one.emit("number", 1)
        await other.send_text('421["number",2]')
        await settled()
        await one.send_text("41")
        await settled()
        await trio.sleep(0.01)
        assert gated.got == ["cancelled"]
        gated.gate.set()
        await other.expect("431[2]")
        assert gated.reasons == [DisconnectReason.CLIENT_NAMESPACE_DISCONNECT]


@every
async def test_many_events_in_one_segment(carrier: Carrier) -> None:
    """Some handlers of it suspend, some do not; none is lost and the order stays."""
    broker = Broker(ping_interval=25.0)
    got: list[int] = []

    @broker.on("number")
    async def number(socket: Socket, value: int) -> None:
        for _ in range(value % 3):
            await trio.lowlevel.checkpoint()
        got.append(value)

    broker.on("done")(lambda socket: len(got))
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        events = b"".join(build_frame(TEXT, b'42["number",%d]' % value) for value in range(300))
        await bare.send(build_frame(TEXT, b"40") + events + build_frame(TEXT, b'420["done"]'))
        while (frame := await bare.receive_frame()) is not None and frame.payload[:2] != b"43":
            pass
        assert frame is not None
        assert frame.payload == b"430[300]"
        assert got == list(range(300))


# -- a full inbox ---------------------------------------------------------------------------


@every
async def test_a_full_inbox_pauses_and_resumes_the_reading(carrier: Carrier) -> None:
    gated = Gated(limits=Limits(inbox_messages=3))
    async with carrier(gated.broker) as door, client(door) as peer, client(door) as other:
        for value in range(50):
            await peer.emit("number", value)
        await peer.send_text('427["now","last"]')
        await settled()
        session = next(one for one in gated.broker._engine.sessions.values() if one.is_paused)
        assert gated.got == []
        await other.send_text('421["now","other"]')
        await other.expect('431["other"]')
        gated.gate.set()
        await peer.expect('437["last"]')
        assert gated.got == ["other", *range(50), "last"]
        assert not session.is_paused


@every
async def test_the_pong_deadline_waits_while_the_reading_is_paused(carrier: Carrier) -> None:
    gated = Gated(ping_interval=0.03, ping_timeout=0.03, limits=Limits(inbox_messages=1))
    async with carrier(gated.broker) as door, client(door) as peer:
        for value in range(10):
            await peer.emit("number", value)
        with trio.move_on_after(0.2):
            await peer.receive()
        assert gated.reasons == []
        gated.gate.set()
        await peer.send_text('427["now","last"]')
        await peer.expect('437["last"]')
        assert gated.got == [*range(10), "last"]


@every
async def test_an_inbox_that_stays_full_ends_the_session(carrier: Carrier) -> None:
    gated = Gated(limits=Limits(inbox_messages=1, pause_timeout=0.05))
    async with carrier(gated.broker) as door, client(door) as peer:
        for value in range(10):
            await peer.emit("number", value)
        assert await peer.expect_close() == Closed(1013, "handler stalled")
        with trio.fail_after(5):
            while not gated.reasons:  # noqa: ASYNC110 - it is the broker that fills it
                await trio.sleep(0.001)
        assert gated.reasons == [DisconnectReason.HANDLER_STALLED]
        assert gated.got == ["cancelled"]


@every
async def test_the_application_ends_a_paused_session(carrier: Carrier) -> None:
    gated = Gated(limits=Limits(inbox_messages=1))
    async with carrier(gated.broker) as door, client(door) as peer:
        for value in range(10):
            await peer.emit("number", value)
        await settled()
        for one in gated.broker.sockets.sockets.values():
            one.disconnect(close=True)
            break
        await peer.expect("41")
        assert (await peer.expect_close()).code == 1000
        assert gated.got == ["cancelled"]


# -- frames that are no messages ---------------------------------------------------------------


@sockets
async def test_ping_frames_are_answered_in_their_place(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(
            build_frame(TEXT, b"40") + build_frame(PING, b"p") + build_frame(TEXT, b'421["now",1]')
        )
        kinds = [await bare.receive_frame() for _ in range(4)]
        assert [(frame.opcode, frame.payload[:3]) for frame in kinds if frame] == [
            (TEXT, b'0{"'),
            (TEXT, b"40{"),
            (PONG, b"p"),
            (TEXT, b"431"),
        ]


@sockets
async def test_what_is_behind_a_broken_frame_is_not_read(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door, await BareWebSocket.open(door) as bare:
        event = build_frame(TEXT, b'42["now",1]')
        await bare.send(build_frame(TEXT, b"40") + event + build_frame(0xB) + event)
        assert (await bare.expect_close()).code == 1002
        assert gated.got == [1]
        assert gated.broker.statistics().violations == {"BAD_FRAME": 1}


@sockets
async def test_a_reset_is_a_transport_error(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40") + build_frame(TEXT, b'42["now",1]'))
        await settled()
        stream = bare.peer.stream
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await bare.peer.abort()
        with trio.fail_after(5):
            while not gated.reasons:  # noqa: ASYNC110 - it is the broker that fills it
                await trio.sleep(0.001)
        assert gated.reasons == [DisconnectReason.TRANSPORT_ERROR]


# -- the upgrade ------------------------------------------------------------------------------


@with_polling
async def test_messages_behind_an_upgrade_packet_wait_for_a_waiting_handler(carrier: Carrier) -> None:
    gated = Gated(limits=Limits(inbox_messages=2))
    async with carrier(gated.broker) as door:
        polling = await PollingPeer.open(door)
        await polling.join()
        await polling.send(*(f'42["number",{value}]' for value in range(6)))
        await settled()
        async with websocket(door, sid=polling.sid) as peer:
            await peer.send_text("2probe")
            await peer.expect("3probe")
            await peer.send_text("5")
            for value in range(6, 12):
                await peer.emit("number", value)
            await peer.send_text('427["now","last"]')
            await settled()
            assert gated.got == []
            gated.gate.set()
            await peer.expect('437["last"]')
            assert gated.got == [*range(12), "last"]


@with_polling
async def test_after_an_upgrade_handlers_may_suspend(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door:
        polling = await PollingPeer.open(door)
        await polling.join()
        async with websocket(door, sid=polling.sid) as peer:
            await peer.send_text("2probe")
            await peer.expect("3probe")
            await peer.send_text("5")
            await peer.send_text('421["number",1]')
            await settled()
            await peer.send_text('422["number",2]')
            await settled()
            gated.gate.set()
            await peer.expect("431[1]")
            await peer.expect("432[2]")
            await peer.close()
        with trio.fail_after(5):
            while not gated.reasons:  # noqa: ASYNC110 - it is the broker that fills it
                await trio.sleep(0.001)
    assert gated.reasons == [DisconnectReason.TRANSPORT_CLOSE]


@with_polling
async def test_a_polling_handler_waits_while_posts_are_taken(carrier: Carrier) -> None:
    gated = Gated()
    async with carrier(gated.broker) as door:
        polling = await PollingPeer.open(door)
        await polling.join()
        await polling.send('421["number",1]')
        await polling.send('422["now",2]')
        assert gated.got == []
        gated.gate.set()
        await polling.expect("431[1]")
        await polling.expect("432[2]")


# -- behind the handshake -----------------------------------------------------------------------


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.alone, carriers.tls])
async def test_events_behind_the_handshake_may_suspend(carrier: Carrier) -> None:
    """They come with the request head, before anybody reads."""
    gated = Gated(limits=Limits(inbox_messages=2))
    events = [b"40", b'421["number",1]', b'422["now",2]', *(b'42["number",%d]' % n for n in range(3, 9))]
    extra = b"".join(build_frame(TEXT, event) for event in (*events, b'423["now",9]'))
    async with carrier(gated.broker) as door, await BareWebSocket.open(door, extra=extra) as bare:
        assert bare.answer.status == 101
        await settled()
        assert gated.got == []
        gated.gate.set()
        while (frame := await bare.receive_frame()) is not None and frame.payload[:3] != b"433":
            pass
        assert frame is not None
        assert gated.got == list(range(1, 10))
        await bare.send(build_frame(TEXT, b'424["now",10]'))
        frame = await bare.receive_frame()
        assert frame is not None
        assert frame.payload == b"434[10]"
