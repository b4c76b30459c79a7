"""The heartbeat to the instant, on a clock that jumps; and PINGs beside much data."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from broker import Broker, DisconnectReason, Limits
from broker.testing import Harness, open_harness
from broker.testing.peers import PeerClosed
from broker.testing.plugin import run_virtual
from broker.transports.tcp_progress import under_tls
from tests.broker import carriers
from tests.duplex import TRANSPORTS
from tests.peers import TEXT, BareWebSocket, build_frame, until

virtual = pytest.mark.trio(run=run_virtual)
both = pytest.mark.parametrize("transport", TRANSPORTS)


def beating(interval: float, timeout: float, **limits: Any) -> tuple[Broker, list[tuple[str, float]]]:
    """Return a broker, and the reasons and times of the ends of its sockets."""
    broker = Broker(ping_interval=interval, ping_timeout=timeout, limits=Limits(**limits))
    ends: list[tuple[str, float]] = []
    broker.on("disconnect")(lambda socket, reason: ends.append((reason, trio.current_time())))
    broker.on("note")(lambda socket: None)
    return broker, ends


@both
@pytest.mark.parametrize("interval", [25.0, 0.01])
@pytest.mark.parametrize("spoke_at", [0.5, 0.99, 1.0, 1.01, 1.4, 1.79])
@virtual
async def test_a_silent_client_ends_at_interval_and_timeout(
    transport: str, interval: float, spoke_at: float
) -> None:
    """It speaks once, at a share of the interval, and is silent from then on. Spec: EIO-HB-3."""
    broker, ends = beating(interval, interval * 0.8)
    async with open_harness(broker) as harness:
        start = trio.current_time()
        if transport == "polling":
            peer: Any = await harness.polling_peer()
            await peer.join()
        else:
            peer = await harness.joined_peer()
        opened = trio.current_time() - start
        await trio.sleep(interval * spoke_at - opened)
        await peer.send('42["note"]')
        await trio.sleep(interval * 10)
        pinged = spoke_at >= 1.0
        # A sign of life answers a PING, and puts off none.
        expected = interval * ((spoke_at if pinged else 0.0) + 1.8)
        assert [reason for reason, _ in ends] == [DisconnectReason.PING_TIMEOUT]
        assert ends[0][1] - start == pytest.approx(expected, abs=interval * 0.001 + opened)


@virtual
async def test_bytes_of_an_unfinished_message_are_life() -> None:
    broker, ends = beating(10.0, 5.0, assembly_timeout=300.0)
    async with open_harness(broker) as harness:
        peer = await harness.joined_peer()
        text = build_frame(TEXT, b'42["note"]')
        for at in range(len(text) - 1):
            await trio.sleep(2.0)
            await peer.send_bytes(text[at : at + 1])
        assert ends == []
        last = trio.current_time()
        await trio.sleep(30)
        assert [reason for reason, _ in ends] == [DisconnectReason.PING_TIMEOUT]
        assert 10.0 <= ends[0][1] - last <= 15.0


@virtual
async def test_a_large_message_over_a_slow_line_ends_nobody() -> None:
    """20 MB at 100 KB/s: ten heartbeats long."""
    broker, ends = beating(10.0, 5.0)
    async with open_harness(broker) as harness:
        peer = await harness.joined_peer(pongs=True)
        peer.patience = 1_000
        harness.wire.trickle(10_000, 0.1, "to_client")
        start = trio.current_time()
        broker.emit("large", "x" * 20_000_000)
        broker.emit("small")
        await peer.expect("42", ["large", "x" * 20_000_000])
        assert trio.current_time() - start > 150
        await peer.expect('42["small"]')
        harness.wire.end_trickle()
        await peer.expect_nothing(100)
        assert ends == []


@virtual
async def test_a_client_that_stops_in_the_middle_is_a_slow_consumer() -> None:
    broker, ends = beating(10.0, 5.0)
    async with open_harness(broker) as harness:
        peer = await harness.joined_peer(pongs=True)
        broker.emit("large", "x" * 20_000_000)
        await trio.sleep(30)
        assert [reason for reason, _ in ends] == [DisconnectReason.SLOW_CONSUMER]
        with pytest.raises(PeerClosed):
            await peer.receive()


async def slow_poller(harness: Harness) -> Any:
    """Return a client on long-polling that has joined and gets 100 kB a second from now on."""
    peer = await harness.polling_peer()
    peer.patience = 1_000
    await peer.join()
    harness.wire.trickle(10_000, 0.1, "to_client")
    return peer


@virtual
async def test_a_large_response_over_a_slow_line_ends_nobody() -> None:
    broker, ends = beating(10.0, 5.0)
    async with open_harness(broker) as harness:
        peer = await slow_poller(harness)
        start = trio.current_time()
        broker.emit("large", "x" * 5_000_000)
        broker.emit("small")
        await peer.expect("42", ["large", "x" * 5_000_000])
        assert trio.current_time() - start > 40
        await peer.expect('42["small"]')
        await peer.expect("2")
        await peer.send("3")
        assert ends == []
        harness.wire.stall_reads("client")
        broker.emit("large", "x" * 5_000_000)
        with trio.move_on_after(30):
            await peer.receive()
        assert [reason for reason, _ in ends] == [DisconnectReason.PING_TIMEOUT]


@virtual
async def test_who_has_just_taken_a_large_response_has_time_to_ask_for_the_ping() -> None:
    """Its end comes 2 s after the deadline was last put off, and the next GET nearly 5 s later."""
    broker, ends = beating(10.0, 5.0)
    async with open_harness(broker) as harness:
        peer = await slow_poller(harness)
        broker.emit("large", "x" * 5_200_000)
        await peer.expect("42", ["large", "x" * 5_200_000])
        harness.wire.end_trickle()
        await trio.sleep(4.5)
        await peer.expect("2")
        await peer.send("3")
        await trio.sleep(9.0)
        assert ends == []
        await trio.sleep(30)
        assert [reason for reason, _ in ends] == [DisconnectReason.PING_TIMEOUT]


@virtual
async def test_who_polls_on_and_answers_no_ping_has_no_more_time() -> None:
    broker, ends = beating(10.0, 5.0)
    async with open_harness(broker) as harness:
        start = trio.current_time()
        peer = await harness.polling_peer()
        await peer.join()
        await peer.expect("2")
        assert "ping timeout" in str(await peer.receive())  # the GET was parked meanwhile
        assert [reason for reason, _ in ends] == [DisconnectReason.PING_TIMEOUT]
        assert ends[0][1] - start == pytest.approx(15.0, abs=0.01)


class SlowCarrier:
    """An ASGI server's WebSocket whose kernel is full: to hand over a large message takes 8 s.

    Args:
        rest: Seconds after which the peer has what is left in the kernel then.
        answers: Whether the peer answers the first PING.
    """

    def __init__(self, rest: float, *, answers: bool) -> None:
        self.to_broker, self.receive = trio.open_memory_channel[dict[str, Any]](10)
        self.to_broker.send_nowait({"type": "websocket.connect"})
        self.to_broker.send_nowait({"type": "websocket.receive", "text": "40"})
        self._rest = rest
        self._free_at = 0.0
        self._ping = trio.Event()
        self._answers = answers

    async def send(self, event: dict[str, Any]) -> None:
        text = event.get("text", "")
        if len(text) > 1_000:
            await trio.sleep(8.0)
            self._free_at = trio.current_time() + self._rest
        if text == "2" and self._answers:
            self._ping.set()

    async def _answer(self) -> None:
        await self._ping.wait()
        await trio.sleep_until(self._free_at)
        await self.to_broker.send({"type": "websocket.receive", "text": "3"})

    async def talk(self, broker: Broker) -> None:
        """Serve the WebSocket, whose peer answers one PING."""
        scope = {
            "type": "websocket",
            "path": "/socket.io/",
            "query_string": b"EIO=4&transport=websocket",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer)
            await broker.asgi()(scope, self.receive.receive, self.send)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("answers", "ended_at"), [(True, 37.5), (False, 30.0)])
@virtual
async def test_a_large_message_that_somebody_else_writes_ends_nobody(answers: bool, ended_at: float) -> None:
    """The PING due at 10 s is handed over at 17 s, and may reach the peer as much later as that took."""
    broker, ends = beating(10.0, 5.0)
    carrier = SlowCarrier(5.5, answers=answers)
    async with broker, trio.open_nursery() as nursery:
        start = trio.current_time()
        nursery.start_soon(carrier.talk, broker)
        await trio.sleep(9.0)
        broker.emit("large", "x" * 1_000_000)
        await trio.sleep(30.0)
        assert [at - start for _, at in ends] == [pytest.approx(ended_at)]
        nursery.cancel_scope.cancel()


@both
@virtual
async def test_a_ping_overtakes_what_waits(transport: str) -> None:
    broker, ends = beating(10.0, 20.0, write_timeout=60.0)
    async with open_harness(broker) as harness:
        if transport == "polling":
            peer: Any = await harness.polling_peer()
            await peer.join()
        else:
            peer = await harness.joined_peer()
        for number in range(40):
            broker.emit("n", number, "x" * 20_000)
        await trio.sleep(10.5)
        got = []
        while len(got) < 41:
            packet = await peer.receive()
            got.append(-1 if packet == "2" else int(packet[7:].partition(",")[0]))
        at = got.index(-1)
        assert got[:at] + got[at + 1 :] == list(range(40))
        # Nothing is on its way to a client that has not asked; what the network holds cannot be overtaken.
        assert at == 0 if transport == "polling" else at < 20
        assert ends == []


# -- over real sockets: what the kernel holds counts -----------------------------------------------


@pytest.mark.parametrize(("encrypted", "size"), [(False, 6_000_000), (True, 1_000_000)])
async def test_a_slow_line_behind_the_kernel(encrypted: bool, size: int) -> None:
    """The kernel takes megabytes at once, so that no write is under way while the PING waits behind them."""
    broker = Broker(ping_interval=0.1, ping_timeout=0.3)
    ends: list[str] = []
    broker.on("disconnect")(lambda socket, reason: ends.append(reason))
    carrier = carriers.tls if encrypted else carriers.plain
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        await until(lambda: broker.sockets.sockets)
        stream = bare.peer.stream
        tcp = under_tls(stream)
        assert isinstance(tcp, trio.SocketStream)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        broker.emit("large", "x" * size)
        taken, start = 0, trio.current_time()
        while taken < size:
            data = await bare.peer.stream.receive_some(150_000)
            assert data, ends
            taken += len(data)
            await trio.sleep(0.02)  # the line
        assert trio.current_time() - start > 0.5
        assert ends == []
        await until(lambda: ends)  # the heartbeat ends it, now that nothing is on its way
        assert ends == [DisconnectReason.PING_TIMEOUT]


async def test_a_client_that_takes_nothing_falls_silent_in_time() -> None:
    broker = Broker(ping_interval=0.05, ping_timeout=0.1)
    ends: list[str] = []
    broker.on("disconnect")(lambda socket, reason: ends.append(reason))
    async with carriers.plain(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        await until(lambda: broker.sockets.sockets)
        broker.emit("large", "x" * 300_000)
        start = trio.current_time()
        await until(lambda: ends)
        assert trio.current_time() - start < 1.0
