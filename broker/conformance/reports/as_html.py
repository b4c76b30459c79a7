"""A report as one self-contained page, clause by clause in the order of SPEC.md."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from broker.conformance.cases import Outcome, Verdict
from broker.conformance.clauses import Clause, load_clauses
from broker.conformance.runner import Report

_CODE = re.compile(r"`([^`]+)`")


def to_html(report: Report) -> str:
    """Write a report as a page without anything outside of it."""
    style = files(__package__ or __name__).joinpath("page.css").read_text(encoding="utf-8")
    script = files(__package__ or __name__).joinpath("page.js").read_text(encoding="utf-8")
    groups = report.by_clause()
    sections: dict[str, list[str]] = {}
    for clause in load_clauses().values():
        if clause.id in groups:
            sections.setdefault(clause.section, []).append(_clause(clause, groups[clause.id]))
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{''.join(items)}</section>"
        for heading, items in sections.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Conformance of {escape(report.subject)}</title><style>{style}</style></head><body>"
        f"{_head(report)}<main>{body}</main><script>{script}</script></body></html>\n"
    )


def _head(report: Report) -> str:
    counts = {verdict: report.count(verdict) for verdict in Verdict}
    if not counts[Verdict.ERROR]:
        del counts[Verdict.ERROR]
    total = max(len(report.outcomes), 1)
    bar = "".join(
        f'<span class="{verdict}" style="width:{100 * count / total:.2f}%"></span>'
        for verdict, count in counts.items()
        if count
    )
    buttons = "".join(
        f'<button type="button" data-show="{verdict}" aria-pressed="false" class="{verdict}">'
        f"<b>{count}</b> {word}</button>"
        for (verdict, count), word in zip(
            counts.items(), ("passed", "failed", "skipped", "errors of the kit"), strict=False
        )
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    when = report.started.strftime("%Y-%m-%d %H:%M UTC")
    return (
        f'<header><p class="kicker">Conformance, {escape(report.role)} role</p>'
        f"<h1>{escape(report.subject)}</h1>"
        f"<p>{len(report.outcomes)} cases in {report.seconds:.1f} s, {when}</p>"
        f'<div class="bar" role="img" aria-label="{counts[Verdict.PASS]} passed, '
        f'{counts[Verdict.FAIL]} failed, {counts[Verdict.SKIP]} skipped">{bar}</div>'
        f'<div class="controls">{buttons}'
        '<input type="search" placeholder="Find a clause or case" aria-label="Find a clause or case"></div>'
        f'<details class="notes"><summary>About this run</summary><ul>{notes}</ul></details></header>'
    )


def _clause(clause: Clause, outcomes: list[Outcome]) -> str:
    verdicts = {outcome.verdict for outcome in outcomes}
    verdict = next(
        (one for one in (Verdict.FAIL, Verdict.PASS, Verdict.SKIP) if one in verdicts), Verdict.SKIP
    )
    ordered = sorted(outcomes, key=lambda outcome: list(Verdict).index(outcome.verdict) != 1)
    cases = "".join(map(_case, ordered))
    passed = sum(outcome.verdict is Verdict.PASS for outcome in outcomes)
    text = _CODE.sub(r"<code>\1</code>", escape(clause.text))
    opened = " open" if verdict is Verdict.FAIL else ""
    return (
        f'<details class="clause {verdict}" id="{escape(clause.id)}"{opened}>'
        f'<summary><span class="dot"></span><b>{escape(clause.id)}</b> <span>{escape(clause.title)}</span>'
        f'<span class="count">{passed} / {len(outcomes)}</span></summary>'
        f"<blockquote>{text}</blockquote>"
        f"<ul>{cases}</ul></details>"
    )


def _case(outcome: Outcome) -> str:
    message = f'<p class="message">{escape(outcome.message)}</p>' if outcome.message else ""
    wire = f"<pre>{escape(chr(10).join(outcome.wire))}</pre>" if outcome.wire else ""
    trace = f"<pre>{escape(chr(10).join(outcome.trace))}</pre>" if outcome.trace else ""
    again = " (at the second attempt)" if outcome.attempts > 1 and outcome.verdict is Verdict.PASS else ""
    return (
        f'<li class="{outcome.verdict}" ><code>{escape(outcome.case.id)}</code> '
        f"{escape(outcome.case.title)}{again}{message}{wire}{trace}</li>"
    )
