"""Sessions that outlive their node over Redis streams: nothing missed, nothing doubled, or not recovered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from tests.peers import serving

from .faults import proxy
from .nodes import HERE, RedisServer, needs_node, needs_redis, node_program, redis_server
from .recovering_node import make_broker
from .test_failures import until

pytestmark = needs_redis
ROOT = HERE.parent.parent
CLIENTS = 20
EVENTS = 300


@asynccontextmanager
async def killable(redis: RedisServer) -> AsyncIterator[tuple[trio.Process, int]]:
    """Run a node in a process of its own; give it and its port."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.cluster.recovering_node", redis.url, "0"],
        stdout=subprocess.PIPE,
        cwd=Path(ROOT),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(15):
            line = await process.stdout.receive_some()
        yield process, int(line.decode().strip().rpartition(":")[2])
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


@needs_node
async def test_a_node_is_killed_under_traffic() -> None:
    async with redis_server() as redis, killable(redis) as (process, port), AsyncExitStack() as stack:
        broker = make_broker(redis.url)
        server = await stack.enter_async_context(serving(broker))
        way = await stack.enter_async_context(proxy(port))
        clients = await stack.enter_async_context(node_program("client.cjs"))
        url = f"http://127.0.0.1:{way.port}"
        names = [f"c{number}" for number in range(CLIENTS)]
        for name in names:
            await clients.call("open", name, url, {"reconnectionDelay": 50, "reconnectionDelayMax": 200})
            assert await clients.call("call", name, "name", name) == "named"
        ids = [(await clients.call("state", name))[2] for name in names]
        for number in range(EVENTS):
            broker.to("all").emit("tick", number)
            if number == EVENTS // 2:
                way.target = server.port
                process.kill()
                broker.emit("everyone")
                for socket_id in ids:
                    broker.to(socket_id).emit("private", socket_id)
            await trio.sleep(0.003)
        await until(lambda: len(broker.sockets.sockets) == CLIENTS)
        broker.emit("end")
        for name, socket_id in zip(names, ids, strict=True):
            last = await clients.call("heardOf", name, "end")
            assert [one[1] for one in last if one[0] == "tick"] == list(range(EVENTS)), name
            assert [one[0] for one in last].count("everyone") == 1
            assert [one[1] for one in last if one[0] == "hello"] == [name]
            assert [one[1] for one in last if one[0] == "private"] == [socket_id]
            assert (await clients.call("state", name)) == [True, 2, socket_id]
        found = {socket.data["name"] for socket in broker.sockets.sockets.values()}
        assert found == set(names)
