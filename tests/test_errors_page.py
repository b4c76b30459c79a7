"""The page of errors knows every refusal, violation, reason, code and cause of a counter, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import AckTimeout, Disconnected, TooManyAcks
from broker.rooms.identity import CHANGED_CODE, EXPIRED_CODE
from protocol import CloseCode, DisconnectReason, Refusal, Violation, codes
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


def nodes(*folders: str) -> Iterator[ast.AST]:
    for folder in folders or ("broker", "protocol"):
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


def test_outcomes_of_acks() -> None:
    words = {one.word for one in (AckTimeout, Disconnected, TooManyAcks)}
    assert set(rows("Acks")) == counted("acks") | words | {"cancelled"}


def test_words_of_error_answers() -> None:
    assert set(rows("Error answers")) == set(codes.ANSWERS)
    given_words = {
        node.args[0].value
        for node in nodes("broker/flow", "broker/rooms")
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("EventError", "error_answer")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert given_words | {CHANGED_CODE, EXPIRED_CODE} == set(codes.ANSWERS)


GROUPS = {
    "reason": (codes.REASONS, {one.name for one in DisconnectReason}, 200),
    "violation": (codes.VIOLATIONS, {one.name for one in Violation}, 300),
    "drop": (codes.DROPS, set(rows("Drops")), 400),
    "ack": (codes.ACKS, set(rows("Acks")), 500),
    "event": (codes.EVENTS, set(rows("Events")), 600),
    "recovery": (codes.RECOVERIES, set(rows("Recoveries")), 700),
    "answer": (codes.ANSWERS, set(rows("Error answers")), 800),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_every_word_has_a_number(kind: str) -> None:
    """A new word goes to the end of its group in protocol/codes.py and of the table `Numbers`."""
    numbers, words, start = GROUPS[kind]
    assert set(numbers) == words
    assert list(numbers.values()) == list(range(start, start + len(numbers)))


def test_the_page_lists_every_number() -> None:
    listed = re.findall(r"^\| (\d+) \| (\w+) \| `([^`]+)` \|$", SECTIONS["Numbers"], re.MULTILINE)
    known = [(str(number), kind, word) for kind, group in GROUPS.items() for word, number in group[0].items()]
    assert listed == known


def test_no_number_is_given_out_twice() -> None:
    numbers = [one.code for one in Refusal]
    numbers += [number for group in GROUPS.values() for number in group[0].values()]
    assert len(set(numbers)) == len(numbers)
