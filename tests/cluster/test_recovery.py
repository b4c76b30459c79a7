"""Sessions that outlive their node over Redis streams: nothing missed, nothing doubled, or not recovered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from broker import Broker, ExpiredSession, Limits, Server
from protocol.bus.streams import KeptSession, write_session
from tests.peers import Door, RawWebSocket, Where, serving, settled, websocket

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


# -- peers without code of ours, two nodes in this process ---------------------------


@frozen
class Joined:
    peer: RawWebSocket
    answer: dict[str, Any]
    missed: list[Any]

    async def event(self, name: str) -> list[Any]:
        """Return the next event, which has this name."""
        text = await self.peer.receive()
        assert isinstance(text, str)
        value: list[Any] = json.loads(text.removeprefix("42"))
        assert value[0] == name, text
        return value

    async def lose(self, broker: Broker) -> None:
        """Drop the connection, and wait until the broker has seen it."""
        await self.peer.abort()
        await until(lambda: self.answer["sid"] not in broker.sockets.sockets)
        await settled()


class Nodes:
    """Servers and peers, all closed by a stack."""

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self.stack = stack
        self.url = url
        self.expired: list[ExpiredSession] = []

    async def broker(
        self, url: str | None = None, window: float = 20.0, **options: Any
    ) -> tuple[Broker, Server]:
        broker = make_broker(url or self.url, window, **options)
        broker.on_session_expired(self.expired.append)
        return broker, await self.stack.enter_async_context(served(broker))

    async def ask(self, server: Where, **auth: Any) -> RawWebSocket:
        """Open a connection, and ask to be let in."""
        peer = await self.stack.enter_async_context(websocket(server))
        await peer.opened()
        await peer.send_text("40" + json.dumps(auth))
        return peer

    async def answer(self, peer: RawWebSocket) -> Joined:
        """Take what was missed, and the answer to CONNECT."""
        missed = []
        while (text := str(await peer.receive()))[:2] != "40":
            missed.append(json.loads(text[2:]))
        return Joined(peer, json.loads(text[2:]), missed)

    async def answers(self, peers: Sequence[RawWebSocket]) -> list[Joined]:
        """Take the answer of each; who has its own answers PINGs until all have, or it is taken for dead."""
        results: list[Joined] = []

        async def take(peer: RawWebSocket) -> None:
            results.append(await self.answer(peer))
            if len(results) == len(peers):
                nursery.cancel_scope.cancel()
            raise AssertionError(f"unexpected: {await peer.receive()!r}")

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(take, peer)
        return results

    async def join(self, server: Where, **auth: Any) -> Joined:
        """Join the default namespace."""
        return await self.answer(await self.ask(server, **auth))


def recoveries_of(broker: Broker) -> Any:
    """Return what a broker recovers sessions with."""
    return broker._directory.recoveries


async def until_kept(redis: RedisServer, pid: str) -> None:
    """Wait until a session is in Redis."""
    with trio.fail_after(15):
        while await redis.ask("EXISTS", f"sio:session:{pid}") != "1":
            pass


@asynccontextmanager
async def served(broker: Broker) -> AsyncIterator[Server]:
    """Serve a broker for the block; `nodes` looks at what is left of all of them."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(lambda task_status: broker.serve(port=0, task_status=task_status))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def nodes(url: str) -> AsyncIterator[Nodes]:
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with AsyncExitStack() as stack:
        yield Nodes(stack, url)
    await settled()
    assert trio.lowlevel.current_statistics().tasks_living == tasks, "tasks are left"


async def test_a_session_moves_once() -> None:
    async with redis_server() as redis, nodes(redis.url) as made:
        (a, at_a), (b, at_b) = await made.broker(), await made.broker()
        one = await made.join(at_a)
        pid, sid = one.answer["pid"], one.answer["sid"]
        for number in range(4):
            a.emit("tick", number)
        a.sockets.sockets[sid].emit("tick", 4)
        seen = [await one.event("tick") for _ in range(5)]
        assert [tick[1] for tick in seen] == list(range(5))
        await until_kept(redis, pid)
        assert (await made.join(at_b, pid=pid, offset=seen[1][-1])).answer["recovery"] == "unknown"
        assert await redis.ask("EXISTS", f"sio:session:{pid}") == "1"
        await one.lose(a)
        b.emit("tick", 5)
        b.to(sid).emit("tick", 6)
        b.except_("all").emit("not for it")
        b.volatile.emit("volatile")
        b.local.emit("local")
        # All ask before anybody is answered.
        peers = [await made.ask(server, pid=pid, offset=seen[1][-1]) for server in (at_a, at_b, at_b)]
        results = await made.answers(peers)
        (back,) = [one for one in results if one.answer["sid"] == sid]
        assert sorted(one.answer.get("recovery", "") for one in results) == ["", "unknown", "unknown"]
        assert back.missed[:3] == seen[2:]
        assert [event[:2] for event in back.missed[3:]] == [["tick", 5], ["tick", 6]]
        a.to("all").emit("live")
        assert len(await back.event("live")) == 2
        assert made.expired == []


