"""What every program of figures does: read which, measure each within its time, print, write the page."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from bench import machine, report

from . import attempt, table
from .figure import Amount, Claim, Figure, say


@dataclass(frozen=True)
class Program(Generic[Amount]):
    """A program of figures.

    Attributes:
        name: As in `python -m bench.NAME`.
        document: The page with its table.
        begin: The line before the table.
        end: The line after it.
        figures: What it measures, by name.
        takes: Tells a person how long a figure takes.
        allowance: Seconds that a figure may take.
        options: What the command of a figure has besides its name.
    """

    name: str
    document: Path
    begin: str
    end: str
    figures: Mapping[str, Figure[Amount]]
    takes: Callable[[Figure[Amount], Amount], str]
    allowance: Callable[[Figure[Amount], Amount], float]
    options: Callable[[Figure[Amount], Amount], list[str]]

    def parser(self, description: str | None, short: str) -> argparse.ArgumentParser:
        """Return a parser of the options that all programs have; `short` says what `--short` does."""
        parser = argparse.ArgumentParser(prog=f"python -m bench.{self.name}", description=description)
        parser.add_argument(
            "--figures",
            type=self._choose,
            default=list(self.figures.values()),
            help=f"of {' '.join(self.figures)}; default all",
        )
        parser.add_argument("--short", action="store_true", help=short)
        parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
        page = self.document.relative_to(self.document.parents[1])
        parser.add_argument("--write-docs", action="store_true", help=f"write the table of {page}")
        return parser

    def _choose(self, text: str) -> list[Figure[Amount]]:
        names = text.replace(",", " ").split()
        unknown = [name for name in names if name not in self.figures]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no such figure: {', '.join(unknown)}; there are {' '.join(self.figures)}"
            )
        return [figure for name, figure in self.figures.items() if name in names]

    def command(self, figure: Figure[Amount], plan: Amount) -> str:
        """Return what measures one figure as this run did."""
        what = ["--figures", figure.name, *self.options(figure, plan)]
        return shlex.join(["python", "-m", f"bench.{self.name}", *what])

    def run(self, options: argparse.Namespace, plan: Amount) -> int:
        """Measure, print and write what was asked for; return the exit status."""
        facts = machine.describe()
        measured: dict[str, report.Table] = {}
        claims: dict[str, list[Claim]] = {}
        interrupted = False
        for figure in options.figures:
            say(f"{figure.title}: about {self.takes(figure, plan)}")
            where = attempt.machine_cell(facts)
            try:
                claims[figure.name] = attempt.measure(figure, plan, self.allowance(figure, plan))
            except KeyboardInterrupt:
                interrupted = True
                break
            rows = table.rows_of(figure.title, claims[figure.name], self.command(figure, plan), where)
            measured[figure.title] = rows
            print(table.as_text(rows), flush=True)
            if options.write_docs:
                titles = [one.title for one in self.figures.values()]
                table.write(self.document, measured, titles, self.begin, self.end)
        if options.json:
            found = {name: [vars(claim) for claim in some] for name, some in claims.items()}
            options.json.write_text(json.dumps({"facts": facts, "figures": found}, indent=2) + "\n")
        if interrupted:
            return 130
        missed = [claim for some in claims.values() for claim in some if claim.met is False]
        say(f"{len(missed)} missed" if missed else "all held")
        return 1 if missed else 0


def end_on_sigterm() -> None:
    """Let SIGTERM end the program as Ctrl-C does."""
    signal.signal(signal.SIGTERM, attempt.interrupt)
