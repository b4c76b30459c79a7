"""Measure what docs/reliability.md promises, and write its table: `python -m bench.hold`.

A figure that fails or takes too long is a row that says so, and the others go on. The page is written after
each figure. Exit status: 0 when all that was measured held; 1 when a promise was missed or a figure failed;
2 when nothing could be measured; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import machine, processes, report

from . import aborts, acks, attempt, counts, drain, floors, idle, stalled, table
from .figure import Claim, Figure, Plan, say

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
    signal.signal(signal.SIGTERM, attempt.interrupt)
    try:
        plan = _plan(options)
    except processes.MeasureError as error:
        print(f"hold: {error}", file=sys.stderr)
        return 2
    facts = machine.describe()
    where = attempt.machine_cell(facts)
    titles = [figure.title for figure in FIGURES.values()]
    measured: dict[str, report.Table] = {}
    claims: dict[str, list[Claim]] = {}
    interrupted = False
    for figure in options.figures:
        say(f"{figure.title}: about {'seconds' if plan.short else f'{_minutes(figure, plan):g} minutes'}")
        try:
            claims[figure.name] = attempt.measure(figure, plan, _allowance(figure, plan))
        except KeyboardInterrupt:
            interrupted = True
            break
        rows = table.rows_of(figure.title, claims[figure.name], _command(figure, options), where)
        measured[figure.title] = rows
        print(table.as_text(rows), flush=True)
        if options.write_docs:
            table.write(DOCUMENT, measured, titles)
    if options.json:
        found = {name: [vars(claim) for claim in some] for name, some in claims.items()}
        options.json.write_text(json.dumps({"facts": facts, "figures": found}, indent=2) + "\n")
    if interrupted:
        return 130
    missed = [claim for some in claims.values() for claim in some if claim.met is False]
    say(f"{len(missed)} missed" if missed else "all held")
    return 1 if missed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.hold", description=__doc__)
    parser.add_argument(
        "--figures",
        type=_figures,
        default=list(FIGURES.values()),
        help=f"of {' '.join(FIGURES)}; default all",
    )
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes, with loose bounds")
    parser.add_argument("--minutes-idle", type=float, default=10.0, help="how long idle connections are held")
    parser.add_argument("--aborts", type=int, default=10_000, help="connections broken off at each step")
    parser.add_argument("--fuzz-seconds", type=float, default=30.0, help="how long each parser is fed")
    parser.add_argument("--server-cpu", type=int, help="core of the servers")
    parser.add_argument("--load-cpu", type=int, help="core of the load")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--write-docs", action="store_true", help="write the table of docs/reliability.md")
    return parser.parse_args(arguments)


def _figures(text: str) -> list[Figure[Plan]]:
    names = text.replace(",", " ").split()
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no such figure: {', '.join(unknown)}; there are {' '.join(FIGURES)}"
        )
    return [FIGURES[name] for name in FIGURES if name in names]


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


def _minutes(figure: Figure[Plan], plan: Plan) -> float:
    return plan.minutes_idle + 1 if figure.name == "idle" else figure.minutes


def _command(figure: Figure[Plan], options: argparse.Namespace) -> str:
    parts = ["python", "-m", "bench.hold", "--figures", figure.name]
    if options.short:
        parts.append("--short")
    if figure.name == "idle" and options.minutes_idle != 10.0:
        parts += ["--minutes-idle", f"{options.minutes_idle:g}"]
    if figure.name == "aborts" and options.aborts != 10_000:
        parts += ["--aborts", str(options.aborts)]
    if figure.name == "counts" and options.fuzz_seconds != 30.0:
        parts += ["--fuzz-seconds", f"{options.fuzz_seconds:g}"]
    return shlex.join(parts)


def _allowance(figure: Figure[Plan], plan: Plan) -> float:
    if figure.name == "idle" and not plan.short:
        return plan.minutes_idle * 60 + 600
    return SHORT_ALLOWANCE if plan.short else figure.allowance


if __name__ == "__main__":
    sys.exit(main())
