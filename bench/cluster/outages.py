"""Figure 3: Redis is stopped, hung, restarted empty and cut off many times, while numbers are published."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import trio

from bench.hold.figure import Claim, say, shown
from bench.hold.service import Service
from tests.cluster.nodes import RedisServer, redis_server

from . import world
from .follower import Follower
from .world import Scale

MODES = ("classic", "sharded", "streams")
RATE = 50.0  # numbers per second, in each mode
READY_AGAIN = 15.0
NOTICED = 8.0
SLACK = 0.1  # seconds: the clocks of two processes are read one after the other


@dataclass
class Pair:
    """Two nodes in one mode: one publishes, the clients are at the other one.

    Attributes:
        away: Seconds until each node said that it is not ready, by outage.
        back: Seconds until it said that it is ready again.
    """

    mode: str
    publisher: Service
    receiver: Service
    followers: list[Follower]
    away: dict[str, list[float]] = field(default_factory=dict)
    back: dict[str, list[float]] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[Service, Service]:
        """Both."""
        return self.publisher, self.receiver


def measure(scale: Scale) -> list[Claim]:
    """Do all of it to three pairs of nodes at once, one for each mode."""
    return list(world.run(_play, scale, seconds=290 if not scale.short else 60))


async def _play(scale: Scale) -> list[Claim]:
    clients = scale.full_or(20, 3)
    options = {"ping_interval": 0.3, "ping_timeout": 0.7} if scale.short else {}
    async with redis_server() as redis:
        with contextlib.ExitStack() as stack:
            pairs = []
            for mode in MODES[::2] if scale.short else MODES:
                nodes = [
                    stack.enter_context(world.node(redis.url, mode, f"{mode}.", **options)) for _ in range(2)
                ]
                followers = [Follower([nodes[1].port], number) for number in range(clients)]
                pairs.append(Pair(mode, nodes[0], nodes[1], followers))
            async with trio.open_nursery() as nursery:
                opening = trio.Semaphore(10)
                everyone = [one for pair in pairs for one in pair.followers]
                for one in everyone:
                    nursery.start_soon(one.live, opening)
                await world.until(lambda: all(one.connects for one in everyone), 20, "not all are connected")
                claims = await _all_outages(scale, redis, pairs)
                nursery.cancel_scope.cancel()
    return claims


async def _all_outages(scale: Scale, redis: RedisServer, pairs: list[Pair]) -> list[Claim]:
    before = await _connections(redis)
    for pair in pairs:
        pair.publisher.ask("publish", rate=RATE)
    await trio.sleep(1)
    seconds, many = scale.full_or(30, 2), scale.full_or(100, 3)

    async def stop() -> None:
        await redis.stop()

    async def start() -> None:  # without what it held: it keeps nothing on disk
        await redis.start()

    async def hang() -> None:
        redis.hang()

    async def wake() -> None:
        redis.wake()

    await _outage("stopped", pairs, seconds, stop, start)
    await _outage("hung", pairs, seconds, hang, wake)
    await redis.stop()
    await redis.start()
    await _until_connected(redis, before)
    await _until_all(pairs, True)
    say("outages: Redis was restarted empty")
    connected = [await _connections(redis)]
    for number in range(many):
        cut_off = await _connection_ids(redis)
        await redis.ask("CLIENT", "KILL", "SKIPME", "yes")
        await _until_connected(redis, before, besides=cut_off)
        await _until_all(pairs, True)
        if number % 20 == 19 or number == many - 1:
            connected.append(await _connections(redis))
    say(f"outages: all connections were cut {many} times")
    books = [pair.publisher.ask("stop") for pair in pairs]
    await trio.sleep(2)  # what is still on its way
    claims = [_times("stopped", seconds, pairs), _times("hung", seconds, pairs)]
    for pair, book in zip(pairs, books, strict=True):
        claims += _ledger(pair, book)
    flat = [shown(count) for count in connected]
    same = all(count == before for count in connected)
    claims.append(
        Claim("connections to Redis, before and after", f"{before} each time", ", ".join(flat), same)
    )
    return claims


async def _outage(
    name: str,
    pairs: list[Pair],
    seconds: float,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
) -> None:
    began = trio.current_time()
    await begin()
    await _times_into(name, pairs, "away", ready=False)
    await trio.sleep(max(0.0, seconds - (trio.current_time() - began)))
    await end()
    await _times_into(name, pairs, "back", ready=True)
    say(f"outages: Redis was {name} for {seconds:g} s")
    await trio.sleep(0.5)


async def _times_into(name: str, pairs: list[Pair], where: str, *, ready: bool) -> None:
    async def one(pair: Pair, node: Service) -> None:
        took = await world.until_ready(node.port, ready, READY_AGAIN)
        getattr(pair, where).setdefault(name, []).append(took)

    async with trio.open_nursery() as nursery:
        for pair in pairs:
            for node in pair.nodes:
                nursery.start_soon(one, pair, node)


async def _until_connected(redis: RedisServer, count: int, besides: Collection[str] = ()) -> None:
    """Wait until there are so many connections besides those, or it has taken too long."""
    with trio.move_on_after(READY_AGAIN):
        while len((await _connection_ids(redis)).difference(besides)) < count:  # noqa: ASYNC110 - not ours
            await trio.sleep(0.02)


async def _until_all(pairs: list[Pair], ready: bool) -> None:
    """Wait until all nodes say so."""
    for pair in pairs:
        for node in pair.nodes:
            await world.until_ready(node.port, ready, READY_AGAIN)


async def _connections(redis: RedisServer) -> int:
    return len(await _connection_ids(redis))


async def _connection_ids(redis: RedisServer) -> set[str]:
    """Return the ids of the nodes' connections, which Redis never gives twice."""
    return {
        line.split()[0] for line in (await redis.ask("CLIENT", "LIST")).splitlines() if "name=broker-" in line
    }