async def test_a_node_that_came_later_reads_the_stream() -> None:
    async with redis_server() as redis, nodes(redis.url) as made:
        a, at_a = await made.broker()
        one, other = await made.join(at_a), await made.join(at_a)
        for number in range(3):
            a.emit("tick", number)
        seen = [await one.event("tick") for _ in range(3)]
        await one.lose(a)
        await other.lose(a)
        _, at_b = await made.broker()
        back = await made.join(at_b, pid=one.answer["pid"], offset=seen[0][-1])
        assert back.missed == seen[1:]
        assert back.answer["sid"] == one.answer["sid"]
        await redis.ask("XTRIM", "socket.io", "MAXLEN", "1")
        late = await made.join(at_b, pid=other.answer["pid"], offset=seen[0][-1])
        assert late.answer["recovery"] == "trimmed"
        assert [end.why for end in made.expired] == ["trimmed"]


async def test_many_missed_events_are_not_one_that_is_too_large() -> None:
    async with redis_server() as redis, nodes(redis.url) as made:
        a, at_a = await made.broker()
        one = await made.join(at_a)
        for number in range(100):
            a.emit("tick", number, "x" * 5_000)
        seen = [await one.event("tick") for _ in range(100)]
        await one.lose(a)
        b, at_b = await made.broker(limits=Limits(bus_message_bytes=10_000))
        back = await made.join(at_b, pid=one.answer["pid"], offset=seen[0][-1])
        assert back.missed == seen[1:]
        assert b.statistics().events["oversized bus message"] == 0


async def test_a_node_that_the_trimming_has_overtaken_recovers_nobody_over_the_hole() -> None:
    burst = (
        "for number = 1, 1000 do redis.call('XADD', KEYS[1], 'MAXLEN', 200, '*', 'uid', 'u', 'nsp', '/',"
        " 'type', '3', 'data', ARGV[1]) end"
    )
    data = '{"packet":{"type":2,"data":["tick"]},"opts":{"rooms":["all"],"except":[],"flags":{}}}'
    async with redis_server() as redis, nodes(redis.url) as made:
        a, at_a = await made.broker()
        one = await made.join(at_a)
        a.emit("tick", 0)
        await one.event("tick")
        await redis.ask("EVAL", burst, "1", "socket.io", data)
        last = await one.event("tick")
        bus: Any = a._directory.bus
        await until(lambda: a.statistics().events["bus gap"] and not bus._log.is_away)
        await one.lose(a)
        back = await made.join(at_a, pid=one.answer["pid"], offset=last[-1])
        assert back.answer["recovery"] == "trimmed"


async def test_a_session_that_a_node_server_left() -> None:
    async with redis_server() as redis, nodes(redis.url) as made:
        a, at_a = await made.broker()
        one = await made.join(at_a)
        a.emit("tick", 1)
        a.to("room").emit("tick", 2)
        a.to("elsewhere").emit("tick", 3)
        offset = (await one.event("tick"))[-1]
        left = KeptSession("s" * 20, "p" * 20, ("s" * 20, "room"), {"user": "X"})
        await redis.ask("SET", f"sio:session:{left.pid}", write_session(left).decode(), "PX", "20000")
        back = await made.join(at_a, pid=left.pid, offset=offset)
        assert back.answer["sid"] == left.sid
        assert [event[:2] for event in back.missed] == [["tick", 2]]
        socket = a.sockets.sockets[left.sid]
        assert (socket.data, socket.rooms) == ({"user": "X"}, {left.sid, "room"})


@needs_node
@pytest.mark.parametrize("first", ["node", "ours"])
async def test_a_client_moves_between_a_server_on_node_and_ours(first: str) -> None:
    async with redis_server() as redis, nodes(redis.url) as made:
        a, at_a = await made.broker()
        program = await made.stack.enter_async_context(
            node_program("server.cjs", "streams", str(redis.port), "n", "recovery")
        )
        doors = [Door(program.ready["port"]), Door(at_a.port)]
        here, there = doors if first == "node" else doors[::-1]
        one = await made.join(here)
        pid, sid = one.answer["pid"], one.answer["sid"]
        await program.call("emit", [], [], "tick", 1)
        offset = (await one.event("tick"))[-1]
        if first == "ours":
            await one.lose(a)
        else:
            await one.peer.abort()
            await until_kept(redis, pid)  # it writes a session down when its client is gone
        a.emit("tick", 2)
        back = await made.join(there, pid=pid, offset=offset)
        assert back.answer["sid"] == sid
        await program.call("emit", [sid], [], "tick", 3)
        a.to(sid).emit("tick", 4)
        heard = [event[1] for event in back.missed]
        while len(heard) < 3:
            heard.append((await back.event("tick"))[1])
        assert heard[0] == 2
        assert sorted(heard[1:]) == [3, 4]  # of two nodes: in whatever order


