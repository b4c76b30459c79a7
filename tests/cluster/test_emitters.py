"""Emitters of both kinds reach nodes of both kinds."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from inspect import isawaitable
from typing import Any

import pytest
import trio

from broker import BusRefused, BusUnavailable, ConfigError, Emitter, Limits, RedisAdapter, open_emitter
from tests.duplex import joined
from tests.peers import quick_broker, serving, until

from .nodes import (
    NodeProcess,
    RedisServer,
    needs_node,
    needs_redis,
    node_member,
    node_program,
    our_member,
    redis_server,
)

pytestmark = needs_redis
node = pytest.mark.node
MODES = ["classic", "sharded", "streams"]
Do = Callable[..., Awaitable[Any]]


async def check_emitter(do: Do, clients: NodeProcess, ids: dict[str, str]) -> None:
    """Send by every verb, and hold what the clients `ours` and `node` hear."""
    await do("emit", [], [], "all", 1, {"a": None})
    await do("emit_binary", "bytes", [1, 255])
    await do("emit_chat", "chat", 1)
    await do("emit", [ids["ours"]], [], "private", "ours")
    await do("emit", [ids["node"]], [], "private", "node")
    await do("join", [], ["r"])
    await do("join", [ids["ours"]], ["s"])
    await do("leave", [ids["node"]], ["r"])
    await do("server_emit", "note", "hello")
    for name in ("ours", "node"):
        await hear(clients, f"chat {name}", [["chat", 1]])
        await hear(
            clients,
            name,
            [
                ["all", 1, {"a": None}],
                ["bytes", {"$hex": "01ff"}],
                ["private", name],
                ["noted", name, "hello"],
            ],
        )
    with trio.fail_after(10):  # a join has no answer: emit until it has come about
        while await clients.call("count", "ours") == 0:
            await do("emit", ["r", "s"], [], "rooms")
            await trio.sleep(0.02)
    await do("emit", [], ["s"], "not in s")
    await hear(clients, "node", [["not in s"]])
    await do("disconnect", ["s"], True)
    heard = await clients.call("heard", "ours", ["disconnected", "io server disconnect"])
    assert {tuple(one) for one in heard} == {("rooms",), ("disconnected", "io server disconnect")}


async def hear(clients: NodeProcess, name: str, wanted: list[Any]) -> None:
    """Hear all of these, in any order: channels have no order among each other."""
    heard: list[Any] = []
    for one in wanted:
        if one not in heard:
            heard += await clients.call("heard", name, one)
    assert sorted(map(repr, heard)) == sorted(map(repr, wanted))


async def verbs(emitter: Any, verb: str, *args: Any) -> None:
    """Do the same with an emitter of ours, in either form."""
    done: Any
    if verb == "emit":
        rooms, excepted, *event = args
        done = emitter.to(*rooms[:1]).in_(*rooms[1:]).except_(*excepted).emit(*event)
    elif verb == "emit_binary":
        done = emitter.emit(args[0], bytes(args[1]))
    elif verb == "emit_chat":
        done = emitter.of("chat").emit(*args)
    elif verb == "join":
        done = emitter.to(*args[0]).sockets_join(*args[1])
    elif verb == "leave":
        done = emitter.to(*args[0]).sockets_leave(*args[1])
    elif verb == "disconnect":
        done = emitter.to(*args[0]).disconnect_sockets(args[1])
    else:
        done = emitter.server_side_emit(*args)
    if isawaitable(done):
        await done


async def both_kinds(
    stack: AsyncExitStack, redis: RedisServer, mode: Any
) -> tuple[NodeProcess, dict[str, str]]:
    adapter = RedisAdapter(redis.url, mode=mode)
    members = [
        await stack.enter_async_context(our_member(adapter, "ours")),
        await stack.enter_async_context(node_member(redis, mode, "node")),
    ]
    clients = await stack.enter_async_context(node_program("client.cjs"))
    ids = {one.name: await clients.call("open", one.name, one.url) for one in members}
    for one in members:
        await clients.call("open", f"chat {one.name}", one.url + "/chat")
    return clients, ids


@needs_node
@node
@pytest.mark.parametrize("mode", MODES)
async def test_our_emitters_reach_everybody(mode: Any) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        clients, ids = await both_kinds(stack, redis, mode)
        with Emitter(redis.url, mode=mode) as emitter:
            await check_emitter(partial(verbs, emitter), clients, ids)


@needs_node
@node
async def test_our_emitter_for_trio_reaches_everybody() -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        clients, ids = await both_kinds(stack, redis, "classic")
        emitter = await stack.enter_async_context(open_emitter(redis.url))
        await check_emitter(partial(verbs, emitter), clients, ids)


@needs_node
@node
async def test_the_official_emitter_reaches_everybody() -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        clients, ids = await both_kinds(stack, redis, "classic")
        official = await stack.enter_async_context(node_program("emitter.cjs", str(redis.port)))
        await check_emitter(official.call, clients, ids)


@pytest.mark.parametrize("mode", MODES)
async def test_the_policy_of_an_event_reaches_every_node(mode: Any) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        adapter = RedisAdapter(redis.url, mode=mode)
        sender, slow = (
            quick_broker(adapter=adapter),
            quick_broker(adapter=adapter, limits=Limits(outbox_messages=2)),
        )
        server = await stack.enter_async_context(serving(slow))
        await stack.enter_async_context(sender)
        peer = await stack.enter_async_context(joined(server, "polling"))
        emitter = stack.enter_context(Emitter(redis.url, mode=mode))
        (socket,) = slow.sockets.sockets.values()
        emitter.overflow("drop_newest").overflow("keep_latest", key="k").emit("price", 1)
        await until(lambda: socket.outbox.messages == 1)
        sender.overflow("keep_latest", key="k").emit("price", 2)
        await until(lambda: slow.statistics().dropped["replaced"] == 1)
        emitter.overflow("drop_newest").emit("hint")
        await until(lambda: socket.outbox.messages == 2)
        sender.overflow("drop_newest").emit("too much")
        await until(lambda: slow.statistics().dropped["newest"] == 1)
        await peer.expect('42["price",2]', '42["hint"]')


async def test_emitters_say_when_they_are_not_heard() -> None:
    async with redis_server("--requirepass", "x") as redis:
        with pytest.raises(BusRefused, match="wants a password"):
            Emitter(redis.url).emit("x")
        url = f"redis://:x@127.0.0.1:{redis.port}/1"
        with Emitter(url) as emitter:
            emitter.emit("x")
            with pytest.raises(ValueError, match="reserved"):
                emitter.emit("connect")
            with pytest.raises(TypeError):
                emitter.emit("x", object())
            async with open_emitter(url, timeout=0.3) as other:
                await other.emit("x")
                await redis.stop()
                with pytest.raises(BusUnavailable):
                    await other.emit("x")
            with pytest.raises(BusUnavailable):
                emitter.emit("x")
            with pytest.raises(BusUnavailable):
                emitter.emit("x")
            await redis.start()
            emitter.emit("x")
        unix = Emitter(f"unix://:x@/{redis.directory}/redis.sock")
        unix.emit("x")
        unix.close()
    with pytest.raises(BusUnavailable):
        unix.emit("x")
    with pytest.raises(ConfigError, match="mode is one of"):
        Emitter("redis://a", mode="magic")  # type: ignore[arg-type]


async def test_what_the_block_of_an_emitter_raises_leaves_it_as_it_came() -> None:
    async with redis_server() as redis:
        with pytest.raises(BusUnavailable):
            async with open_emitter(redis.url, timeout=0.3) as emitter:
                await redis.stop()
                await emitter.emit("x")
        with pytest.raises(BusUnavailable):
            async with open_emitter(redis.url, timeout=0.3):
                raise AssertionError("there is nobody")


async def test_a_connection_that_was_closed_while_idle_is_made_anew() -> None:
    """As Redis does by its option `timeout`, and as what stands between does sooner or later."""
    async with redis_server() as redis:
        with Emitter(redis.url) as emitter:
            for _ in range(3):
                emitter.emit("x")
                assert await redis.ask("CLIENT", "KILL", "TYPE", "normal") == "1"
            emitter.emit("x")


def test_what_would_reach_nobody_is_refused() -> None:
    rooms: Any = ["a", "b"]
    event: Any = 5
    emitter = Emitter("redis://127.0.0.1:1")
    for refused in (
        lambda: emitter.to(rooms),
        lambda: emitter.except_(rooms),
        lambda: emitter.sockets_join(rooms),
        lambda: emitter.sockets_leave(rooms),
    ):
        with pytest.raises(TypeError, match="a room is a str, not list"):
            refused()
    with pytest.raises(TypeError, match="an event name is a str, not int"):
        emitter.emit(event)


class Interrupted(Exception):
    """What a signal handler of the application raises, as Celery does at a soft time limit."""


async def test_an_emitter_that_was_interrupted_takes_no_late_answer_for_its_own() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    async with redis_server() as redis:
        emitter = Emitter(redis.url)
        emitter.emit("x")
        redis.hang()
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Interrupted):
                emitter.emit("x", 1)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        redis.wake()
        assert emitter._way.ask("ECHO", "mine") == b"mine"
        emitter.close()