def _times(name: str, seconds: float, pairs: list[Pair]) -> Claim:
    away = max(max(pair.away[name]) for pair in pairs)
    back = max(max(pair.back[name]) for pair in pairs)
    nodes = 2 * len(pairs)
    return Claim(
        f"Redis {name} for {seconds:g} s: not ready after, ready again after, the slowest of {nodes} nodes",
        f"<= {NOTICED:g} s, <= {READY_AGAIN:g} s",
        f"{away:.2f} s, {back:.2f} s",
        away <= NOTICED and back <= READY_AGAIN,
    )


def _ledger(pair: Pair, books: dict[str, Any]) -> list[Claim]:
    """Compare what one node published with what the clients of the other one heard."""
    sender, taker = (node.ask("state") for node in pair.nodes)
    published: list[float] = books["published"]
    refused = set(books["unpublished"])
    windows = [gap for gap in sender["gaps"] if gap["unconfirmed"] or gap["lost"]]
    windows += [gap for gap in taker["gaps"] if not gap["replayed"]]
    delivered = reported = silent = twice = 0
    for one in pair.followers:
        seen = set(one.heard)
        twice += len(one.heard) - len(seen)
        delivered += len(seen)
        for number, moment in enumerate(published, 1):
            if number in seen:
                continue
            told = number in refused or any(_within(moment, gap) for gap in windows)
            reported += told
            silent += not told
    total = len(published) * len(pair.followers)
    losses = sum(len(one.losses) for one in pair.followers)
    gaps = len(taker["gaps"]) + len(sender["gaps"])
    return [
        Claim(
            f"{pair.mode}: published = delivered + reported, for each of {len(pair.followers)} clients",
            "neither missing without a word nor twice",
            f"{total:,} = {delivered:,} + {reported:,}; missing {silent}, twice {twice}; {gaps} gaps told",
            silent == 0 and twice == 0 and delivered + reported == total,
        ),
        Claim.at_most(f"{pair.mode}: clients that lost their connection", losses, 0),
    ]


def _within(moment: float, gap: dict[str, Any]) -> bool:
    return bool(gap["begin"] - SLACK <= moment <= gap["end"] + SLACK)
