"""Scripted peers, scripted servers, and how their expectations fail."""

from __future__ import annotations

import re

import pytest
import trio

from broker import Backoff, Broker, ConnectError, Socket
from broker.testing import FakeServer, PeerClosed, open_harness
from broker.testing.expecting import fits


@pytest.fixture
def broker() -> Broker:
    broker = Broker()

    @broker.on("echo")
    async def echo(socket: Socket, *args: object) -> tuple[object, ...]:
        socket.emit("echo", *args)
        return args

    return broker


async def test_a_websocket_peer_says_and_expects_packets(harness):
    peer = await harness.peer()
    await peer.expect("0", {"sid": str, "pingInterval": 25_000, ...: ...})
    await peer.send("40")
    await peer.expect("40", ...)
    await peer.send("421", ["echo", {"a": [1, 2]}])
    await peer.expect("42", ["echo", {"a": [1, ...]}])
    assert await peer.expect("431", [...]) == [{"a": [1, 2]}]
    await peer.send('451-["echo",{"_placeholder":true,"num":0}]')
    await peer.send(b"\x01\x02")
    await peer.expect(re.compile(r'^451-\["echo"'))
    await peer.expect(b"\x01\x02")
    await peer.expect_nothing(20)
    await peer.expect("2")
    await peer.send("3")
    await peer.send("41")
    await peer.close()


async def test_a_polling_peer_says_and_expects_packets(harness):
    peer = await harness.polling_peer()
    sid = await peer.join(auth={"token": "x"})
    assert len(sid) == 20
    await peer.send("42", ["echo", "hi"])
    await peer.expect("42", ["echo", "hi"])
    await peer.send("45", ["not an attachment"])
    with pytest.raises(PeerClosed) as closed:
        for _ in range(3):
            await peer.receive()
    assert closed.value.code == 400


async def test_a_peer_may_break_the_rules(harness, broker):
    peer = await harness.joined_peer()
    await peer.send_frame("text", b"\xff\xfe")
    closed = await peer.expect_close(1007)
    assert closed.reason
    peer = await harness.joined_peer()
    await peer.send_bytes(b"\xf1\x80\0\0\0\0")
    await peer.expect_close(1002)
    await harness.settled()
    assert broker.statistics().sessions == 0


async def test_an_expectation_that_fails_shows_a_diff(harness):
    peer = await harness.joined_peer()
    await peer.send("42", ["echo", "hi", 1])
    with pytest.raises(AssertionError) as failed:
        await peer.expect("42", ["echo", "hi", 2])
    assert "-     2\n" in str(failed.value)
    assert "+     1\n" in str(failed.value)
    with pytest.raises(AssertionError, match="nothing came in 5 s"):
        peer.patience = 5
        await peer.receive()
    client = await harness.connect()
    client.emit("echo", "a")
    client.emit("echo", "b")
    with pytest.raises(AssertionError, match='"b"'):
        await client.received("echo", "b")
    with pytest.raises(AssertionError, match="there are more events"):
        await client.no_more_events()
    await client.received_eventually("echo", "b")
    with pytest.raises(AssertionError, match="did not come"):
        await client.received_eventually("echo", "c")
    with pytest.raises(AssertionError, match="the ack of 'echo' is another one"):
        await client.acked("echo", 1, answer=2)
    with pytest.raises(AssertionError, match="was not refused so"):
        await client.refused("forbidden", "echo", 1)
    with pytest.raises(AssertionError, match="let in"):
        await harness.refused("nobody")
    with pytest.raises(AssertionError, match="a disconnect did not come"):
        await client.disconnected()


async def test_a_refused_handshake_tells_the_answer(harness):
    with pytest.raises(AssertionError, match="400"):
        await harness.peer(sid="AAAAAAAAAAAAAAAAAAAA")
    answer = await harness.request("GET", "/socket.io/?EIO=3&transport=polling")
    assert (answer.status, answer.json["code"]) == (400, 5)


@pytest.mark.parametrize(
    ("expected", "found", "verdict"),
    [
        (..., None, True),
        ([1, ...], [1], True),
        ([1, ...], [1, 2, 3], True),
        ([1, ...], [2], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": int, ...: ...}, {"a": 1, "b": 2}, True),
        (True, 1, False),
        (lambda value: value > 3, 4, True),
        (re.compile("^a"), "ba", False),
        ({"a": 1}, [], False),
        ([1], "1", False),
    ],
)
def test_what_fits(expected, found, verdict):
    assert fits(expected, found) is verdict


async def test_a_scripted_server_over_websocket(harness_factory):
    fake = FakeServer()
    async with harness_factory(fake) as harness:
        client = await harness.connect(wait=False, auth={"token": "x"}, reconnect=Backoff(initial=1))
        connection = await fake.accept()
        assert await connection.enter() == {"token": "x"}
        client.emit("hello", 1)
        await connection.expect("42", ["hello", 1])
        await connection.send("427", ["ask"])
        event = await client.received("ask")
        await event.ack("yes")
        await connection.expect("437", ["yes"])
        await connection.abort()
        await client.disconnected("transport close")
        again = await fake.accept()
        await again.enter(sid="OTHER")
        await client.reconnected()
        assert client.id == "OTHER"
        await again.send("41")
        await client.disconnected("io server disconnect")


async def test_a_scripted_server_over_polling(harness_factory):
    fake = FakeServer()
    async with harness_factory(fake) as harness:
        client = await harness.connect(transport="polling", wait=False, reconnect=None)
        request = await fake.request()
        assert request.method == "GET"
        assert "transport=polling" in request.target
        await request.respond("service unavailable", 503, {"Retry-After": "7"})
        with pytest.raises(ConnectError, match="status 503"):
            await client.client.wait_connected()


async def test_left_behind_errors_and_connections_fail(harness_factory):
    broker = Broker()

    @broker.on("boom")
    async def boom(socket: Socket) -> None:
        raise RuntimeError("the handler is broken")

    with pytest.raises(AssertionError, match="the handler is broken"):
        async with open_harness(broker) as harness:
            client = await harness.connect()
            await client.refused("internal", "boom")

    async with open_harness(broker) as harness:
        client = await harness.connect()
        await client.refused("internal", "boom")
        [error] = harness.take_errors()
        assert "the handler is broken" in error

    with pytest.raises(AssertionError, match="left open: #1"):
        async with open_harness(broker) as harness:
            await harness.network.connect()

    with pytest.raises(AssertionError, match="1 tasks are left behind"):
        async with trio.open_nursery() as nursery:
            try:
                async with open_harness(broker):
                    nursery.start_soon(trio.sleep_forever)
            except AssertionError as error:
                nursery.cancel_scope.cancel()
                left = error
        raise left
