"""The clauses of SPEC.md by name, for reports; those that nobody can see from outside, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import orjson

NOT_OBSERVABLE: dict[str, str] = {
    "GEN-1": "how to read the text",
    "GEN-2": "how to read the text",
    "GEN-3": "how to read the text",
    "EIO-SID-3": "what is logged or shown to others does not cross this wire",
    "SEC-1": "advice about deployment",
    "SEC-2": "advice about logs of proxies",
    "SEC-5": "what an application does with values",
    "SEC-8": "what an application takes as proof",
}
"""Clauses without a vector and without a case."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause.

    Attributes:
        id: Such as `EIO-HS-3`.
        title: Its words in parentheses.
        section: The heading it stands under.
        text: What it says, as Markdown.
    """

    id: str
    title: str
    section: str
    text: str


def load_clauses() -> dict[str, Clause]:
    """Read the clauses, in the order of SPEC.md; `tools/render_spec.py` writes the file."""
    rows = orjson.loads(files(__package__ or __name__).joinpath("clauses.json").read_bytes())
    return {row["id"]: Clause(**row) for row in rows}
