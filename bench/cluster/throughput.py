"""Figure 4: deliveries per second from one node to the clients of another one, beside Node."""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

from bench import processes
from bench.hold.figure import Claim, say
from bench.hold.service import Service
from bench.hold.wire import ENGINE, Line
from bench.processes import BIN, ROOT, Generator, MeasureError
from tests.cluster.nodes import RedisServer, redis_server

from . import world
from .world import Scale

MODES = ("classic", "sharded")
KINDS = {"ours": "this broker", "node": "Node"}
FOLLOWING = f"{ENGINE}&transport=websocket&follow=1"
WINDOW = 16  # messages on their way at once
PAD = "x" * 40  # with number and time a payload of about 64 bytes
SILENCE = 2.0
HEARD = re.compile(rb"\$[789]\r\n[sp]?message\r\n\$\d+\r\n([^\r]*)\r\n", re.ASCII)
SHARED_CORES = "generator, Redis and both nodes share the cores"


def measure(scale: Scale) -> list[Claim]:
    """Measure both modes with both kinds of servers in turns, and then the bystanders."""
    processes.build()
    return list(world.run(_play, scale, seconds=180 if not scale.short else 60))


async def _play(scale: Scale) -> list[Claim]:
    claims = []
    rounds, seconds = scale.full_or(3, 1), scale.full_or(4, 1)
    for mode in MODES[:1] if scale.short else MODES:
        rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind in KINDS:
                rates[kind].append(await _rate(kind, mode, scale.full_or(100, 10), seconds))
                say(f"throughput: {mode}, {KINDS[kind]}: {rates[kind][-1]:,.0f} deliveries/s")
        ours, node = (statistics.median(rates[kind]) for kind in KINDS)
        text = f"{ours:,.0f} against {node:,.0f} deliveries/s, {ours / node:.2f} times; median of {rounds}"
        claims.append(
            Claim.told(
                f"{mode}: published at one node to {scale.full_or(100, 10)} clients of another one, "
                f"this broker against Node; {SHARED_CORES}",
                text,
            )
        )
    for mode in MODES[:1] if scale.short else MODES:
        heard = await _frames_at_bystander("ours", mode)
        beside = "not measured" if scale.short else await _frames_at_bystander("node", mode)
        claims.append(
            Claim(
                f"{mode}: messages of a room that reach a node without members over the bus, of 200",
                "<= 0",
                f"{heard} (Node: {beside})",
                heard == 0,
            )
        )
    return claims


@contextlib.contextmanager
def _server(kind: str, mode: str, redis_port: int) -> Iterator[Service]:
    if kind == "ours":
        with world.node(f"redis://127.0.0.1:{redis_port}", mode) as service:
            yield service
    else:
        with world.on_node("tests/cluster/server.cjs", mode, str(redis_port), "measured") as service:
            yield service


async def _join(port: int, target: str) -> Line:
    line = await Line.open(port)
    await line.upgrade(target)
    await line.read_text()
    await line.send_text("40")
    while not (await line.read_text()).startswith("40"):
        pass
    return line


@asynccontextmanager
async def _two_nodes(kind: str, mode: str) -> AsyncIterator[tuple[RedisServer, Service, Service]]:
    async with redis_server() as redis:
        with _server(kind, mode, redis.port) as first, _server(kind, mode, redis.port) as second:
            yield redis, first, second


async def _rate(kind: str, mode: str, clients: int, seconds: int) -> float:
    """Return how many deliveries per second come to the clients at the second node."""
    async with _two_nodes(kind, mode) as (_, first, second):
        with tempfile.TemporaryFile("w+") as errors:
            command = [str(BIN / "sioload"), "-p", str(second.port), "-m", "follow", "-c", str(clients)]
            command += ["-t", str(seconds + 1), "-u", FOLLOWING]
            with processes.child(command, ROOT, stdout=subprocess.PIPE, stderr=errors) as process:
                generator = Generator(process, errors)
                await trio.to_thread.run_sync(generator.next_line, 20)
                sent, per_second = await _pace(first.port, second.port, seconds)
                said = await trio.to_thread.run_sync(generator.next_line, 20 + seconds)
    if said["gaps"] or said["received"] != sent * clients:
        raise MeasureError(
            f"{kind}, {mode}: {said['received']} of {sent * clients} came, {said['gaps']} gaps"
        )
    return per_second * clients


async def _pace(publisher: int, follower: int, seconds: float) -> tuple[int, float]:
    """Publish, so many messages on their way at once; return how many, and how many a second."""
    source, target = await _join(publisher, f"{ENGINE}&transport=websocket"), await _join(follower, FOLLOWING)
    await trio.sleep(0.3)  # the nodes do not say when the other one has subscribed
    sent = heard = 0
    begun = time.monotonic()
    while True:
        going_on = time.monotonic() - begun < seconds
        while going_on and sent - heard < WINDOW:
            sent += 1
            await source.send_text(f'42["pub","{sent}.{time.monotonic_ns()}.{PAD}"]')
        if heard == sent:
            break
        with trio.fail_after(5):
            if (await target.read_text()).startswith('42["n"'):
                heard += 1
    took = time.monotonic() - begun
    source.close()
    target.close()
    return sent, sent / took


async def _frames_at_bystander(kind: str, mode: str) -> int:
    """Return how many messages of a room come to a node that has clients, but none in the room."""
    async with (
        _two_nodes(kind, mode) as (redis, first, second),
        _counting(redis.port) as (port, heard),
    ):
        with contextlib.ExitStack() as stack:
            # Starting waits for what this task's loop passes on.
            bystander = await trio.to_thread.run_sync(stack.enter_context, _server(kind, mode, port))
            client = await _join(bystander.port, f"{ENGINE}&transport=websocket")
            source = await _join(first.port, f"{ENGINE}&transport=websocket")
            target = await _join(second.port, FOLLOWING)
            await trio.sleep(0.5)
            before = len(heard)
            for number in range(200):
                await source.send_text(f'42["pub","{number}"]')
                while not (await target.read_text()).startswith('42["n"'):
                    pass
            await trio.sleep(0.5)
            for line in (client, source, target):
                line.close()
            return len(heard) - before


@asynccontextmanager
async def _counting(redis_port: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Run a way to Redis that notes the channels of the messages that it passes on, those of probes apart."""
    heard: list[bytes] = []

    async def upstream(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", redis_port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(copy, client, server, False)
            await copy(server, client, True)
            nursery.cancel_scope.cancel()

    async def copy(source: trio.SocketStream, target: trio.SocketStream, noting: bool) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if noting:
                    heard.extend(one for one in HEARD.findall(data) if b"-probe#" not in one)
                await target.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, upstream, 0)
        yield listeners[0].socket.getsockname()[1], heard
        nursery.cancel_scope.cancel()
