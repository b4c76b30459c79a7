"""A report as JSON, for programs."""

from __future__ import annotations

import orjson

from broker.conformance.cases import Outcome, Verdict
from broker.conformance.runner import Report


def to_json(report: Report) -> bytes:
    """Write a report as JSON."""
    document = {
        "format": 1,
        "subject": report.subject,
        "role": report.role,
        "started": report.started.isoformat(timespec="seconds"),
        "seconds": round(report.seconds, 3),
        "notes": report.notes,
        "counts": {str(verdict): report.count(verdict) for verdict in Verdict},
        "cases": [_row(outcome) for outcome in report.outcomes],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _row(outcome: Outcome) -> dict[str, object]:
    row: dict[str, object] = {
        "id": outcome.case.id,
        "clauses": list(outcome.case.clauses),
        "title": outcome.case.title,
        "verdict": str(outcome.verdict),
        "seconds": round(outcome.seconds, 3),
        "attempts": outcome.attempts,
    }
    if outcome.message:
        row["message"] = outcome.message
    if outcome.wire:
        row["wire"] = outcome.wire
    if outcome.trace:
        row["trace"] = outcome.trace
    return row
