"""A report as one self-contained page, clause by clause in the order of SPEC.md."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from broker.conformance.cases import Outcome, Verdict
from broker.conformance.clauses import Clause, load_clauses
from broker.conformance.runner import Report

_CODE = re.compile(r"`([^`]+)`")
_LINE = re.compile(r" *([\d.]+) ms  #(\d+) ([CS])> (.*)", re.DOTALL)
_BAD_FIRST = (Verdict.ERROR, Verdict.FAIL, Verdict.PASS, Verdict.SKIP)
_WORDS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.SKIP: "skipped",
    Verdict.ERROR: "errors of the kit",
}


def to_html(report: Report) -> str:
    """Write a report as a page without anything outside of it."""
    style = files(__package__ or __name__).joinpath("page.css").read_text(encoding="utf-8")
    script = files(__package__ or __name__).joinpath("page.js").read_text(encoding="utf-8")
    groups = report.by_clause()
    sections: dict[str, list[Clause]] = {}
    for clause in load_clauses().values():
        if clause.id in groups:
            sections.setdefault(clause.section, []).append(clause)
    body = ""
    for heading, clauses in sections.items():
        items = "".join(_clause(one, groups[one.id]) for one in clauses)
        body += f"<section><h2>{escape(heading)}</h2>{items}</section>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Conformance of {escape(report.subject)}</title><style>{style}</style></head><body>"
        f"{_head(report)}{_map(sections, groups)}<main>{body}</main><script>{script}</script></body></html>\n"
    )


def _head(report: Report) -> str:
    counts = {verdict: report.count(verdict) for verdict in _WORDS}
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
        f"<b>{count}</b> {_WORDS[verdict]}</button>"
        for verdict, count in counts.items()
    )
    label = ", ".join(f"{count} {_WORDS[verdict]}" for verdict, count in counts.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    when = report.started.strftime("%Y-%m-%d %H:%M UTC")
    return (
        f'<header><p class="kicker">Conformance, {escape(report.role)} role</p>'
        f"<h1>{escape(report.subject)}</h1>"
        f'<p class="kicker">{len(report.outcomes)} cases in {report.seconds:.1f} s, {when}</p>'
        f'<div class="bar" role="img" aria-label="{label}">{bar}</div>'
        f'<div class="controls">{buttons}'
        '<input type="search" placeholder="Find a clause or case" aria-label="Find a clause or case"></div>'
        + (
            f'<details class="notes"><summary>About this run</summary><ul>{notes}</ul></details>'
            if notes
            else ""
        )
        + "</header>"
    )


def _map(sections: dict[str, list[Clause]], groups: dict[str, list[Outcome]]) -> str:
    """One square for each clause, so that a glance shows where the trouble is."""
    rows = []
    for heading, clauses in sections.items():
        squares = "".join(
            f'<a class="{_verdict(groups[one.id])}" href="#{escape(one.id)}" '
            f'title="{escape(one.id)} ({escape(one.title)})" aria-label="{escape(one.id)}"></a>'
            for one in clauses
        )
        rows.append(f"<div><span>{escape(heading)}</span><span>{squares}</span></div>")
    return f'<nav aria-label="Clauses by section">{"".join(rows)}</nav>'


def _verdict(outcomes: list[Outcome]) -> Verdict:
    found = {outcome.verdict for outcome in outcomes}
    return next(one for one in _BAD_FIRST if one in found)


def _clause(clause: Clause, outcomes: list[Outcome]) -> str:
    verdict = _verdict(outcomes)
    ordered = sorted(outcomes, key=lambda outcome: _BAD_FIRST.index(outcome.verdict))
    cases = "".join(_case(outcome, clause.id) for outcome in ordered)
    passed = sum(outcome.verdict is Verdict.PASS for outcome in outcomes)
    opened = " open" if verdict in (Verdict.FAIL, Verdict.ERROR) else ""
    return (
        f'<details class="clause {verdict}" id="{escape(clause.id)}"{opened}>'
        f'<summary><span class="dot"></span><b>{escape(clause.id)}</b> <span>{escape(clause.title)}</span>'
        f'<span class="count">{passed} / {len(outcomes)}</span></summary>'
        f"<blockquote>{_marked(clause.text)}</blockquote>"
        f"<ul>{cases}</ul></details>"
    )


def _case(outcome: Outcome, clause_id: str) -> str:
    about = outcome.case.clauses[0]
    message = f'<p class="message">{escape(outcome.message)}</p>' if outcome.message else ""
    again = f" (at attempt {outcome.attempts})" if outcome.attempts > 1 else ""
    more = ""
    if about == clause_id:
        trace = f"<pre>{escape(chr(10).join(outcome.trace))}</pre>" if outcome.trace else ""
        more = _wire(outcome.wire) + trace
    elif outcome.wire:
        more = f'<p class="see">what was on the wire: see <a href="#{escape(about)}">{escape(about)}</a></p>'
    return (
        f'<li class="{outcome.verdict}"><code>{escape(outcome.case.id)}</code> '
        f"{_marked(outcome.case.title)}{again}{message}{more}</li>"
    )


def _wire(lines: list[str]) -> str:
    if not lines:
        return ""
    return f'<table class="wire">{"".join(map(_wire_row, lines))}</table>'


def _wire_row(line: str) -> str:
    match = _LINE.fullmatch(line)
    if match is None:
        return f'<tr><td colspan="4">{escape(line.strip())}</td></tr>'
    milliseconds, connection, who, what = match.groups()
    name = "client" if who == "C" else "server"
    return (
        f'<tr class="{name}"><td>{milliseconds} ms</td><td>#{connection}</td><td>{name}</td>'
        f"<td>{escape(what)}</td></tr>"
    )


def _marked(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
