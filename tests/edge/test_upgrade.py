"""The upgrade from polling to a WebSocket: cases 83 to 95 of the table in README.md."""

from __future__ import annotations

import socket as plain_socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from broker import Broker, Limits, Socket
from tests.peers import (
    ENGINE_PATH,
    SEPARATOR,
    TEXT,
    BareWebSocket,
    Closed,
    HttpPeer,
    PollingPeer,
    RawWebSocket,
    build_frame,
    client,
    http,
    quick_broker,
    settled,
    upgrade_head,
    websocket,
)

from .endings import Ends, calm_broker, refused, soon

Serve = Callable[..., Any]
TURNED_AWAY = Closed(1008, "session cannot be upgraded")


async def on_polling(server: Any) -> PollingPeer:
    """Open a session on polling and join `/`."""
    peer = await PollingPeer.open(server)
    await peer.join()
    return peer


async def probe(peer: RawWebSocket) -> None:
    """Go as far as the answer to the probe."""
    await peer.send_text("2probe")
    await peer.expect("3probe")


async def move_over(peer: RawWebSocket) -> None:
    """Go on over the WebSocket, and see that events are answered there."""
    await peer.send_text("5")
    await peer.send_text('42["echo","hello"]')
    await peer.expect('42["echo","hello"]')


@asynccontextmanager
async def upgraded(server: Any, polling: PollingPeer) -> AsyncIterator[RawWebSocket]:
    """Upgrade a session whose client has no request under way."""
    async with websocket(server, sid=polling.sid) as peer:
        await probe(peer)
        await peer.send_text("5")
        yield peer


async def reset(peer: RawWebSocket) -> None:
    """Drop the TCP connection with a reset."""
    stream = peer.connection._stream
    assert isinstance(stream, trio.SocketStream)
    stream.socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.abort()


