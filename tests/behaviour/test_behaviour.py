"""One behaviour in four places: in memory, over TCP, under hypercorn, and of Node's server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio

from broker import Client, ConnectError, Disconnected, open_client
from broker.testing import WebSocketPeer
from broker.testing.polling_peer import request
from tests.behaviour.worlds import WORLDS, Opening, World

VIAS = {"websocket": ("websocket",), "polling": ("polling",), "upgrade": ("polling", "websocket")}
each_world = pytest.mark.parametrize("opening", WORLDS)
each_via = pytest.mark.parametrize("via", VIAS)


def to(world: World, via: str, **options: Any) -> AbstractAsyncContextManager[Client]:
    return open_client(
        world.url, transports=VIAS[via], **{"connector": world.connector, "reconnect": None, **options}
    )


@asynccontextmanager
async def peer_in(world: World) -> AsyncIterator[WebSocketPeer]:
    peer = await WebSocketPeer.open(await world.stream(), host=world.host)
    yield peer
    await peer.abort()


@each_via
@each_world
async def test_acks_carry_what_was_sent(opening: Opening, via: str) -> None:
    async with opening() as world, to(world, via) as client:
        await client.wait_connected()
        assert await client.call("echo", "text", 1.5, None) == ("text", 1.5, None)
        assert await client.call("echo", {"nested": [True, {"ä": "ö"}]}) == {"nested": [True, {"ä": "ö"}]}
        assert await client.call("echo", b"\x00\xff", {"at": b"deep"}) == (b"\x00\xff", {"at": b"deep"})


@each_via
@each_world
async def test_events_keep_their_order(opening: Opening, via: str) -> None:
    async with opening() as world, to(world, via) as client:
        for number in range(200):
            client.emit("say", number)
        found = []
        async for event in client:
            found.append(event.args)
            if len(found) == 200:
                break
        assert found == [(number,) for number in range(200)]


@each_via
@each_world
async def test_the_server_may_ask(opening: Opening, via: str) -> None:
    async with opening() as world, to(world, via) as client:
        client.on("question")(lambda value: (value, b"and bytes"))
        client.emit("ask", "what")
        event = await anext(aiter(client))
        assert (event.name, event.args) == ("answered", ("what", b"and bytes"))


@each_via
@each_world
async def test_a_namespace_lets_in_and_refuses(opening: Opening, via: str) -> None:
    async with opening() as world:
        async with to(world, via, namespaces=("/chat",), auth={"token": "s3cret"}) as client:
            await client.wait_connected()
            assert await client.call("echo", 1) == 1
        async with to(world, via, namespaces=("/", "/chat")) as client:
            await client.of("/").wait_connected()
            with pytest.raises(ConnectError) as refused:
                await client.of("/chat").wait_connected()
            assert (refused.value.message, refused.value.data) == ("invalid token", {"retry": False})
            assert not refused.value.retryable
            assert await client.call("echo", 2) == 2
        async with to(world, via, namespaces=("/nobody",)) as client:
            with pytest.raises(ConnectError, match="Invalid namespace"):
                await client.wait_connected()


@each_via
@each_world
async def test_the_server_may_end_a_namespace(opening: Opening, via: str) -> None:
    async with opening() as world, to(world, via) as client:
        await client.wait_connected()
        client.emit("leave")
        with pytest.raises(Disconnected, match="io server disconnect"):
            await client.call("silent", timeout=100)


@each_via
@each_world
async def test_the_handshake_is_told(opening: Opening, via: str) -> None:
    options = {"auth": {"token": "x"}, "query": {"room": "a b"}, "headers": {"X-Name": "Ada"}}
    async with opening() as world, to(world, via, **options) as client:
        auth, query, headers = await client.call("handshake")
        assert auth == {"token": "x"}
        assert (query["room"], query["EIO"]) == ("a b", "4")
        assert headers["x-name"] == "Ada"


@each_via
@each_world
async def test_heartbeats_hold_a_quiet_connection(opening: Opening, via: str) -> None:
    async with opening() as world, to(world, via) as client:
        pings = 0
        beaten = trio.Event()

        @client.io.on("ping")
        def ping() -> None:
            nonlocal pings
            pings += 1
            if pings == 4:
                beaten.set()

        start = trio.current_time()
        await beaten.wait()
        assert trio.current_time() - start >= 3 * world.ping_interval
        assert await client.call("echo", "alive") == "alive"


@each_world
async def test_the_upgrade_happens_and_loses_nothing(opening: Opening) -> None:
    async with opening() as world, to(world, "upgrade") as client:
        upgraded = trio.Event()
        client.io.on("upgrade")(upgraded.set)
        for number in range(100):
            client.emit("say", number)
        found = [(await anext(aiter(client))).args[0] for _ in range(100)]
        assert found == list(range(100))
        await upgraded.wait()
        assert client.transport == "websocket"
        assert await client.call("echo", "after") == "after"


@each_world
async def test_packets_on_the_wire(opening: Opening) -> None:
    async with opening() as world, peer_in(world) as peer:
        await peer.expect(
            "0",
            {
                "sid": str,
                "upgrades": [],
                "pingInterval": round(world.ping_interval * 1_000),
                "pingTimeout": 20_000,
                "maxPayload": 1_000_000,
            },
        )
        await peer.send("40")
        await peer.expect("40", {"sid": str})
        await peer.send('4212["echo","a"]')
        await peer.expect('4312["a"]')
        await peer.send('451-7["echo",{"_placeholder":true,"num":0}]')
        await peer.send(b"\x01")
        await peer.expect('461-7[{"_placeholder":true,"num":0}]')
        await peer.expect(b"\x01")
        await peer.send("40/nobody,")
        await peer.expect('44/nobody,{"message":"Invalid namespace"}')


@each_world
async def test_refusals_on_the_wire(opening: Opening) -> None:
    async with opening() as world:
        for query, code in (
            ("EIO=4&transport=nothing", 0),
            ("EIO=4&transport=polling&sid=unknown", 1),
            ("EIO=3&transport=polling", 5),
        ):
            answer = await request(await world.stream(), "GET", f"/socket.io/?{query}", host=world.host)
            assert (answer.status, answer.json["code"]) == (400, code)


@each_world
async def test_a_packet_that_is_none_ends_the_connection(opening: Opening) -> None:
    async with opening() as world, peer_in(world) as peer:
        await peer.expect("0", ...)
        await peer.send("40")
        await peer.expect("40", ...)
        await peer.send("42[not json")
        await peer.expect_close()
