"""Lays a whole run out: as text for the terminal, as JSON, as docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench import report
from bench.report import Cells, Sample, Verdict

LEGEND = (
    "One server process on one core, the load generator on another, 64-byte payloads, WebSocket "
    "without compression. Acks (echo) or deliveries (fan-out) per second, and KiB of resident "
    "memory per idle connection at 8,000 connections; medians of the rounds, ratios of the "
    "medians. The limit is a C program that does one send per delivery and nothing else."
)
FLAT_LEGEND = (
    "One publisher keeps two publications in flight; the cost is one second divided by the "
    "deliveries in it. A server with no work but the system calls is not flat either: in small "
    "rooms the publication itself weighs more, in large ones the kernel walks more memory. "
    "'Each further member' leaves out what a publication costs once: it is the cost of the "
    "deliveries by which a room has more than the next smaller one."
)


def as_text(cells: Cells, verdicts: Sequence[Verdict]) -> str:
    """Return the tables for a terminal."""
    parts = [report.as_text(table) for table in _tables(cells) if table]
    own = report.own_cost_spread(cells)
    if own is not None:
        parts[-1] += f"\nours over the limit's, dearest / cheapest: {own:.2f}"
    parts.append(report.as_text(report.floors_table(verdicts)))
    failures = report.failures_of(cells)
    if failures:
        parts.append("\n".join(["failed:", *failures]))
    parts += [sentence] if (sentence := report.disturbance(cells)) else []
    return "\n\n".join(parts)


def as_json(
    facts: Mapping[str, str],
    samples: Sequence[Sample],
    cells: Cells,
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """Return everything a run found out, as JSON takes it."""
    return {
        "facts": dict(facts),
        "samples": [sample.as_dict() for sample in samples],
        "medians": {f"{server}/{name}": cell.median for (server, name), cell in cells.items()},
        "floors": [vars(verdict) for verdict in verdicts],
    }


def as_markdown(facts: Mapping[str, str], cells: Cells, verdicts: Sequence[Verdict]) -> str:
    """Return the page docs/benchmarks.md."""
    main, flat = _tables(cells)
    parts = [
        "# Benchmarks",
        f"Written by `{facts['command']}`; how it measures is in "
        "[bench/README.md](../bench/README.md). Ratios carry over to other machines better than "
        "figures do.",
        "## Floors",
        report.as_markdown(report.floors_table(verdicts)),
    ]
    if main:
        parts += ["## Side by side", LEGEND, report.as_markdown(main)]
    if flat:
        parts += ["## Cost of one delivery by room size", FLAT_LEGEND, report.as_markdown(flat)]
    own = report.own_cost_spread(cells)
    if own is not None:
        parts.append(f"This broker's cost as a multiple of the limit's varies by {own:.2f}x.")
    failures = report.failures_of(cells)
    if failures:
        parts += ["## What failed", "\n".join(f"* {failure}" for failure in failures)]
    parts.append("## Every round")
    if sentence := report.disturbance(cells):
        parts.append(f"{sentence} Those are marked with ~.")
    parts += [report.as_markdown(report.rounds_table(cells))]
    parts += ["## Machine and versions", _facts_table(facts)]
    return "\n\n".join(parts) + "\n"


def _tables(cells: Cells) -> tuple[report.Table, report.Table]:
    return report.main_table(cells), report.flat_table(cells)


def _facts_table(facts: Mapping[str, str]) -> str:
    return report.as_markdown([["", ""], *([title, fact] for title, fact in facts.items())])