async def test_083_upgrade(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        async with await polling.begin_get() as parked, websocket(server, sid=polling.sid) as peer:
            with soon():
                await probe(peer)
                assert (await parked.receive()).text == "6"
                await move_over(peer)


async def test_083_get_after_the_probe_is_released(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
            with soon():
                assert (await polling.get()).text == "6"
            await move_over(peer)


async def test_084_polling_is_refused_after_the_upgrade(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        async with upgraded(server, polling) as peer:
            await settled()
            refused(await polling.get(), 400, 3)
            refused(await polling.post('42["echo","lost"]'), 400, 3)
            await peer.send_text('42["echo","hello"]')
            await peer.expect('42["echo","hello"]')


@pytest.mark.parametrize("first", ["2probe", "5", '42["echo","stolen"]', None])
@pytest.mark.parametrize("born_on", ["polling", "websocket"])
async def test_085_086_second_websocket_is_turned_away(serve: Serve, first: str | None, born_on: str) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server) if born_on == "polling" else None
        async with upgraded(server, polling) if polling else client(server) as peer:
            await settled()
            sid = polling.sid if polling else peer.handshake["sid"]
            async with websocket(server, sid=sid) as second:
                with soon():
                    if first is not None:
                        try:
                            await second.send_text(first)
                        except ConnectionClosed:
                            pass  # turned away before it was sent
                    assert await second.expect_close() == TURNED_AWAY
            await peer.send_text('42["echo","hello"]')
            await peer.expect('42["echo","hello"]')


async def test_085_websocket_that_was_turned_away_and_stays_is_dropped(serve: Serve) -> None:
    broker = calm_broker(limits=Limits(close_timeout=0.1))
    async with serve(broker) as server, client(server) as peer:
        async with await BareWebSocket.open(server, sid=peer.handshake["sid"]) as second:
            # Its end of the connection stays open, and it answers nothing.
            assert await second.expect_close() == TURNED_AWAY
            with trio.fail_after(1), pytest.raises(trio.BrokenResourceError):
                while True:
                    await second.peer.stream.send_all(b"x")
                    await trio.sleep(0.02)
        await peer.send_text('42["echo","hello"]')
        await peer.expect('42["echo","hello"]')


# -- numbered messages both ways -----------------------------------------------


class Count:
    """Numbers messages both ways, and holds that each arrives once and in order."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.emitted = 0
        self.sent = 0
        self.seen: list[int] = []
        self.got: list[int] = []

        @broker.on("number")
        def number(socket: Socket, value: int) -> None:
            self.got.append(value)

    def emit(self, count: int = 3) -> None:
        """Have the server send."""
        for _ in range(count):
            self.broker.emit("tick", self.emitted)
            self.emitted += 1

    def write(self, count: int = 3) -> list[str]:
        """Return packets for the client to send."""
        first = self.sent
        self.sent += count
        return [f'42["number",{value}]' for value in range(first, self.sent)]

    def read(self, *packets: str | bytes) -> None:
        """Take what came to the client."""
        for packet in packets:
            assert isinstance(packet, str)
            if packet.startswith('42["tick",'):
                self.seen.append(int(packet[10:-1]))
            else:
                assert packet in {"6", "2"}, packet

    async def poll(self, polling: PollingPeer) -> None:
        """Read all that waits, by GETs."""
        while len(self.seen) < self.emitted:
            self.read(*await polling.packets())

    async def traffic(self, polling: PollingPeer) -> None:
        """Send both ways over polling; half of what the server sends still waits afterwards."""
        self.emit()
        await polling.send(*self.write())
        await self.poll(polling)
        self.emit()

    async def finish(self, peer: RawWebSocket) -> None:
        """Send both ways over the WebSocket, and hold that nothing was lost, doubled or overtaken."""
        self.emit()
        for packet in self.write():
            await peer.send_text(packet)
        while len(self.seen) < self.emitted:
            self.read(await peer.receive())
        await settled()
        self.check()

    def check(self) -> None:
        """Hold that all is there."""
        assert self.seen == list(range(self.emitted))
        assert self.got == list(range(self.sent))


ABORTS = [
    "close before probe",
    "reset before probe",
    "upgrade before probe",
    "probe in binary",
    "timeout before probe",
    "close after probe",
    "reset after probe",
    "text after probe",
    "noop after probe",
    "binary after probe",
    "bad frame after probe",
    "timeout after probe",
]


LATE_ABORTS = [how for how in ABORTS if "after" in how and "timeout" not in how]


async def abort(how: str, peer: RawWebSocket) -> None:
    """End a probe in one of the ways above."""
    what = how.split()[0]
    if what == "close":
        await peer.close()
    elif what == "reset":
        await reset(peer)
    elif what == "bad":
        await peer.connection._stream.send_all(build_frame(TEXT, b"5", rsv=7))
    elif what == "probe":
        await peer.send_binary(b"2probe")
    elif what == "binary":
        await peer.send_binary(b"5")
    elif what != "timeout":
        await peer.send_text({"upgrade": "5", "text": '42["number",-1]', "noop": "6"}[what])
    if what not in {"close", "reset"}:
        assert (await peer.expect_close()).code == 1000


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("how", ABORTS)
async def test_087_089_aborted_upgrade_loses_nothing(serve: Serve, how: str, parked: bool) -> None:
    broker = Broker(upgrade_timeout=0.3 if "timeout" in how else 10.0)
    count = Count(broker)
    ends = Ends(broker)
    async with serve(broker) as server:
        polling = await on_polling(server)
        await count.traffic(polling)
        for _ in range(2):
            await count.poll(polling)
            waiting = await polling.begin_get() if parked else None
            async with websocket(server, sid=polling.sid) as peer:
                if "after" in how:
                    await probe(peer)
                    if waiting is not None:
                        count.read((await waiting.receive()).text)
                        await waiting.abort()
                        waiting = await polling.begin_get()
                await polling.send(*count.write())
                await abort(how, peer)
            await settled()
            if waiting is not None:
                # It stays parked, or was released by a noop; what comes now arrives either way.
                count.emit()
                count.read(*(await waiting.receive()).text.split(SEPARATOR))
                await waiting.abort()
            await count.traffic(polling)
        # The session is as it was: an upgrade that works takes over what waits.
        async with upgraded(server, polling) as peer:
            await count.finish(peer)
        await ends.expect("transport close")


async def test_089_get_stays_parked_again_after_a_failed_upgrade(serve: Serve) -> None:
    broker = Broker()
    async with serve(broker) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
        await settled()
        async with await polling.begin_get() as parked:
            with trio.move_on_after(0.25) as quiet:
                await parked.receive()
            assert quiet.cancelled_caught
            broker.emit("tick", 1)
            assert (await parked.receive()).text == '42["tick",1]'


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("behind", [False, True])
async def test_087_nothing_is_lost_at_the_switch(serve: Serve, parked: bool, behind: bool) -> None:
    broker = Broker()
    count = Count(broker)
    async with serve(broker) as server:
        polling = await on_polling(server)
        await count.traffic(polling)
        async with websocket(server, sid=polling.sid) as peer:
            await count.poll(polling)
            waiting = await polling.begin_get() if parked else None
            await probe(peer)
            await polling.send(*count.write())
            if waiting is not None:
                count.read((await waiting.receive()).text)
                await waiting.abort()
            count.emit()
            if behind:
                # UPGRADE and messages in one piece, so that they are read together.
                packets = [*count.write(50)]
                frames = b"".join(build_frame(TEXT, packet.encode()) for packet in ["5", *packets])
                await peer.connection._stream.send_all(frames)
            else:
                await peer.send_text("5")
            count.emit()
            await count.finish(peer)


async def test_087_get_that_is_parked_at_the_switch(serve: Serve) -> None:
    broker = Broker()
    count = Count(broker)
    async with serve(broker) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
            async with await polling.begin_get() as parked:
                await peer.send_text("5")
                with soon():
                    assert (await parked.receive()).text == "6"
            await count.finish(peer)


async def test_087_post_that_is_open_at_the_switch(serve: Serve) -> None:
    broker = Broker()
    count = Count(broker)
    async with serve(broker) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
            async with await HttpPeer.open(server) as half:
                await half.send("POST", polling.target, [("Content-Length", "100")])
                await settled()
                await peer.send_text("5")
                with soon():
                    refused(await half.receive("POST"), 400, 3)
            await count.finish(peer)


async def test_087_numbers_both_ways_at_full_speed(serve: Serve) -> None:
    broker = Broker()
    count = Count(broker)

    async def emit(stop: trio.Event, busy: trio.Event) -> None:
        until = count.emitted + 20
        while not stop.is_set():
            count.emit(1)
            if count.emitted >= until:
                busy.set()
            await trio.sleep(0.001)

    async def poll(stop: trio.Event) -> None:
        while not stop.is_set():
            count.read(*await polling.packets())

    async def post(stop: trio.Event) -> None:
        while not stop.is_set():
            await polling.send(*count.write(2))

    async with serve(broker) as server:
        polling = await on_polling(server)
        for how in [*LATE_ABORTS, None]:
            async with websocket(server, sid=polling.sid) as peer:
                stop, busy = trio.Event(), trio.Event()
                async with trio.open_nursery() as ways:
                    ways.start_soon(emit, stop, busy)
                    ways.start_soon(poll, stop)
                    ways.start_soon(post, stop)
                    await probe(peer)
                    await busy.wait()
                    if how is not None:
                        await abort(how, peer)
                    stop.set()
                    count.emit(1)  # for a GET that is parked
                if how is None:
                    # The client's part is done: nothing is under way on polling.
                    await peer.send_text("5")
                    await count.finish(peer)


# -- one probe at a time ---------------------------------------------------------


async def test_087_a_hundred_websockets_with_one_sid(serve: Serve) -> None:
    broker = calm_broker()
    async with serve(broker) as server:
        polling = await on_polling(server)
        outcomes: list[int] = []
        finish = trio.Event()

        async def one() -> None:
            async with websocket(server, sid=polling.sid) as peer:
                try:
                    await probe(peer)
                    await move_over(peer)
                except ConnectionClosed as closed:
                    outcomes.append(closed.reason.code if closed.reason else 1006)
                else:
                    outcomes.append(0)
                    await finish.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
            with trio.fail_after(5):
                while len(outcomes) < 100:
                    await settled()
            assert sorted(outcomes) == [0] + [1008] * 99
            assert broker.engine.clients_count == 1
            finish.set()


async def test_087_second_probe_does_not_disturb_the_first(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as first:
            await probe(first)
            async with websocket(server, sid=polling.sid) as second:
                with soon():
                    assert await second.expect_close() == TURNED_AWAY
            await probe(first)
            await move_over(first)


async def test_087_next_probe_may_come_when_the_first_is_gone(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as first:
            await probe(first)
        await settled()
        async with upgraded(server, polling) as second:
            await second.send_text('42["echo",1]')
            await second.expect('42["echo",1]')


async def test_087_websocket_pings_do_not_fail_a_probe(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            with trio.fail_after(1):
                await peer.connection.ping()
                await probe(peer)
                await peer.connection.ping()
                await peer.connection.pong()
            await move_over(peer)


# -- the session ends meanwhile ----------------------------------------------------


@pytest.mark.parametrize("step", ["before probe", "after probe"])
@pytest.mark.parametrize("who", ["server", "client", "abort", "timeout"])
async def test_088_092_session_that_ends_closes_its_probe(serve: Serve, step: str, who: str) -> None:
    broker = quick_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            if step == "after probe":
                await probe(peer)
            await settled()
            reason = {"client": "transport close", "abort": "transport error", "timeout": "ping timeout"}
            if who == "server":
                broker.emit("last")
                for socket in list(broker.of("/").sockets.values()):
                    socket.disconnect(close=True)
            elif who == "client":
                await polling.send("1")
            elif who == "abort":
                await (await polling.begin_get()).abort()
            await ends.expect(reason.get(who, "server namespace disconnect"), within=1)
            with soon():
                assert (await peer.expect_close()).code == 1000
        if who == "server":
            # What was sent before the close is still fetched.
            assert await polling.packets() == ['42["last"]', "41", "6", "1"]
        await settled()
        refused(await polling.get(), 400, 1)
        assert broker.engine.clients_count == 0


async def test_088_probe_for_a_session_that_is_closing(serve: Serve) -> None:
    broker = calm_broker()
    async with serve(broker) as server:
        polling = await on_polling(server)
        for socket in list(broker.of("/").sockets.values()):
            socket.disconnect(close=True)
        await settled()
        async with websocket(server, sid=polling.sid) as peer:
            assert await peer.expect_close() == TURNED_AWAY
        assert (await polling.packets())[-1] == "1"


@pytest.mark.parametrize("step", ["before probe", "after probe"])
async def test_089_probe_that_is_not_finished_in_time(serve: Serve, step: str) -> None:
    async with serve(calm_broker(upgrade_timeout=0.1)) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            began = trio.current_time()
            if step == "after probe":
                await probe(peer)
            assert await peer.expect_close() == Closed(1000, "upgrade failed")
            assert 0.08 <= trio.current_time() - began <= 0.3
        await polling.send('42["echo",1]')
        await polling.expect('42["echo",1]')


async def test_090_timer_of_an_upgrade_ends_with_it(serve: Serve) -> None:
    async with serve(calm_broker(upgrade_timeout=0.1)) as server:
        polling = await on_polling(server)
        async with upgraded(server, polling) as peer:
            await trio.sleep(0.2)
            await peer.send_text('42["echo",1]')
            await peer.expect('42["echo",1]')


async def test_091_ack_that_is_asked_for_meanwhile(serve: Serve) -> None:
    broker = calm_broker()
    answers: list[Any] = []
    async with serve(broker) as server, trio.open_nursery() as nursery:
        polling = await on_polling(server)
        (socket,) = broker.of("/").sockets.values()

        async def ask() -> None:
            answers.append(await socket.call("question", timeout=3))

        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
            nursery.start_soon(ask)
            question = await polling.receive()
            while question == "6":
                question = await polling.receive()
            assert question.endswith('["question"]')
            ack_id = question[2 : -len('["question"]')]
            await peer.send_text("5")
            await peer.send_text(f"43{ack_id}[7]")
            await settled()
            assert answers == [7]


@pytest.mark.parametrize("transport", ["polling", "foo", ""])
async def test_093_upgrade_with_another_transport(serve: Serve, transport: str) -> None:
    async with serve(calm_broker()) as server:
        polling = await on_polling(server)
        target = f"{ENGINE_PATH}&transport={transport}&sid={polling.sid}"
        async with await HttpPeer.open(server) as peer:
            await peer.send_raw(upgrade_head(target, peer.authority))
            refused(await peer.receive(), 400, 3 if transport == "polling" else 0)
        await polling.send('42["echo",1]')
        await polling.expect('42["echo",1]')


async def test_093_upgrade_of_an_unknown_session(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        async with await BareWebSocket.open(server, sid="abcdefghijklmnopqrst") as peer:
            assert peer.answer.status == 400
        response = await http(server, "GET", f"{ENGINE_PATH}&transport=websocket&sid=abcdefghijklmnopqrst")
        refused(response, 400, 1)


async def test_093_upgrade_where_none_is_allowed(serve: Serve) -> None:
    async with serve(calm_broker(allow_upgrades=False)) as server:
        polling = await on_polling(server)
        assert polling.handshake["upgrades"] == []
        async with websocket(server, sid=polling.sid) as peer:
            assert await peer.expect_close() == TURNED_AWAY
        await polling.send('42["echo",1]')
        await polling.expect('42["echo",1]')


async def test_095_noop_each_100_ms_only_for_a_parked_get(serve: Serve) -> None:
    async with serve(Broker()) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
            for _ in range(3):
                began = trio.current_time()
                assert await polling.packets() == ["6"]
                assert 0.05 <= trio.current_time() - began <= 0.2
            # Nobody polls for a while: no noops gather.
            await trio.sleep(0.35)
            assert await polling.packets() == ["6"]


async def test_095_message_meanwhile_answers_a_parked_get(serve: Serve) -> None:
    broker = Broker()
    async with serve(broker) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid) as peer:
            await probe(peer)
            async with await polling.begin_get() as parked:
                broker.emit("tick", 1)
                assert (await parked.receive()).text == '42["tick",1]'


# -- the heartbeat goes on -----------------------------------------------------------


async def test_095_ping_before_the_switch_is_answered_behind_it(serve: Serve) -> None:
    async with serve(quick_broker()) as server:
        polling = await on_polling(server)
        async with websocket(server, sid=polling.sid, pongs=False) as peer:
            await probe(peer)
            while (await polling.packets()) == ["6"]:
                pass  # until the ping
            await peer.send_text("5")
            await peer.send_text("3")
            for _ in range(2):
                await peer.expect("2")
                await peer.send_text("3")


async def test_095_silence_after_the_switch_ends_the_session(serve: Serve) -> None:
    broker = quick_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        polling = await on_polling(server)
        async with upgraded(server, polling) as peer:
            peer.pongs = False
            began = trio.current_time()
            await peer.expect("2")
            assert await peer.expect_close() == Closed(1000, "ping timeout")
            assert 0.45 <= trio.current_time() - began <= 0.75
            await ends.expect("ping timeout")
