"""Figure 2: idle connections that nobody loses, what each weighs and what they cost."""

from __future__ import annotations

import contextlib
import math
import time

from bench.processes import MeasureError, raise_file_limit, running_generator

from .figure import Claim, Plan, say
from .service import running_service

SPARE_FILES = 300
KIB_EACH = 12.0
PROGRESS = 30.0


def measure(plan: Plan) -> list[Claim]:
    """Open them, read the memory, hold them, and count who is left.

    One server and one generator hold as many as the limit of open files lets them; so there may be several.
    """
    wanted = plan.full_or(20_000, 200)
    seconds = 2.0 if plan.short else plan.minutes_idle * 60
    pairs = math.ceil(wanted / max(1, raise_file_limit() - SPARE_FILES))
    each = math.ceil(wanted / pairs)
    with contextlib.ExitStack() as stack:
        services = [
            stack.enter_context(running_service(plan.server_cpu, transports=["websocket"]))
            for _ in range(pairs)
        ]
        before = [service.ask("figures") for service in services]
        # Longer than it takes until all are ready and the time is over; it is told to end then.
        hold = str(int(seconds) + each // 50 + 60)
        generators = [
            stack.enter_context(
                running_generator(["-m", "idle", "-c", str(each), "-t", hold], one.port, plan.load_cpu)
            )
            for one in services
        ]
        ready = sum(one.next_line(60 + each / 50)["ready"] for one in generators)
        say(f"idle: {ready:,} of {each * pairs:,} connections on {pairs} servers")
        if ready < each * pairs:
            raise MeasureError(f"only {ready} of {each * pairs} connections were opened")
        began = [one.ask("figures") for one in services]
        _hold(seconds)
        ended = [one.ask("figures") for one in services]
    held = sum(one["sockets"] for one in ended)
    grown = sum(now["rss_kib"] - then["rss_kib"] for now, then in zip(began, before, strict=True))
    cpu = sum(now["cpu_s"] - then["cpu_s"] for now, then in zip(ended, began, strict=True))
    creep = sum(now["rss_kib"] - then["rss_kib"] for now, then in zip(ended, began, strict=True))
    return [
        Claim.at_most(f"lost of {each * pairs:,} connections in {seconds / 60:g} minutes", ready - held, 0),
        Claim.at_most("resident memory of each", grown / ready, KIB_EACH if not plan.short else 64.0, " KiB"),
        Claim.told("growth while they were held", f"{creep:,} KiB"),
        Claim.told("share of one core for all of them", f"{cpu / seconds:.1%} over {pairs} server processes"),
    ]


def _hold(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, PROGRESS))
        say(f"idle: {max(0.0, until - time.monotonic()) / 60:.1f} minutes to go")
