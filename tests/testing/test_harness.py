"""The harness around our broker: clients, peers, heartbeats, faults, and what it holds at the end."""

from __future__ import annotations

import time

import pytest
import trio

from broker import AckTimeout, Broker, ConnectRefused, EventError, Socket

VIAS = ("websocket", "polling", "upgrade")


@pytest.fixture
def broker() -> Broker:
    broker = Broker()

    @broker.on("message")
    async def message(socket: Socket, text: str) -> str:
        broker.emit("message", text)
        return "ok"

    @broker.on("forbidden")
    async def forbidden(socket: Socket) -> None:
        raise EventError("forbidden", "not you")

    @broker.on("silent", concurrency=4)
    async def silent(socket: Socket) -> None:
        await trio.sleep_forever()

    @broker.of("/chat").use
    async def nobody(socket: Socket) -> None:
        raise ConnectRefused("invalid token", data={"retry": False})

    return broker


async def test_a_client_that_does_not_get_there_is_given_up(harness_factory):
    async with harness_factory(Broker(transports=("polling",))) as harness:
        with trio.fail_after(1000), pytest.raises(AssertionError, match=r"has not upgraded .* in 60 s"):
            await harness.connect(transport="upgrade")
    async with harness_factory(Broker()) as harness:
        harness.wire.refuse()
        with trio.fail_after(1000), pytest.raises(AssertionError, match="has not been connected in 60 s"):
            await harness.connect()


@pytest.mark.parametrize("again", ["at once", "later"])
async def test_a_client_that_was_sent_away_can_be_asked_to_come_back(harness, broker, again):
    client = await harness.connect()
    await broker.disconnect_sockets()
    await client.disconnected("io server disconnect")
    if again == "later":
        await trio.sleep(60)
    client.socket.connect()
    await client.reconnected()
    await client.acked("message", "hello", answer="ok")
    await client.received("message", "hello")


@pytest.mark.parametrize("via", VIAS)
async def test_clients_talk(harness, via):
    first = await harness.connect(transport=via)
    second = await harness.connect()
    await first.acked("message", "hi", answer="ok")
    await first.received("message", "hi")
    await second.received("message", str)
    await first.no_more_events()
    await first.refused("forbidden", "forbidden")
    refusal = await harness.refused("invalid token", "/chat", transport=via)
    assert refusal.data == {"retry": False}


@pytest.mark.parametrize("via", VIAS)
async def test_an_hour_of_heartbeats_takes_no_time(harness, via):
    client = await harness.connect(transport=via)
    start = time.monotonic()
    await harness.sleep(3_600)
    await client.acked("message", "hi", answer="ok")
    assert not client.disconnects
    assert time.monotonic() - start < 5
    pings = [entry for entry in harness.transcript.entries if entry.mark == ">" and entry.text.endswith("2")]
    assert len(pings) >= 143


@pytest.mark.parametrize("via", VIAS)
async def test_an_ack_that_does_not_come(harness, via):
    client = await harness.connect(transport=via)
    start = trio.current_time()
    with pytest.raises(AckTimeout):
        await client.call("silent", timeout=300)
    assert trio.current_time() - start == pytest.approx(300, abs=0.1)


@pytest.mark.parametrize("via", VIAS)
async def test_a_drain(harness, broker, via):
    client = await harness.connect(transport=via, reconnect=None)
    await broker.drain(deadline=600)
    await client.disconnected()
    assert broker.statistics().sessions == 0
