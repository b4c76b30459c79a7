"""Heartbeat and endings: cases 66 to 82 of the table in README.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from broker import Broker, Disconnected, Limits, Socket
from tests.duplex import TRANSPORTS, joined
from tests.peers import Closed, PollingPeer, RawWebSocket, client, quick_broker, settled

from .endings import Ends, calm_broker, refused, soon

Serve = Callable[..., Any]
both = pytest.mark.parametrize("transport", TRANSPORTS)

LATE = 0.25
"""Seconds that a busy machine may add to a deadline."""


class Beats:
    """A client that shows pings to the test, and the time since the session was opened."""

    def __init__(self, peer: RawWebSocket | PollingPeer, opened_at: float) -> None:
        self.peer = peer
        self.opened_at = opened_at

    @property
    def age(self) -> float:
        """Seconds since the session was opened."""
        return trio.current_time() - self.opened_at

    async def next(self) -> str | bytes:
        """Return the next packet, a ping as well."""
        if isinstance(self.peer, RawWebSocket):
            return await self.peer.receive()
        (packet,) = await self.peer.packets()
        return packet

    async def send(self, packet: str) -> None:
        """Send a packet."""
        if isinstance(self.peer, RawWebSocket):
            await self.peer.send_text(packet)
        else:
            await self.peer.send(packet)

    async def expect_timeout(self) -> None:
        """Hold that the session ends."""
        if isinstance(self.peer, RawWebSocket):
            assert await self.peer.expect_close() == Closed(1000, "ping timeout")
        else:
            assert await self.next() == "1"
            refused(await self.peer.get(), 400, 1)


@asynccontextmanager
async def beating(server: Any, transport: str) -> AsyncIterator[Beats]:
    """Open a session, join `/` and answer no ping."""
    opened_at = trio.current_time()
    if transport == "polling":
        polling = await PollingPeer.open(server)
        await polling.join()
        yield Beats(polling, opened_at)
        return
    async with client(server, pongs=False) as peer:
        yield Beats(peer, opened_at)


@both
async def test_066_three_rounds_of_the_heartbeat(serve: Serve, transport: str) -> None:
    async with serve(quick_broker()) as server, beating(server, transport) as peer:
        for count in (1, 2, 3):
            assert await peer.next() == "2"
            assert count * 0.3 - 0.02 <= peer.age <= count * (0.3 + LATE)
            await peer.send("3")
        await peer.send('42["echo","alive"]')
        assert await peer.next() == '42["echo","alive"]'


@both
async def test_067_068_069_silence_ends_the_session_in_time(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    ends = Ends(broker)
    async with serve(broker) as server, beating(server, transport) as peer:
        assert await peer.next() == "2"
        assert broker.engine.clients_count == 1
        await peer.expect_timeout()
        await ends.expect("ping timeout")
        assert 0.48 <= peer.age <= 0.5 + LATE
        await settled()
        assert broker.engine.clients_count == 0


async def test_067_068_client_that_never_polls(serve: Serve) -> None:
    broker = quick_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        opened_at = trio.current_time()
        peer = await PollingPeer.open(server)
        await peer.join()
        await ends.expect("ping timeout", within=1)
        assert 0.48 <= trio.current_time() - opened_at <= 0.5 + LATE
        refused(await peer.get(), 400, 1)


@both
async def test_068_heartbeat_is_counted_from_the_last_pong(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    ends = Ends(broker)
    async with serve(broker) as server, beating(server, transport) as peer:
        assert await peer.next() == "2"
        await peer.send("3")
        answered = peer.age
        assert await peer.next() == "2"
        await peer.expect_timeout()
        await ends.expect("ping timeout")
        assert answered + 0.46 <= peer.age <= answered + 0.5 + LATE


@both
async def test_068_every_packet_is_a_sign_of_life(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, beating(server, transport) as peer:
        for number in range(3):
            assert await peer.next() == "2"
            await peer.send(f'42["echo",{number}]')
            assert await peer.next() == f'42["echo",{number}]'
        assert peer.age > 0.5 + 0.2


async def test_068_websocket_ping_frame_is_a_sign_of_life(serve: Serve) -> None:
    async with serve(quick_broker()) as server, client(server, pongs=False) as peer:
        for _ in range(3):
            await peer.expect("2")
            await peer.connection.ping()


@both
async def test_068_pong_that_nobody_asked_for(serve: Serve, transport: str) -> None:
    async with serve(quick_broker()) as server, beating(server, transport) as peer:
        for _ in range(3):
            await peer.send("3")
        assert await peer.next() == "2"
        assert 0.28 <= peer.age <= 0.3 + LATE


@both
@pytest.mark.parametrize("packet", ["2", "2probe", "2x"])
async def test_070_ping_of_the_client_closes(serve: Serve, transport: str, packet: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server, joined(server, transport) as peer:
        with soon():
            await peer.send(packet)
            await ends.expect("transport error")
            if isinstance(peer.peer, RawWebSocket):
                assert await peer.peer.expect_close() == Closed(1002, "ping from the client")
            else:
                refused(await peer.peer.get(), 400, 1)


async def test_071_close_packet_releases_the_parked_get(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        async with await peer.begin_get() as parked:
            with soon():
                response = await peer.post("1")
                assert (response.status, response.body) == (200, b"ok")
                response = await parked.receive()
                assert (response.status, response.text) == (200, "6")
                await ends.expect("transport close")
                refused(await peer.get(), 400, 1)


async def test_072_close_packet_closes_a_websocket_at_once(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server, client(server) as peer:
        with soon():
            await peer.send_text("1")
            assert await peer.expect_close() == Closed(1000, "transport close")
            await ends.expect("transport close")


@both
async def test_073_server_closes_the_session(serve: Serve, transport: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    broker.on("leave")(lambda socket: socket.disconnect(close=True))
    async with serve(broker) as server, joined(server, transport) as peer:
        with soon():
            await peer.send('42["leave"]')
            await ends.expect("server namespace disconnect")
            if isinstance(peer.peer, RawWebSocket):
                await peer.expect("41")
                assert await peer.peer.expect_close() == Closed(1000, "server namespace disconnect")
            else:
                assert await peer.peer.packets() == ["41", "6", "1"]
                refused(await peer.peer.get(), 400, 1)


async def test_073_server_closes_a_session_whose_get_is_parked(serve: Serve) -> None:
    broker = calm_broker()
    async with serve(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        async with await peer.begin_get() as parked:
            with soon():
                broker.emit("last")
                for socket in list(broker.of("/").sockets.values()):
                    socket.disconnect(close=True)
                # The event answers the GET; the end may come in the same payload or wait for the next GET.
                packets = (await parked.receive()).text.split("\x1e")
                while packets[-1] != "1":
                    packets += await peer.packets()
                assert [packet for packet in packets if packet != "6"] == ['42["last"]', "41", "1"]
                refused(await peer.get(), 400, 1)


@both
async def test_074_client_closes_the_session(serve: Serve, transport: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server, joined(server, transport) as peer:
        with soon():
            if isinstance(peer.peer, RawWebSocket):
                await peer.peer.close()
            else:
                await peer.send("1")
            await ends.expect("transport close")


@both
@pytest.mark.parametrize("how", ["disconnect", "close"])
async def test_075_nothing_behind_the_end_is_handled(serve: Serve, transport: str, how: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    got: list[int] = []
    broker.on("number")(lambda socket, number: got.append(number))
    broker.on("leave")(lambda socket: socket.disconnect(close=how == "close"))
    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('42["number",1]', '42["leave"]', '42["number",2]', "abc")
        await ends.expect("server namespace disconnect")
        await settled()
        assert got == [1]


@both
@pytest.mark.parametrize("count", [1, 100])
async def test_076_what_was_sent_before_the_close_arrives(serve: Serve, transport: str, count: int) -> None:
    broker = calm_broker()

    @broker.on("leave")
    def leave(socket: Socket) -> None:
        for number in range(count):
            socket.emit("number", number, "x" * 1000)
        socket.disconnect(close=True)
        socket.emit("number", -1, "")

    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('42["leave"]')
        text = "x" * 1000
        await peer.expect(*(f'42["number",{number},"{text}"]' for number in range(count)), "41")
        await peer.expect_end()


@both
@pytest.mark.parametrize("packets", [("abc",), ('42["echo",1]', "abc", '42["echo",2]')])
async def test_078_parse_error_closes_both_transports(
    serve: Serve, transport: str, packets: tuple[str, ...]
) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server, joined(server, transport) as peer:
        if isinstance(peer.peer, PollingPeer):
            async with await peer.peer.begin_get() as parked:
                with soon():
                    await peer.send(*packets)
                    await ends.expect("parse error")
                    received = (await parked.receive()).text.split("\x1e")
            # The echo has answered the GET; without one it is told the end.
            assert received == (["1"] if len(packets) == 1 else ['42["echo",1]'])
            refused(await peer.peer.get(), 400, 1)
            return
        with soon():
            await peer.send(*packets)
            await ends.expect("parse error")
            if len(packets) > 1:
                await peer.expect('42["echo",1]')
            assert (await peer.peer.expect_close()).code == 1002


@both
async def test_079_who_waits_for_an_ack_is_told_the_end(serve: Serve, transport: str) -> None:
    broker = Broker(limits=Limits(close_timeout=0.1))
    told: list[Any] = []

    async def ask(socket: Socket) -> None:
        try:
            await socket.call("question", timeout=60)
        except Disconnected as error:
            told.append(error.reason)

    async with serve(broker) as server, trio.open_nursery() as nursery:
        async with joined(server, transport) as peer:
            (socket,) = broker.of("/").sockets.values()
            for _ in range(3):
                nursery.start_soon(ask, socket)
            await settled()
            await peer.send("1")
        await settled()
        assert told == ["transport close"] * 3
        assert not socket.acks


@both
async def test_082_client_comes_back_after_the_server_was_restarted(serve: Serve, transport: str) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(broker.serve, "127.0.0.1", 0)
        port = server.port
        async with joined(server, transport) as peer:
            await peer.send('42["echo",1]')
            await peer.expect('42["echo",1]')
            nursery.cancel_scope.cancel()
    await ends.expect("server shutting down")
    # The same port at once: connections that are still in TIME_WAIT do not hold it.
    async with serve(broker, port=port) as again, joined(again, transport) as peer:
        await peer.send('42["echo",2]')
        await peer.expect('42["echo",2]')
