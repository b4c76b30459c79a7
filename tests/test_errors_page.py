"""The page of errors knows every refusal, violation, reason, code and cause of a counter, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from protocol import CloseCode, DisconnectReason, Refusal, Violation
from protocol.recovery import RecoveryRefusal

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^##+ (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def rows(section: str) -> dict[str, list[str]]:
    """Return the cells behind the first of each row."""
    table = [
        line.strip("|").split(" | ") for line in SECTIONS[section].splitlines() if line.startswith("| `")
    ]
    found = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in table}
    assert all(cell for cells in found.values() for cell in cells), "an empty cell"
    assert len(found) == len(table), "a row stands twice"
    return found


def test_refusals() -> None:
    assert {name: int(row[0]) for name, row in rows("Refusals").items()} == {
        one.name: one.code for one in Refusal
    }


def test_violations() -> None:
    assert list(rows("Violations")) == [one.name for one in Violation]


def test_disconnect_reasons() -> None:
    reasons = {name: row[0] for name, row in rows("Disconnect reasons").items()}
    assert reasons == {one.name: one.value for one in DisconnectReason}


def test_close_codes() -> None:
    assert {name: int(row[0]) for name, row in rows("Close codes").items()} == {
        one.name: one for one in CloseCode
    }


def nodes() -> Iterator[ast.AST]:
    for folder in ("broker", "protocol"):
        for path in (ROOT / folder).rglob("*.py"):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def counted(counter: str) -> set[str]:
    """Find `....counter["cause"] += n` in the code."""
    return {
        node.slice.value
        for node in nodes()
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == counter
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }


def given(name: str) -> set[str]:
    """Find the text that is given as this keyword, or as the only argument of this function."""
    found: set[str] = set()
    for node in nodes():
        if not isinstance(node, ast.Call):
            continue
        values = [keyword.value for keyword in node.keywords if keyword.arg == name]
        if isinstance(node.func, ast.Attribute) and node.func.attr == name:
            values += node.args
        found |= {one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_rules() -> None:
    assert set(rows("Rules")) == given("rule") | counted("refusals")


def test_causes_of_drops() -> None:
    assert set(rows("Drops")) == counted("dropped") | given("_drop") | given("_blame")


def test_causes_of_events() -> None:
    assert set(rows("Events")) == counted("events") | given("_count_event")


def test_words_about_recovery() -> None:
    assert set(rows("Recoveries")) == {str(one) for one in RecoveryRefusal} | counted("recoveries")
