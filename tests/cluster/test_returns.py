"""Redis comes back: what each node hears again, and what the others have published meanwhile."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from .faults import proxy
from .nodes import RedisServer, needs_redis, redis_server
from .test_failures import DEADLINE, node, until

pytestmark = needs_redis
LONG = 60.0  # seconds, which no test waits for


async def until_heard_by(count: int, redis: RedisServer, verb: str, room: str) -> None:
    """Wait until so many nodes hear a room."""
    with trio.fail_after(DEADLINE):
        while (await redis.ask("PUBSUB", verb, f"socket.io#/#{room}#")).split()[-1] != str(count):  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize(("mode", "verb"), [("classic", "NUMSUB"), ("sharded", "SHARDNUMSUB")])
async def test_rooms_that_change_while_a_connection_is_made(mode: str, verb: str) -> None:
    async with redis_server() as redis, proxy(redis.port) as way:
        async with node(f"redis://127.0.0.1:{way.port}", mode, connect_timeout=LONG) as a:
            a.socket.join("early")
            redis.hang()
            way.cut()
            # The new connection has begun, and waits for the answer to its greeting.
            await until(lambda: way.opened == 2 and a.trouble)
            await trio.testing.wait_all_tasks_blocked(0.05)
            a.socket.join("late")
            a.socket.leave("early")
            redis.wake()
            await until_heard_by(1, redis, verb, "late")
            await until_heard_by(0, redis, verb, "early")
            assert way.opened == 2
