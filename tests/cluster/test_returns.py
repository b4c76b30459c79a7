"""Redis comes back: what each node hears again, and what the others have published meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from broker import Broker, Limits, RedisAdapter

from .faults import Proxy, proxy
from .nodes import RedisServer, needs_redis, redis_server
from .test_failures import DEADLINE, Node, node, until, until_linked

pytestmark = needs_redis
CHANNELS = ["classic", "sharded"]
LONG = 60.0  # seconds, which no test waits for
PATIENT: dict[str, Any] = {"return_timeout": LONG, "ping_timeout": LONG, "connect_timeout": LONG}
"""A busy machine breaks no connection: what breaks one here is noticed by its end."""


def client_of(a: Node) -> Any:
    bus: Any = a.broker._directory.bus
    return bus._client


async def until_counted(count: int, *nodes: Node) -> None:
    """Wait until all of them know how many they are."""
    await until(lambda: all(client_of(one)._barrier.expected == count for one in nodes))


async def until_heard_by(count: int, redis: RedisServer, verb: str, room: str) -> None:
    """Wait until so many nodes hear a room."""
    with trio.fail_after(DEADLINE):
        while (await redis.ask("PUBSUB", verb, f"socket.io#/#{room}#")).split()[-1] != str(count):  # noqa: ASYNC110 - Redis tells nobody
            await trio.sleep(0.01)


@asynccontextmanager
async def one_returns_first(
    mode: str, **options: Any
) -> AsyncIterator[tuple[RedisServer, Proxy, Proxy, Node, Node]]:
    """Restart Redis under two nodes; in the block the first is back, the second kept away by its proxy."""
    options = {**PATIENT, **options}
    async with (
        redis_server() as redis,
        proxy(redis.port) as way_of_a,
        proxy(redis.port) as way_of_b,
        node(f"redis://127.0.0.1:{way_of_a.port}", mode, **options) as a,
        node(f"redis://127.0.0.1:{way_of_b.port}", mode, **options) as b,
    ):
        await until_linked(a, b)
        await until_counted(2, a, b)
        await redis.stop()
        await until(lambda: a.trouble and b.trouble)
        way_of_b.shut = True
        emit(a, 0, 20)
        await redis.start()
        await until(lambda: not a.trouble)
        yield redis, way_of_a, way_of_b, a, b


def emit(a: Node, *numbers: int) -> None:
    for number in range(*numbers):
        assert a.broker.emit("n", number).unpublished == 0


async def expect(b: Node, count: int) -> None:
    for number in range(count):
        await b.peer.expect(f'42["n",{number}]')


@pytest.mark.parametrize("mode", CHANNELS)
async def test_what_was_published_in_an_outage_arrives_once_and_in_order(mode: str) -> None:
    async with one_returns_first(mode) as (_, _, way_of_b, a, b):
        emit(a, 20, 30)
        way_of_b.shut = False
        await until(lambda: not b.trouble)
        emit(a, 30, 40)
        await expect(b, 40)
        # Nothing came between or twice: what is sent now is the next.
        a.broker.emit("end")
        await b.peer.expect('42["end"]')
        assert a.gaps[0].lost == a.gaps[0].unconfirmed == 0


@pytest.mark.parametrize("mode", CHANNELS)
async def test_nothing_is_sent_twice_if_the_connection_breaks_again_meanwhile(mode: str) -> None:
    async with one_returns_first(mode) as (_, way_of_a, way_of_b, a, b):
        for number in range(3):
            way_of_a.cut()
            await until(lambda number=number: len(a.gaps) == number + 2 and not a.trouble)
            emit(a, 20 + number, 21 + number)
        way_of_b.shut = False
        await expect(b, 23)
        a.broker.emit("end")
        await b.peer.expect('42["end"]')
        assert a.events["unconfirmed bus message"] == 0


@pytest.mark.parametrize("mode", CHANNELS)
async def test_a_node_that_stays_away_holds_the_others_up_for_the_grace_time_only(mode: str) -> None:
    grace = 1.0
    options = {**PATIENT, "return_timeout": grace}
    async with (
        redis_server() as redis,
        proxy(redis.port) as way,
        node(redis.url, mode, **options) as a,
        node(redis.url, mode, **options) as c,
    ):
        async with node(f"redis://127.0.0.1:{way.port}", mode, **options) as b:
            await until_counted(3, a, b, c)
            await redis.stop()
            await until(lambda: a.trouble and b.trouble and c.trouble)
            way.shut = True
            emit(a, 0, 5)
            started = trio.current_time()
            await redis.start()
            await expect(c, 5)
            assert trio.current_time() - started >= grace
            assert b.trouble
            # It counts no longer: the next outage has two to wait for.
            await until_counted(2, a, c)
            await redis.stop()
            await until(lambda: a.trouble and c.trouble)
            await redis.start()
            emit(a, 0, 5)
            await expect(c, 5)


async def test_who_has_just_joined_is_waited_for() -> None:
    options = {**PATIENT, "ping_interval": LONG}
    async with redis_server() as redis, node(redis.url, **options) as a:
        await until_counted(1, a)
        async with node(redis.url, **options) as b:
            with trio.fail_after(2):
                await until_counted(2, a, b)


async def test_only_publications_wait() -> None:
    async with one_returns_first("classic") as (redis, _, way_of_b, a, b):
        connections = client_of(a)
        assert await connections.ask("PING") == b"PONG"
        a.socket.join("room")

        await until_heard_by(1, redis, "NUMSUB", "room")
        # Probes pass too: each is sent once the one before has come back.
        for _ in range(3):
            seen = connections._probed
            await until(lambda seen=seen: connections._probed != seen)
        assert a.trouble is None
        assert len(a.gaps) == 1
        assert connections._outgoing.holds
        way_of_b.shut = False
        await expect(b, 20)


async def test_what_finds_no_room_while_the_others_are_waited_for_is_reported() -> None:
    limits = Limits(bus_buffer_bytes=20_000)
    async with one_returns_first("classic", limits=limits) as (_, _, way_of_b, a, b):
        await until(lambda: len(a.gaps) == 1)
        assert a.gaps[0].lost == 0
        lost = sum(a.broker.emit("big", "x" * 1000).unpublished for _ in range(30))
        assert lost > 0
        way_of_b.shut = False
        await expect(b, 20)
        await until(lambda: len(a.gaps) == 2)
        assert (a.gaps[1].lost, a.gaps[1].unconfirmed) == (lost, 0)
        assert a.gaps[1].cause == "the bus buffer was full"


async def test_who_ends_sends_what_it_holds() -> None:
    async with (
        redis_server() as redis,
        proxy(redis.port) as way,
        node(redis.url, **PATIENT) as a,
        node(f"redis://127.0.0.1:{way.port}", **PATIENT) as b,
    ):
        ending = Broker(adapter=RedisAdapter(redis.url, **PATIENT))
        async with ending:
            bus: Any = ending._directory.bus
            await until(lambda: bus._client._barrier.expected == 3)
            await redis.stop()
            await until(lambda: a.trouble and b.trouble and bus.trouble)
            way.shut = True
            for number in range(5):
                ending.emit("n", number)
            await redis.start()
            await until(lambda: not a.trouble and not bus.trouble)
            assert bus._client._outgoing.holds
        await expect(a, 5)
        way.shut = False
        await until(lambda: not b.trouble)


async def test_a_question_while_the_last_is_sent_is_answered_with_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with redis_server() as redis, proxy(redis.port) as way, node(redis.url) as a:
        ending = Broker(adapter=RedisAdapter(f"redis://127.0.0.1:{way.port}"))

        @ending.on_server_event("question")
        async def question() -> str:
            await trio.lowlevel.checkpoint()
            return "answer"

        asked = trio.Event()

        async def ask() -> None:
            await until(lambda: not ending.is_open)
            await a.broker.server_side_emit("question")
            await until(lambda: ending.statistics().events["unhandled server event"] == 1)
            asked.set()
            way.cut()

        async with trio.open_nursery() as nursery, ending:
            assert await a.broker.server_side_emit("question", timeout=DEADLINE) == ["answer"]
            way.mute = True
            ending.emit("last")  # its reply does not come
            nursery.start_soon(ask)
        assert asked.is_set()
        assert "could not be handled" not in caplog.text


async def test_without_the_right_to_count_nobody_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with redis_server() as redis:
        await redis.ask("ACL", "SETUSER", "default", "on", "nopass", "+@all", "-pubsub", "~*", "&*")
        async with node(redis.url, **PATIENT) as a, node(redis.url, **PATIENT) as b:
            await until_linked(a, b)
            await until(lambda: "cannot be counted" in caplog.text)
            for one in (a, b):
                client_of(one).drop("for the test")
            await until(lambda: a.gaps and b.gaps and not a.trouble and not b.trouble)
            await until_linked(a, b)


@pytest.mark.parametrize(("mode", "verb"), [("classic", "NUMSUB"), ("sharded", "SHARDNUMSUB")])
async def test_rooms_that_change_while_a_connection_is_made(mode: str, verb: str) -> None:
    async with redis_server() as redis, proxy(redis.port) as way:
        async with node(f"redis://127.0.0.1:{way.port}", mode, **PATIENT) as a:
            a.socket.join("early")
            redis.hang()
            way.cut()
            # The new connection has begun, and waits for the answer to its greeting.
            await until(lambda: way.opened == 2 and a.trouble)
            await trio.testing.wait_all_tasks_blocked(0.01)
            a.socket.join("late")
            a.socket.leave("early")
            redis.wake()
            await until_heard_by(1, redis, verb, "late")
            await until_heard_by(0, redis, verb, "early")
            assert way.opened == 2
