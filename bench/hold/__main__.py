"""Measure what docs/reliability.md promises, and write its table: `python -m bench.hold`.

A figure that fails or takes too long is a row that says so, and the others go on. The page is written after
each figure. Exit status: 0 when all that was measured held; 1 when a promise was missed or a figure failed;
2 when nothing could be measured; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bench import processes

from . import aborts, acks, counts, drain, floors, idle, stalled, table
from .figure import Figure, Plan
from .program import Program, end_on_sigterm

DOCUMENT = processes.ROOT / "docs" / "reliability.md"
SHORT_ALLOWANCE = 240.0


FIGURES: dict[str, Figure[Plan]] = {
    one.name: one
    for one in (
        Figure("stalled", "1. stalled clients", stalled.measure, 3, 600),
        Figure("idle", "2. idle connections", idle.measure, 11, 1_200),
        Figure("aborts", "3. aborts", aborts.measure, 10, 2_400),
        Figure("drain", "4. drain", drain.measure, 1, 300),
        Figure("counts", "5. counts", counts.measure, 12, 5_400),
        Figure("floors", "6. floors of speed", floors.measure, 12, 3_700),
        Figure("acks", "7. acks that never come", acks.measure, 2, 900),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    options = parse(arguments)
    end_on_sigterm()
    try:
        plan = _plan(options)
    except processes.MeasureError as error:
        print(f"hold: {error}", file=sys.stderr)
        return 2
    return _program().run(options, plan)


def _program() -> Program[Plan]:
    return Program("hold", DOCUMENT, table.BEGIN, table.END, FIGURES, _takes, _allowance, _options)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = _program().parser(__doc__, "seconds instead of minutes, with loose bounds")
    parser.add_argument("--minutes-idle", type=float, default=10.0, help="how long idle connections are held")
    parser.add_argument("--aborts", type=int, default=10_000, help="connections broken off at each step")
    parser.add_argument("--fuzz-seconds", type=float, default=30.0, help="how long each parser is fed")
    parser.add_argument("--server-cpu", type=int, help="core of the servers")
    parser.add_argument("--load-cpu", type=int, help="core of the load")
    return parser.parse_args(arguments)


def _plan(options: argparse.Namespace) -> Plan:
    if missing := processes.missing_tools():
        raise processes.MeasureError(f"not installed: {', '.join(missing)}")
    processes.build()
    processes.raise_file_limit()
    cores = sorted(os.sched_getaffinity(0))
    return Plan(
        short=options.short,
        minutes_idle=options.minutes_idle,
        aborts=options.aborts,
        fuzz_seconds=options.fuzz_seconds,
        server_cpu=cores[0] if options.server_cpu is None else options.server_cpu,
        load_cpu=cores[-1] if options.load_cpu is None else options.load_cpu,
    )


def _takes(figure: Figure[Plan], plan: Plan) -> str:
    minutes = plan.minutes_idle + 1 if figure.name == "idle" else figure.minutes
    return "seconds" if plan.short else f"{minutes:g} minutes"


def _options(figure: Figure[Plan], plan: Plan) -> list[str]:
    parts = ["--short"] if plan.short else []
    if figure.name == "idle" and plan.minutes_idle != 10.0:
        parts += ["--minutes-idle", f"{plan.minutes_idle:g}"]
    if figure.name == "aborts" and plan.aborts != 10_000:
        parts += ["--aborts", str(plan.aborts)]
    if figure.name == "counts" and plan.fuzz_seconds != 30.0:
        parts += ["--fuzz-seconds", f"{plan.fuzz_seconds:g}"]
    return parts


def _allowance(figure: Figure[Plan], plan: Plan) -> float:
    if figure.name == "idle" and not plan.short:
        return plan.minutes_idle * 60 + 600
    return SHORT_ALLOWANCE if plan.short else figure.allowance


if __name__ == "__main__":
    sys.exit(main())
