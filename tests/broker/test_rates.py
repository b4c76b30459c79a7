"""Clients that send too fast are warned, and then cut; sessions that join nothing are bounded."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from broker import Broker, DisconnectReason, Limits, Socket
from broker.testing import Harness, open_harness
from broker.testing.plugin import run_virtual
from tests.broker import carriers
from tests.duplex import TRANSPORTS
from tests.peers import ENGINE_PATH, PollingPeer, RawWebSocket, client, http, quick_broker, serving, until

virtual = pytest.mark.trio(run=run_virtual)
WARNING = {
    "error": {"code": "rate_limited", "message": "too many packets a second: send less, or the session ends"}
}


@asynccontextmanager
async def rated(**limits: Any) -> AsyncIterator[tuple[Broker, Harness, list[str]]]:
    """Serve a broker with these limits, and keep why its sockets ended."""
    broker = Broker(limits=Limits(**limits))
    ends: list[str] = []
    broker.on("disconnect")(lambda socket, reason: ends.append(reason))
    broker.on("n")(lambda socket: None)

    @broker.use
    def identify(socket: Socket) -> None:
        if socket.handshake.auth:
            socket.identity = socket.handshake.auth["user"]

    async with open_harness(broker) as harness:
        yield broker, harness, ends


async def open_peer(harness: Harness, transport: str, auth: Any = None) -> Any:
    if transport == "websocket":
        return await harness.joined_peer(auth=auth)
    peer = await harness.polling_peer()
    await peer.join(auth=auth)
    return peer


@pytest.mark.parametrize("transport", TRANSPORTS)
@virtual
async def test_a_session_is_warned_and_then_cut(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    async with rated(session_rate=10.0) as (broker, harness, ends):
        peer = await open_peer(harness, transport)
        await trio.sleep(5)
        with caplog.at_level(logging.WARNING, "broker"):
            for _ in range(30):
                await peer.send('42["n"]')
            await harness.settled()
        assert broker.statistics().events["rate warning"] == 1
        assert len([one for one in caplog.records if "more packets than its rate" in one.message]) == 1
        await peer.expect("42", ["error", WARNING])
        assert ends == []
        for _ in range(12):
            await peer.send('42["n"]') if not ends else None
            await harness.settled()
        assert ends == [DisconnectReason.LIMIT_EXCEEDED]
        assert broker.statistics().violations == {"RATE_EXCEEDED": 1}
        if transport == "websocket":
            assert (await peer.expect_close(1008)).reason == "too many packets a second"


@virtual
async def test_the_rate_itself_is_never_too_much() -> None:
    async with rated(session_rate=10.0) as (broker, harness, ends):
        peer = await open_peer(harness, "websocket")
        for _ in range(500):
            await peer.send('42["n"]')
            await trio.sleep(0.1)
        assert (ends, broker.statistics().events) == ([], {})


@virtual
async def test_sessions_of_one_user_count_together() -> None:
    async with rated(identity_rate=10.0) as (broker, harness, ends):
        peers = [await open_peer(harness, "websocket", {"user": user}) for user in ("ada", "ada", "bob")]
        for _ in range(15):
            for peer in peers:
                await peer.send('42["n"]')
        await harness.settled()
        assert broker.statistics().events == {"rate warning": 1}
        for _ in range(15):
            for peer in peers[:2]:
                await peer.send('42["n"]') if len(ends) < 1 else None
                await harness.settled()
        assert ends == [DisconnectReason.LIMIT_EXCEEDED]


async def flood(peer: RawWebSocket, count: int) -> None:
    """Send events until the server has closed."""
    with suppress(ConnectionClosed):
        for _ in range(count):
            await peer.send_text('42["n"]')


async def test_sessions_of_one_address_count_together() -> None:
    broker = quick_broker(
        limits=Limits(address_rate=5.0, rate_burst_time=4.0), proxy_addresses=(), ping_interval=25.0
    )
    broker.on("n")(lambda socket: None)
    async with serving(broker) as server, client(server) as one, client(server) as two:
        for _ in range(8):
            await one.send_text('42["n"]')
            await two.send_text('42["n"]')
        await one.send_text('42["n"]')
        await flood(two, 6)
        await until(lambda: broker.statistics().events["rate warning"])
        await flood(two, 60)
        await until(lambda: broker.statistics().violations["RATE_EXCEEDED"])


async def test_a_proxy_stands_for_many() -> None:
    broker = quick_broker(limits=Limits(address_rate=1.0, rate_burst_time=1.0), ping_interval=25.0)
    async with serving(broker) as server, client(server) as peer:
        for number in range(20):
            await peer.emit("echo", number)
            await peer.expect(f'42["echo",{number}]')
        assert broker.statistics().events == {}


async def test_rates_without_the_shared_reader() -> None:
    broker = quick_broker(limits=Limits(session_rate=5.0), error_acks=False, ping_interval=25.0)
    broker.on("n")(lambda socket: None)
    async with carriers.alone(broker) as door, client(door) as peer:
        await flood(peer, 40)
        assert (await peer.expect_close()).code == 1008  # without a word before: the answers are off


async def test_sessions_that_join_nothing_are_bounded() -> None:
    broker = quick_broker(limits=Limits(unjoined_sessions=2), ping_interval=25.0)
    async with serving(broker) as server:
        first, _ = await PollingPeer.open(server), await PollingPeer.open(server)
        full = await http(server, "GET", f"{ENGINE_PATH}&transport=polling")
        assert (full.status, full.json["code"]) == (503, 107)
        assert full.json["detail"] == "too many sessions have joined no namespace yet"
        await first.join()
        await PollingPeer.open(server)
        for session in list(broker._engine.sessions.values()):
            session.close(DisconnectReason.FORCED_CLOSE)
