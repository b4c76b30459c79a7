"""What strangers and old nodes may send on the channels, and what a node answers on which."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgpack
import orjson
import pytest
import trio

from broker import Broker, BusUnavailable, Limits, RedisAdapter
from broker.adapters.base import BusHost
from broker.adapters.errors import BusRefused
from broker.adapters.redis.address import parse_url
from broker.adapters.redis.client import RedisClient
from broker.adapters.redis.replies import check_hello, refusal
from broker.adapters.redis.timing import Timing
from tests.peers import client, serving

from .nodes import RedisServer, needs_redis, redis_server
from .test_failures import DEADLINE, node, until, until_linked

OPTS = {"rooms": [], "except": []}


class Stranger:
    """Hears channels, and publishes what it likes."""

    def __init__(self, redis: RedisServer) -> None:
        host = BusHost(Limits(), Counter(), lambda gap: None)
        self.client = RedisClient(parse_url(redis.url), host, "stranger", self._take, Timing())
        self.heard: list[tuple[str, Any]] = []

    def _take(self, push: list[Any]) -> None:
        if push[0] == b"message":
            body = push[2]
            value = orjson.loads(body) if body[:1] == b"{" else msgpack.unpackb(body)
            self.heard.append((push[1].decode(), value))

    async def publish(self, channel: str, value: Any) -> None:
        assert await self.client.ask("PUBLISH", channel, orjson.dumps(value)) > 0

    async def next(self, channel: str = "socket.io-response#/#") -> Any:
        with trio.fail_after(DEADLINE):
            while not self.heard:  # noqa: ASYNC110 - there is no event
                await trio.sleep(0.005)
        found, value = self.heard.pop(0)
        assert found == channel
        return value

    async def ask(self, **request: Any) -> None:
        await self.publish("socket.io-request#/#", request)


@asynccontextmanager
async def stranger(redis: RedisServer, *channels: str) -> AsyncIterator[Stranger]:
    made = Stranger(redis)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.client.run)
        for channel in channels:
            made.client.subscribe("SUBSCRIBE", channel)
        await made.client.ask("PING")
        yield made
        nursery.cancel_scope.cancel()


@needs_redis
async def test_requests_of_old_nodes_and_of_strangers() -> None:
    async with (
        redis_server() as redis,
        node(redis.url) as a,
        stranger(redis, "socket.io-response#/#") as other,
    ):
        sid = a.socket.id
        a.socket.join("r")
        await other.ask(uid="u", requestId="0", type=0, rooms=["r"])
        assert await other.next() == {"requestId": "0", "sockets": [sid]}
        await other.ask(uid="u", requestId="1", type=1)
        assert await other.next() == {"requestId": "1", "rooms": [sid, "r"]}
        await other.ask(uid="u", requestId="2", type=2, sid=sid, room="old")
        assert await other.next() == {"requestId": "2"}
        assert "old" in a.socket.rooms
        await other.ask(uid="u", type=3, sid=sid, room="old")
        await other.ask(uid="u", requestId="3", type=3, sid="somebody else", room="r")
        await other.ask(uid="u", requestId="6", type=6, data=["nobody handles this"])
        assert await other.next() == {"type": 6, "requestId": "6"}
        assert a.socket.rooms == {sid, "r"}

        await other.ask(
            uid="u", requestId="7", type=7, packet={"type": 2, "data": ["q"], "nsp": "/x"}, opts=OPTS
        )
        assert await other.next() == {"type": 8, "requestId": "7", "clientCount": 0}
        await other.ask(uid="u", requestId="8", type=7, packet={"type": 2, "data": ["q"]}, opts=OPTS)
        assert await other.next() == {"type": 8, "requestId": "8", "clientCount": 1}
        await a.peer.expect('420["q"]')
        await a.peer.send_text('430["yes"]')
        assert await other.next() == {"type": 9, "requestId": "8", "packet": "yes"}

        a.socket.data["x"] = object()
        await other.ask(uid="u", requestId="5", type=5, opts=OPTS)
        assert (await other.next())["sockets"][0]["data"] == {}
        assert a.events["unsendable data"] == 1

        await other.publish("socket.io-response#/#", {"requestId": "unknown", "sockets": []})
        await other.ask(uid="u", type=4, sid=sid, close=False)
        await a.peer.expect("41")


@needs_redis
async def test_answers_may_go_to_the_asking_node_alone() -> None:
    async with (
        redis_server() as redis,
        node(redis.url, own_responses=True) as a,
        stranger(redis, "socket.io-response#/#", "socket.io-response#/#u#") as other,
    ):
        await other.ask(uid="u", requestId="1", type=1)
        assert (await other.next("socket.io-response#/#u#"))["requestId"] == "1"
        await other.ask(requestId="1", type=1)
        await other.next()
        await other.ask(uid="u", requestId="6", type=6, data=["x"])
        await other.next()
        assert a.trouble is None


@needs_redis
async def test_answers_without_a_form_are_answered_with_nothing() -> None:
    broker = Broker()
    async with redis_server() as redis, stranger(redis, "socket.io-response#/#") as other:
        broker = Broker(adapter=RedisAdapter(redis.url))

        @broker.on_server_event("odd")
        def odd() -> Any:
            return object()

        async with broker:
            await other.ask(uid="u", requestId="6", type=6, data=["odd"])
            assert await other.next() == {"type": 6, "requestId": "6"}
        assert broker.statistics().events["unsendable data"] == 1


@needs_redis
@pytest.mark.parametrize("mode", ["classic", "sharded", "streams"])
async def test_a_namespace_that_goes_is_heard_no_longer(mode: Any) -> None:
    async with redis_server() as redis:
        adapter = RedisAdapter(redis.url, mode=mode)
        broker = Broker(adapter=adapter, cleanup_empty_child_namespaces=True)
        broker.of(lambda name, auth: True)
        verb = "SHARDCHANNELS" if mode == "sharded" else "CHANNELS"
        async with serving(broker) as server:
            async with client(server, "/dyn") as peer:
                (socket,) = broker.namespaces["/dyn"].sockets.values()
                socket.join("room")
                assert "#/dyn#" in await redis.ask("PUBSUB", verb, "*")
                await peer.send_text("40/dyn2,")
                await peer.receive()
            with trio.fail_after(DEADLINE):
                while "#/dyn" in await redis.ask("PUBSUB", verb, "*"):  # noqa: ASYNC110 - as above
                    await trio.sleep(0.01)


@needs_redis
async def test_a_room_may_have_the_name_of_a_socket() -> None:
    async with redis_server() as redis, node(redis.url) as a, stranger(redis) as other:
        channel = f"socket.io#/#{a.socket.id}#"

        async def listeners() -> int:
            return int((await other.client.ask("PUBSUB", "NUMSUB", channel))[1])

        carrier: Any = a.broker.sockets.link
        carrier.room_created(a.socket.id)
        carrier.room_deleted(a.socket.id)  # the socket is here still
        carrier.room_deleted("never was")
        await other.client.ask("PING")
        assert await listeners() == 1


@needs_redis
@pytest.mark.parametrize("mode", ["classic", "sharded"])
async def test_a_namespace_may_have_the_channel_of_a_room(mode: Any) -> None:
    """`/#news`, for everyone, and the room `news` of `/`: a client who may name a namespace chooses that."""
    async with redis_server() as redis, node(redis.url, mode) as a, node(redis.url, mode) as b:
        b.broker.of(lambda name, auth: True)
        b.socket.join("news")
        await until_linked(a, b)
        await b.peer.send_text("40/#news,")
        assert str(await b.peer.receive()).startswith("40/#news,")
        await until_linked(a, b)
        a.broker.to("news").emit("first")
        await b.peer.expect('42["first"]')
        await b.peer.send_text("41/#news,")
        await until(lambda: not b.broker.namespaces["/#news"].sockets)
        await until_linked(a, b)
        a.broker.to("news").emit("second")
        await b.peer.expect('42["second"]')


@needs_redis
async def test_questions_while_away() -> None:
    async with redis_server() as redis, stranger(redis) as other:
        await redis.stop()
        with pytest.raises(BusUnavailable):
            await other.client.ask("PING")
        await until(lambda: other.client.trouble)
        with pytest.raises(BusUnavailable):
            await other.client.ask("PING")


def test_what_the_server_says_is_told_apart() -> None:
    for text in ("NOPERM this user", "ERR unknown command 'HELLO'", "ERR odd", "NOPROTO x", "DENIED Redis"):
        assert isinstance(refusal(text, "trying"), BusRefused)
    assert not isinstance(refusal("LOADING Redis is loading", "trying"), BusRefused)
    with pytest.raises(BusRefused, match="Sentinel"):
        check_hello({b"mode": b"sentinel"})
    check_hello(["an old form"])


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from broker import ConfigError
    from broker.adapters.redis import settings

    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hiredis and msgpack.*trio-broker\[redis\]"):
        RedisAdapter("redis://a")


HELLO = b"%1\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
ANSWERS = [
    (b"-NOPERM no such channel for you\r\n", "may not do what is needed"),
    (b">3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n:1\r\n", "what was not asked"),
    (b"-ERR nonsense\r\n", "nonsense"),
    (b"nonsense\r\n", "not the Redis protocol"),
    (b"", "closed the connection"),
]


@pytest.mark.parametrize(("answer", "words"), ANSWERS)
async def test_servers_that_answer_oddly(answer: bytes, words: str) -> None:
    """A connection that is out of step is given up, and says why."""
    gaps: list[Any] = []

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(HELLO)
        await stream.receive_some()
        await stream.send_all(b"+PONG\r\n")
        await stream.receive_some()
        await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        host = BusHost(Limits(), Counter(), gaps.append)
        lost = RedisClient(parse_url(f"redis://127.0.0.1:{port}"), host, "x", lambda push: None, Timing())
        await nursery.start(lost.run)
        lost.subscribe("SUBSCRIBE", "channel")
        await until(lambda: gaps)
        assert words in gaps[0].cause
        nursery.cancel_scope.cancel()
