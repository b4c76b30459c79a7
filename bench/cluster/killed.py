"""Figure 2: one of two nodes is killed, and its clients come back to the other one."""

from __future__ import annotations

import contextlib
from typing import Any

import trio

from bench.hold.figure import Claim, say
from bench.hold.service import Service
from bench.processes import MeasureError
from tests.cluster.nodes import redis_server

from . import world
from .follower import Follower, missed_and_doubled
from .world import Scale

RATE = 5.0  # numbers per second, to each client
OPENED_AT_ONCE = 50
BACK_SOON, BACK_ALL = 8.0, 20.0


def measure(scale: Scale) -> list[Claim]:
    """Connect, publish, kill, wait until all are back, and compare what they heard."""
    return list(world.run(_play, scale, seconds=120 if not scale.short else 60))


async def _play(scale: Scale) -> list[Claim]:
    clients, official = scale.full_or(1_000, 40), scale.full_or(50, 3)
    async with redis_server() as redis:
        with contextlib.ExitStack() as stack:
            killed, stays = (
                stack.enter_context(world.node(redis.url, "streams", recovery=True)) for _ in range(2)
            )
            urls = [f"http://127.0.0.1:{one.port}" for one in (killed, stays)]
            stock = stack.enter_context(world.on_node("bench/cluster/followers.cjs", str(official), *urls))
            homes = [[killed.port, stays.port], [stays.port, killed.port]]
            fleet = [Follower(homes[number % 2], number) for number in range(clients - official)]
            async with trio.open_nursery() as nursery:
                opening = trio.Semaphore(OPENED_AT_ONCE)
                for one in fleet:
                    nursery.start_soon(one.live, opening)
                await world.until(lambda: all(one.connects for one in fleet), 40, "not all are connected")
                say(f"kill -9: {clients:,} clients are connected, {official} of them official ones")
                claims = await _kill(scale, fleet, killed, stays, stock, official)
                nursery.cancel_scope.cancel()
    return claims


async def _kill(
    scale: Scale,
    fleet: list[Follower],
    killed: Service,
    stays: Service,
    stock: Service,
    official: int,
) -> list[Claim]:
    settle = scale.full_or(3, 1)
    stays.ask("publish", rate=RATE)
    await trio.sleep(settle)
    mine = [one for one in fleet if one.ports[0] == killed.port]
    moment = trio.current_time()
    killed.process.kill()
    await world.until(lambda: all(one.losses for one in mine), 10, "the clients did not notice")
    with contextlib.suppress(MeasureError):
        await world.until(lambda: all(len(one.connects) > 1 for one in mine), BACK_ALL + 10, "")
    say("kill -9: the clients are back")
    await trio.sleep(settle)
    stays.ask("stop")
    await trio.sleep(1.0)
    last = int(stays.ask("state")["published"])
    told = await trio.to_thread.run_sync(lambda: stock.ask("report", last=last))
    return _claims(fleet, mine, moment, last, told, official)


def _claims(
    fleet: list[Follower],
    mine: list[Follower],
    moment: float,
    last: int,
    stock: dict[str, Any],
    official: int,
) -> list[Claim]:
    backs = sorted(one.connects[1] - moment for one in mine if len(one.connects) > 1)
    share = [100 * sum(back <= bound for back in backs) / len(mine) for bound in (BACK_SOON, BACK_ALL)]
    heard = sum(len(one.heard) for one in fleet)
    amounts = [missed_and_doubled(one.heard, last) for one in fleet]
    recovered = sum(one.recovered for one in mine)
    others = sum(len(one.losses) for one in fleet) - sum(len(one.losses) for one in mine)
    return [
        Claim.told(
            "clients, those of the killed node, numbers published, deliveries",
            f"{len(fleet) + official:,}; {len(mine) + official:,}; {last:,}; {heard:,} without official ones",
        ),
        Claim.at_least(f"back within {BACK_SOON:g} s", share[0], 95, " %"),
        Claim.at_least(f"back within {BACK_ALL:g} s", share[1], 100, " %"),
        Claim.told("half of them were back after", f"{backs[len(backs) // 2]:.1f} s" if backs else "never"),
        Claim.at_least("sessions that were recovered", recovered, len(mine)),
        Claim.at_most("numbers that a client missed", sum(missed for missed, _ in amounts), 0),
        Claim.at_most("numbers that came twice", sum(doubled for _, doubled in amounts), 0),
        Claim.at_most("clients of the other node that lost their connection", others, 0),
        Claim.at_least(f"official clients back, of {official}", stock["back"], official),
        Claim.at_least("official clients that were recovered", stock["recovered"], official),
        Claim.at_most("numbers that an official client missed, or that came twice", _both(stock), 0),
    ]


def _both(stock: dict[str, Any]) -> int:
    return int(stock["missed"] + stock["doubled"])
