"""Figure 1: half of the clients read nothing, and the other half must not notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.processes import MeasureError, running_generator

from .figure import Claim, Plan, say
from .service import Service, running_service

SIZE = 1024
OUT_WITHIN = 15.0
MEMORY_KIB = 64 * 1024  # what the messages that wait may add: they are shared, not copied
SHORT_FLOOR_MS = 500.0  # on a busy machine only more than this tells anything
FULL_FLOOR_MS = 25.0


@dataclass(frozen=True)
class Run:
    """What one run came to."""

    published: dict[str, Any]
    heard: dict[str, Any]


def measure(plan: Plan) -> list[Claim]:
    """Run with healthy clients alone, then with as many stalled ones beside them."""
    healthy = plan.full_or(1_000, 30)
    rooms = plan.full_or(20, 3)
    rate = plan.full_or(1_000, 300)
    seconds = plan.full_or(60, 2)
    limits: dict[str, Any] = {"write_timeout": 1.0, "close_timeout": 0.5} if plan.short else {}
    alone = _run(plan, healthy, 0, rooms, rate, seconds, limits)
    say(f"stalled: {healthy} healthy clients alone: {alone.heard}")
    beside = _run(plan, healthy, healthy, rooms, rate, seconds, limits)
    say(f"stalled: beside {healthy} stalled ones: {beside.heard}")
    say(f"stalled: lateness by second, in ms: {beside.published['behind_ms']}")
    say(f"stalled: processor {alone.published['cpu_share']:.0%}, then {beside.published['cpu_share']:.0%}")
    return _claims(plan, healthy, alone, beside)


def _run(
    plan: Plan, healthy: int, stalled: int, rooms: int, rate: int, seconds: int, limits: dict[str, Any]
) -> Run:
    # The room of a client follows from when it joined, and the stalled ones join last.
    with running_service(plan.server_cpu, rooms=rooms, transports=["websocket"], limits=limits) as service:
        follow = [
            "-m",
            "follow",
            "-c",
            str(healthy + stalled),
            "-S",
            str(stalled),
            "-t",
            str(3 * seconds + 60),
        ]
        with running_generator(follow, service.port, plan.load_cpu) as generator:
            ready = generator.next_line(60)
            if ready["ready"] != healthy + stalled:
                raise MeasureError(f"only {ready['ready']} of {healthy + stalled} clients are ready")
            published = _publish(service, rate, seconds)
            heard = generator.next_line(3 * seconds + 90)
    return Run(published, heard)


def _publish(service: Service, rate: int, seconds: int) -> dict[str, Any]:
    return service.ask("publish", timeout=3.0 * seconds + 60, rate=rate, size=SIZE, seconds=seconds)


def _claims(plan: Plan, count: int, alone: Run, beside: Run) -> list[Claim]:
    rooms = len(beside.published["numbers"])
    # Each message is due to the healthy members of its room.
    due = sum(
        number * (count // rooms + (index < count % rooms))
        for index, number in enumerate(beside.published["numbers"])
    )
    outs = beside.published["outs"]
    share = beside.heard["received"] / max(1, alone.heard["received"])
    floor_ms = SHORT_FLOOR_MS if plan.short else FULL_FLOOR_MS
    quiet, loud = alone.heard["p99_us"] / 1000, beside.heard["p99_us"] / 1000
    budget = count * 1_048_576
    reasons = beside.published["disconnects"].get("slow consumer", 0)
    return [
        Claim(
            "stalled clients out with the reason `slow consumer`",
            f"{count:,}",
            f"{reasons:,}",
            reasons == count,
        ),
        Claim.at_most(
            "the last one out, seconds after the load began", max(outs, default=0.0), OUT_WITHIN, " s"
        ),
        Claim.at_most(
            "messages that healthy clients lost, or got twice or out of order",
            due - beside.heard["received"] + beside.heard["gaps"] + beside.heard["lost"],
            0,
        ),
        Claim.at_least("their throughput, of the run without stalled ones", share, 0.9, "x"),
        Claim.at_most(
            f"their p99 beside stalled ones; without: {quiet:.1f} ms", loud, max(2 * quiet, floor_ms), " ms"
        ),
        Claim.at_most("most bytes in all outboxes", beside.published["queued_peak"], budget),
        Claim.at_most(
            "growth of the resident memory", beside.published["rss_growth_kib"], MEMORY_KIB, " KiB"
        ),
        Claim.told(
            "share of the time that the server waited for its core", f"{beside.published['waited_share']:.0%}"
        ),
        Claim.told("the publisher's greatest lateness", f"{max(beside.published['behind_ms'])} ms"),
    ]
