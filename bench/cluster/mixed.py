"""Figure 1: two servers on Node and two brokers, every operation from every node to every node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from bench.hold.figure import Claim, say
from tests.cluster import test_mixed as checks

from . import world
from .world import Scale

FLOOR = 100  # operations in each mode, or something was left out


def measure(scale: Scale) -> list[Claim]:
    """Run the checks of the tests in each mode, and count what they do."""
    claims = []
    for mode in checks.MODES[:1] if scale.short else checks.MODES:
        done: Counter[str] = Counter()
        if wrong := _wrong(mode, done):
            claims.append(Claim(f"{mode}: all operations", "all right", f"wrong: {wrong}", met=False))
            continue
        verbs = len([verb for verb in done if verb != "client"])
        operations = sum(count for verb, count in done.items() if verb != "client")
        say(f"mixed: {mode}, {operations} operations")
        claims.append(
            Claim(
                f"{mode}: operations of {verbs} kinds by four nodes, observed at all official clients",
                "all right",
                f"{operations} operations, {done['client']} observations, 0 wrong",
                operations >= FLOOR,
            )
        )
    return claims


def _wrong(mode: str, done: Counter[str]) -> str:
    """Run the checks; return what was wrong, or nothing."""
    wrong: list[str] = []
    try:
        world.run(_play, mode, done, seconds=60)
    except* AssertionError as group:
        wrong.append(" ".join(str(group.exceptions[0]).split())[:150] or "an answer")
    return "; ".join(wrong)


async def _play(mode: str, done: Counter[str]) -> None:
    async with checks.mixed_cluster(mode) as cluster:
        for member in cluster.members:
            member.do = _counted(member.do, done)
        names = list(cluster.ids)
        for member in cluster.members:
            await checks.check_emits(cluster, member, names)
            await checks.check_rooms(cluster, member, names)
            await checks.check_questions(cluster, member, names)
        await checks.check_disconnects(cluster, names)
        done["client"] = cluster.clients._number


def _counted(do: Callable[..., Awaitable[Any]], done: Counter[str]) -> Callable[..., Awaitable[Any]]:
    async def counted(verb: str, *args: Any) -> Any:
        done[verb] += 1
        return await do(verb, *args)

    return counted
