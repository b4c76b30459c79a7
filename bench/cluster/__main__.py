"""Measure what docs/scaling.md promises, and write its table: `python -m bench.cluster`.

Runs a real redis-server and real Socket.IO servers on Node. A figure that fails or takes too long is a row
that says so, and the others go on. The page is written after each figure. Exit status: 0 when all that was
measured held; 1 when a promise was missed or a figure failed; 2 when nothing could be measured; 130 when
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import processes
from bench.hold.figure import Figure
from bench.hold.program import Program, end_on_sigterm

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
    end_on_sigterm()
    if missing := [*processes.missing_tools(), *missing_packages()]:
        print(f"cluster: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    processes.raise_file_limit()
    return _program().run(options, Scale(short=options.short))


def _program() -> Program[Scale]:
    return Program("cluster", DOCUMENT, BEGIN, END, FIGURES, _takes, _allowance, _options)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    return _program().parser(__doc__, "seconds instead of minutes, few clients").parse_args(arguments)


def _takes(figure: Figure[Scale], scale: Scale) -> str:
    return "20 seconds" if scale.short else f"{figure.minutes:g} minutes"


def _options(figure: Figure[Scale], scale: Scale) -> list[str]:
    return ["--short"] if scale.short else []


def _allowance(figure: Figure[Scale], scale: Scale) -> float:
    return SHORT_ALLOWANCE if scale.short else figure.allowance


if __name__ == "__main__":
    sys.exit(main())
