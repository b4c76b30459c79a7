"""One conformance case: what it checks, how it is run, and how it ended."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

Lab = TypeVar("Lab")


class Deviation(Exception):
    """The implementation does not do what the case's clauses ask for."""


class Late(Deviation):
    """What the clause asks for did not come in time; worth a second try on a machine that has other work."""


class Skip(Exception):
    """The case cannot be judged: the fixture lacks a part, or the peer chose another way."""


class Verdict(StrEnum):
    """How a case ended."""

    PASS = "pass"  # noqa: S105, not a password
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"
    """The kit itself failed; nothing is known about the peer."""


@dataclass(frozen=True, slots=True)
class Case(Generic[Lab]):
    """One case.

    Attributes:
        id: Its name: the topic, a slash, a phrase.
        clauses: The clauses of SPEC.md that it checks; the first is the one it is about.
        title: One sentence that says what must happen.
        run: Brings the situation about in a laboratory; raises `Deviation` or `Skip`.
        needs: Optional parts of the fixture without which it is skipped.
        alone: Whether it must not run beside others.
    """

    id: str
    clauses: tuple[str, ...]
    title: str
    run: Callable[[Lab], Awaitable[None]]
    needs: frozenset[str] = frozenset()
    alone: bool = False


@dataclass(slots=True)
class Outcome:
    """How one case ended.

    Attributes:
        case: The case.
        verdict: Pass, fail or skip.
        message: What was wrong, or why it was skipped.
        wire: What was on the wire, one line each; kept for failures.
        seconds: How long the last attempt took.
        attempts: More than 1 if it was tried again, because something was late on this machine.
        late: Whether what was wrong is that something came too late.
        trace: Where the kit was, one line each, if the case ended by an exception nobody expected.
    """

    case: Case[Any]
    verdict: Verdict
    message: str = ""
    wire: list[str] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 1
    late: bool = False
    trace: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether the case did not end well."""
        return self.verdict in (Verdict.FAIL, Verdict.ERROR)


class Catalogue(Generic[Lab]):
    """The cases of one role, in the order in which they were written down."""

    def __init__(self) -> None:
        self.cases: dict[str, Case[Lab]] = {}

    def add(self, case: Case[Lab]) -> None:
        """Add a case.

        Raises:
            ValueError: There is one of this id.
        """
        if case.id in self.cases:
            raise ValueError(f"two cases are called {case.id}")
        self.cases[case.id] = case

    def case(
        self, case_id: str, *clauses: str, needs: Iterable[str] = (), alone: bool = False
    ) -> Callable[[Callable[[Lab], Awaitable[None]]], Callable[[Lab], Awaitable[None]]]:
        """Register a function as a case; its docstring is the title."""

        def register(run: Callable[[Lab], Awaitable[None]]) -> Callable[[Lab], Awaitable[None]]:
            title = inspect.getdoc(run) or case_id
            self.add(Case(case_id, clauses, title, run, frozenset(needs), alone))
            return run

        return register

    def chosen(self, words: Iterable[str]) -> list[Case[Lab]]:
        """Return the cases whose id or clause starts with one of the words; all, if there are none."""
        given = tuple(words)
        return [
            case
            for case in self.cases.values()
            if not given
            or case.id.startswith(given)
            or any(clause.startswith(given) for clause in case.clauses)
        ]


def expect(condition: object, message: str) -> None:
    """Raise `Deviation` unless the condition holds."""
    if not condition:
        raise Deviation(message)


def expect_equal(found: object, wanted: object, what: str) -> None:
    """Raise `Deviation` unless both are equal."""
    if found != wanted:
        raise Deviation(f"{what}: expected {_short(wanted)}, got {_short(found)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:150]}... ({len(text)} characters)"
