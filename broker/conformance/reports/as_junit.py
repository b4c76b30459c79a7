"""A report as JUnit XML, for continuous integration."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from broker.conformance.cases import Outcome, Verdict
from broker.conformance.runner import Report

_ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """Write a report as JUnit XML; each topic is a class."""
    counts = (
        f'tests="{len(report.outcomes)}" failures="{report.count(Verdict.FAIL)}" '
        f'skipped="{report.count(Verdict.SKIP)}" errors="{report.count(Verdict.ERROR)}" '
        f'time="{report.seconds:.3f}"'
    )
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuite name={quoteattr(f'conformance of {report.subject}')} {counts}>",
        *(_case(outcome) for outcome in report.outcomes),
        "</testsuite>",
        "",
    ]
    return "\n".join(lines)


def _case(outcome: Outcome) -> str:
    topic, _, name = outcome.case.id.partition("/")
    head = (
        f"<testcase classname={quoteattr('conformance.' + topic)} "
        f"name={quoteattr(f'{name} [{chr(32).join(outcome.case.clauses)}]')} "
        f'time="{outcome.seconds:.3f}"'
    )
    if outcome.verdict is Verdict.PASS:
        return f"  {head}/>"
    if outcome.verdict is Verdict.SKIP:
        return f"  {head}><skipped message={_attribute(outcome.message)}/></testcase>"
    body = escape(_ILLEGAL.sub("?", "\n".join([outcome.case.title, *outcome.wire, *outcome.trace])))
    kind = "error" if outcome.verdict is Verdict.ERROR else "failure"
    return f"  {head}><{kind} message={_attribute(outcome.message)}>{body}</{kind}></testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_ILLEGAL.sub("?", text))
