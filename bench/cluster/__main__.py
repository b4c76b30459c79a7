"""Measure what docs/scaling.md promises, and write its table: `python -m bench.cluster`.

Runs a real redis-server and real Socket.IO servers on Node. A figure that fails or takes too long is a row
that says so, and the others go on. The page is written after each figure. Exit status: 0 when all that was
measured held; 1 when a promise was missed or a figure failed; 2 when nothing could be measured; 130 when
interrupted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import machine, processes, report
from bench.hold import attempt, table
from bench.hold.figure import Claim, Figure, say

from . import killed, mixed, outages, shared_port, throughput
from .world import Scale, missing_packages

DOCUMENT = processes.ROOT / "docs" / "scaling.md"
BEGIN = "<!-- measured by `make cluster`: -->"
END = "<!-- end of what `make cluster` measured -->"
SHORT_ALLOWANCE = 90.0

FIGURES: dict[str, Figure[Scale]] = {
    one.name: one
    for one in (
        Figure("mixed", "1. mixed with Node", mixed.measure, 0.3, 200),
        Figure("killed", "2. a node is killed", killed.measure, 0.7, 130),
        Figure("outages", "3. Redis fails", outages.measure, 2.5, 300),
        Figure("throughput", "4. across two nodes", throughput.measure, 2.5, 240),
        Figure("workers", "5. two workers", shared_port.measure, 2, 240),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, attempt.interrupt)
    if missing := [*processes.missing_tools(), *missing_packages()]:
        print(f"cluster: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    processes.raise_file_limit()
    facts = machine.describe()
    scale = Scale(short=options.short)
    measured: dict[str, report.Table] = {}
    claims: dict[str, list[Claim]] = {}
    interrupted = False
    for figure in options.figures:
        say(f"{figure.title}: about {'20 seconds' if scale.short else f'{figure.minutes:g} minutes'}")
        where = attempt.machine_cell(facts)
        try:
            allowance = SHORT_ALLOWANCE if scale.short else figure.allowance
            claims[figure.name] = attempt.measure(figure, scale, allowance)
        except KeyboardInterrupt:
            interrupted = True
            break
        rows = table.rows_of(figure.title, claims[figure.name], _command(figure, scale), where)
        measured[figure.title] = rows
        print(table.as_text(rows), flush=True)
        if options.write_docs:
            table.write(DOCUMENT, measured, [one.title for one in FIGURES.values()], BEGIN, END)
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
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    names = " ".join(FIGURES)
    parser.add_argument(
        "--figures", type=_figures, default=list(FIGURES.values()), help=f"of {names}; default all"
    )
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes, few clients")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--write-docs", action="store_true", help="write the table of docs/scaling.md")
    return parser.parse_args(arguments)


def _figures(text: str) -> list[Figure[Scale]]:
    names = text.replace(",", " ").split()
    if unknown := [name for name in names if name not in FIGURES]:
        raise argparse.ArgumentTypeError(
            f"no such figure: {', '.join(unknown)}; there are {' '.join(FIGURES)}"
        )
    return [FIGURES[name] for name in FIGURES if name in names]


def _command(figure: Figure[Scale], scale: Scale) -> str:
    short = ["--short"] if scale.short else []
    return shlex.join(["python", "-m", "bench.cluster", "--figures", figure.name, *short])


if __name__ == "__main__":
    sys.exit(main())