async def test_the_end_of_the_window() -> None:
    async with redis_server() as redis, nodes(redis.url) as made:
        a, at_a = await made.broker(window=0.5)
        _, at_b = await made.broker(window=0.5)
        one, moved = await made.join(at_a), await made.join(at_a)
        await one.lose(a)
        await moved.lose(a)
        back = await made.join(at_b, pid=moved.answer["pid"])
        assert back.answer["sid"] == moved.answer["sid"]
        await until(lambda: made.expired)
        assert [end.id for end in made.expired] == [one.answer["sid"]]
        late = await made.join(at_a, pid=one.answer["pid"])
        assert late.answer["recovery"] == "expired"
        await until(lambda: len(recoveries_of(a).store._lost) == 0)
        assert len(made.expired) == 1
        # Its key has been renewed: it is connected.
        assert int(await redis.ask("PTTL", f"sio:session:{moved.answer['pid']}")) > 0


@pytest.mark.parametrize("fault", ["cut", "stop", "hang"])
async def test_redis_is_away(fault: str) -> None:
    async with redis_server() as redis, proxy(redis.port) as way, nodes(redis.url) as made:
        a, at_a = await made.broker(f"redis://127.0.0.1:{way.port}" if fault == "cut" else redis.url)
        one, quiet = await made.join(at_a), await made.join(at_a)
        a.emit("before", 1)
        before = await one.event("before")
        await quiet.event("before")
        bus = a._directory.bus
        assert bus is not None
        if fault == "hang":
            redis.hang()
        elif fault == "stop":
            await redis.stop()
        else:
            way.cut()
        for number in range(5):
            a.emit("meanwhile", number)
        for number in range(5):
            assert (await one.event("meanwhile"))[1] == number
        if fault == "hang":
            redis.wake()
        elif fault == "stop":
            await until(lambda: bus.trouble)
            await redis.start()
        await until(lambda: not bus.trouble and not recoveries_of(a).shared.is_away)
        a.emit("after", 1)
        after = await one.event("after")
        assert len(after) == 3
        await one.lose(a)
        await quiet.lose(a)
        a.emit("missed", 1)
        _, at_b = await made.broker()
        back = await made.join(at_b, pid=one.answer["pid"], offset=after[-1])
        assert [event[:2] for event in back.missed] == [["missed", 1]]
        # What it has seen meanwhile has no offset: nobody knows where it is.
        refused = await made.join(at_b, pid=quiet.answer["pid"], offset=before[-1])
        assert refused.answer["recovery"] in ("trimmed", "unknown")


async def test_a_node_that_was_cut_off_leaves_the_sessions_that_have_moved_alone() -> None:
    """It hears late that its client is gone, and takes the session for its own until then."""
    async with redis_server() as redis, proxy(redis.port) as way, nodes(redis.url) as made:
        a, at_a = await made.broker(f"redis://127.0.0.1:{way.port}", window=3.0)
        b, at_b = await made.broker(window=3.0)
        one = await made.join(at_a)
        pid, sid = one.answer["pid"], one.answer["sid"]
        a.emit("tick", 1)
        offset = (await one.event("tick"))[-1]
        bus_a, bus_b = a._directory.bus, b._directory.bus
        assert bus_a is not None
        assert bus_b is not None
        await until_kept(redis, pid)
        way.shut = True
        way.cut()
        await until(lambda: bus_a.trouble)
        await trio.sleep(1.5)  # until the others take it for dead
        back = await made.join(at_b, pid=pid, offset=offset)
        assert back.answer["sid"] == sid
        way.shut = False
        await until(lambda: not bus_a.trouble and not recoveries_of(a).shared.is_away)
        a.sockets.sockets[sid].join("another room")
        await trio.sleep(0.1)
        await one.lose(a)
        await trio.sleep(4.0)
        assert made.expired == []
        b.emit("tick", 2)
        offset = (await back.event("tick"))[-1]
        await back.lose(b)
        again = await made.join(at_b, pid=pid, offset=offset)
        assert again.answer["sid"] == sid
        assert b.sockets.sockets[sid].rooms == {sid, "all"}
