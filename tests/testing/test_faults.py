"""Each fault does what its name says, on every transport that it can be done to."""

from __future__ import annotations

import pytest
import trio

from broker import Backoff, Broker, Socket
from broker.testing import UpgradeStep

STEADY = Backoff(initial=1.0, maximum=1.0, jitter=0)


@pytest.fixture
def broker() -> Broker:
    broker = Broker()

    @broker.on("echo")
    async def echo(socket: Socket, *args: object) -> tuple[object, ...]:
        return args

    return broker


async def test_a_lost_pong_ends_the_session_in_time(harness, broker):
    client = await harness.connect(reconnect=None)
    start = trio.current_time()
    client.wire.drop_pong()
    await client.disconnected("transport close")
    assert trio.current_time() - start == pytest.approx(45, abs=0.1)
    assert broker.statistics().disconnects == {"ping timeout": 1}


async def test_a_client_that_reads_nothing_is_thrown_out(harness, broker):
    client = await harness.connect(reconnect=None)
    client.wire.stall_reads("client")
    for _ in range(40):
        broker.emit("news", "x" * 10_000)
    await harness.sleep(30)
    assert broker.statistics().sessions == 0
    assert broker.statistics().disconnects.total() == 1
    client.wire.resume_reads("client")
    await client.disconnected()


@pytest.mark.parametrize("via", ["websocket", "polling", "upgrade"])
async def test_a_partition_is_outlived(harness, broker, via):
    client = await harness.connect(transport=via, reconnect=STEADY)
    client.wire.partition()
    client.emit("echo", "lost")
    await client.disconnected("ping timeout")
    await harness.sleep(30)
    assert broker.statistics().sessions == 0
    assert not client.connected
    client.wire.heal()
    await client.reconnected()
    await client.acked("echo", "again", answer="again")


@pytest.mark.parametrize("via", ["websocket", "polling"])
async def test_a_trickle_delays_and_loses_nothing(harness, via):
    client = await harness.connect(transport=via)
    client.wire.trickle(100, 0.5, "to_server")
    start = trio.current_time()
    await client.acked("echo", "x" * 1_000, answer="x" * 1_000)
    assert trio.current_time() - start >= 5
    client.wire.end_trickle()
    start = trio.current_time()
    await client.acked("echo", 1, answer=1)
    assert trio.current_time() - start < 0.5 + 1e-6


async def test_latency_is_paid_both_ways(harness):
    client = await harness.connect()
    client.wire.latency(0.25)
    start = trio.current_time()
    await client.acked("echo", 1, answer=1)
    assert trio.current_time() - start == pytest.approx(0.5)


@pytest.mark.parametrize("count", [1, 60, 200])
async def test_a_connection_is_cut_after_any_byte(harness, broker, count):
    client = await harness.connect(reconnect=STEADY)
    client.wire.cut_after(count, "to_client")
    broker.emit("news", "x" * 300)
    await client.disconnected("transport close")
    await client.reconnected()
    await client.no_more_events()


async def test_the_next_connection_is_cut_in_its_handshake(harness):
    harness.wire.cut_after(20, "to_client", next_one=True)
    client = await harness.connect(wait=False, reconnect=STEADY)
    await client.reconnected()
    assert [entry.text for entry in harness.transcript.entries if entry.mark == "x"] == ["cut"]


@pytest.mark.parametrize("step", list(UpgradeStep))
async def test_an_aborted_upgrade_leaves_the_session_usable(harness, broker, step):
    harness.wire.abort_upgrade(step)
    client = await harness.connect(transport="upgrade", wait=False, reconnect=STEADY)
    await client.reconnected()
    await harness.sleep(120)
    await client.acked("echo", "still here", answer="still here")
    assert broker.statistics().sessions == 1
    assert any("cut in place of" in entry.text for entry in harness.transcript.entries)


@pytest.mark.parametrize("seconds", [3.0, 60.0])
@pytest.mark.parametrize("step", list(UpgradeStep))
async def test_a_late_upgrade_loses_nothing(harness, broker, step, seconds):
    harness.wire.delay_upgrade(step, seconds)
    client = await harness.connect(transport="upgrade", wait=False, reconnect=STEADY)
    await client.reconnected()
    if step == "upgrade" and seconds > broker.settings.upgrade_timeout:
        # The client has moved over when the broker gives up on it: no protocol of two peers can mend that.
        await harness.sleep(20)
        await client.reconnected()
    for number in range(10):
        await harness.sleep(1)
        await client.acked("echo", number, answer=number)
    await harness.sleep(120)
    await client.acked("echo", "end", answer="end")
    if seconds < broker.settings.upgrade_timeout:
        assert client.client.transport == "websocket"


async def test_a_network_that_refuses(harness):
    harness.wire.refuse()
    client = await harness.connect(wait=False, reconnect=STEADY)
    await harness.sleep(10)
    assert not client.connected
    harness.wire.heal()
    await client.reconnected()


async def test_a_clock_that_steps(harness, broker):
    peer = await harness.joined_peer()
    harness.step_clock(3_600)
    await peer.expect("2")
    await peer.send("3")
    await harness.sleep(10)
    assert broker.statistics().sessions == 1


async def test_one_client_is_hurt_and_the_other_is_not(harness):
    hurt = await harness.connect(reconnect=None)
    other = await harness.connect(reconnect=None)
    hurt.wire.cut()
    await hurt.disconnected("transport close")
    await other.acked("echo", 1, answer=1)


async def test_an_unknown_step_is_refused(harness):
    with pytest.raises(ValueError, match="no step"):
        harness.wire.abort_upgrade("no step")


async def test_a_probe_that_is_not_answered_leaves_no_connection(harness_factory):
    async with harness_factory(Broker(upgrade_timeout=1000.0)) as harness:
        harness.wire.drop("3probe")
        ada = await harness.connect(transport="upgrade", wait=False, connect_timeout=5)
        await trio.sleep(4)
        probing = len(ada.wire.links)
        await trio.sleep(4)
        assert ada.client.transport == "polling"
        assert len(ada.wire.links) == probing - 1
