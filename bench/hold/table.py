"""The table of a page, between markers: a run replaces the rows of the figures that it has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import report

from .figure import Claim

BEGIN = "<!-- measured by `make hold`: -->"
END = "<!-- end of what `make hold` measured -->"
HEAD = ["figure", "what must hold", "bound", "measured", "", "command", "machine"]
WORDS = {True: "met", False: "MISSED", None: ""}


def rows_of(title: str, claims: Sequence[Claim], command: str, machine: str) -> report.Table:
    """Return the rows of one figure."""
    return [
        [title, claim.what, claim.bound, claim.measured, WORDS[claim.met], f"`{command}`", machine]
        for claim in claims
    ]


def read(page: str, begin: str = BEGIN, end: str = END) -> report.Table:
    """Return the rows that stand in a page between the markers, without the head.

    Raises:
        ValueError: if the markers are not there.
    """
    lines = page[page.index(begin) : page.index(end)].splitlines()
    rows = [_cells(line) for line in lines if line.startswith("| ")]
    return [row for row in rows if len(row) == len(HEAD) and row[0] not in (HEAD[0], "---")]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split(" | ")]


def merged(old: report.Table, new: Mapping[str, report.Table], order: Sequence[str]) -> report.Table:
    """Return the rows by figure in this order, new ones in place of old ones."""
    rows: report.Table = []
    for title in order:
        rows += new[title] if title in new else [row for row in old if row[0] == title]
    return rows


def write(
    path: Path, new: Mapping[str, report.Table], order: Sequence[str], begin: str = BEGIN, end: str = END
) -> None:
    """Put what was measured into the page; all else of it stays."""
    page = path.read_text(encoding="utf-8")
    rows = merged(read(page, begin, end), new, order)
    before, after = page[: page.index(begin)], page[page.index(end) :]
    path.write_text(f"{before}{begin}\n\n{report.as_markdown([HEAD, *rows])}\n\n{after}", encoding="utf-8")


def as_text(rows: report.Table) -> str:
    """Return the rows for a terminal, without commands and machine."""
    return report.as_text([[row[0][:24], *row[1:5]] for row in [HEAD, *rows]])
