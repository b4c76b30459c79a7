"""Figure 5: two processes at one port against one, and long-polling whose requests come to them in turns."""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from bench import processes
from bench.hold.figure import Claim, say
from bench.processes import free_port
from tests.workers import test_round_robin as robin
from tests.workers.processes import serving_processes

from . import workers, world
from .world import Scale

SHARED_CORES = "generator and workers share two cores"
POLLING = 5  # how often the clients of the tests run


def measure(scale: Scale) -> list[Claim]:
    """Compare one worker with two, and count the answers to long-polling clients."""
    processes.build()
    rounds, seconds = scale.full_or(3, 1), scale.full_or(3, 1)
    claims = []
    for title, load in list(workers.LOADS.items())[: 1 if scale.short else None]:
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for count in rates:
                rates[count].append(workers.measure(load, count, seconds))
        one, two = (statistics.median(values) for values in rates.values())
        say(f"workers: {title}, one {one:,.0f}/s, two {two:,.0f}/s")
        claims.append(
            Claim.told(
                f"{title}: two workers against one ({SHARED_CORES})",
                f"{two:,.0f}/s against {one:,.0f}/s, {two / one:.2f} times; median of {rounds}",
            )
        )
    return [*claims, *round_robin(scale)]


def round_robin(scale: Scale) -> list[Claim]:
    """Count the answers to long-polling clients whose requests come to the processes in turns."""
    return list(world.run(_poll, scale, seconds=90))


async def _poll(scale: Scale) -> list[Claim]:
    runs = scale.full_or(POLLING, 1)
    acks = robin.CLIENTS * robin.EVENTS * runs
    claims = []
    places = [("two workers at one port", _workers), ("two nodes that know each other", _nodes)]
    for title, ways in places[:1] if scale.short else places:
        came, errors = 0, list[str]()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with ways() as ports, robin.nginx(folder, ports, "keepalive 8;") as port:
                for number in range(runs):
                    said = await robin.poll(f"http://127.0.0.1:{port}", ("kept", "new")[number % 2])
                    came += said["acks"]
                    errors += said["errors"]
            log = (folder / "access.log").read_text()
        statuses = Counter(line.split()[0] for line in log.splitlines())
        say(f"workers: polling at {title}, {dict(statuses)}")
        refused = len(robin.refused_in(log))
        told = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
        claims.append(
            Claim(
                f"long-polling through round robin to {title}: refused while the client had not closed",
                "<= 0",
                f"{refused} of {sum(statuses.values()):,} requests ({told}); {came:,} of {acks:,} acks",
                refused == 0 and came == acks and not errors,
            )
        )
    return claims


@asynccontextmanager
async def _workers() -> AsyncIterator[list[int]]:
    async with serving_processes() as server:
        yield [server.port]


@asynccontextmanager
async def _nodes() -> AsyncIterator[list[int]]:
    ports = [free_port(), free_port()]
    serve = ["-m", "broker", "serve", "tests.workers.application:broker"]
    async with trio.open_nursery() as nursery:
        for own in (0, 1):
            other = 1 - own
            command = [*serve, "--bind", f"127.0.0.1:{ports[own]}", "--node", str(own)]
            command += ["--peer", f"{other}=127.0.0.1:{ports[other]}"]
            await nursery.start(world.serve, command, ports[own])
        yield ports
        nursery.cancel_scope.cancel()
