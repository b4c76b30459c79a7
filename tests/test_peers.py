"""The peers themselves: a well-behaved client of each kind gets its echo."""

from __future__ import annotations

from tests.peers import (
    TEXT,
    BareWebSocket,
    PollingPeer,
    client,
    http,
    quick_broker,
    serving,
)


async def test_websocket_peer() -> None:
    async with serving(quick_broker()) as server, client(server) as peer:
        await peer.emit("echo", "hello")
        await peer.expect('42["echo","hello"]')
        await peer.send_text("1")
        code, _ = await peer.expect_close()
        assert code == 1000


async def test_polling_peer() -> None:
    async with serving(quick_broker()) as server:
        peer = await PollingPeer.open(server)
        assert await peer.join() != peer.sid
        await peer.send('42["echo","hello"]')
        await peer.expect('42["echo","hello"]')


async def test_bare_websocket_peer() -> None:
    async with serving(quick_broker()) as server, await BareWebSocket.open(server) as peer:
        assert peer.answer.status == 101
        first = await peer.receive_frame()
        assert first is not None
        assert first.payload.startswith(b"0{")
        await peer.send_frame(TEXT, b"40", mask=None)
        assert (await peer.expect_close()).code == 1002


async def test_http_peer() -> None:
    async with serving(quick_broker()) as server:
        assert (await http(server, "GET", "/elsewhere")).status == 404
