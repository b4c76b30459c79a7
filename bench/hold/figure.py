"""The shape of what is measured: a figure makes claims, each with a bound and a verdict."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(frozen=True)
class Claim:
    """One promise and what was measured of it.

    Attributes:
        what: What must hold.
        bound: The bound in words; empty if it is told only.
        measured: What was measured.
        met: Whether it held; None if it is told only, or could not be told.
    """

    what: str
    bound: str
    measured: str
    met: bool | None

    @classmethod
    def at_most(cls, what: str, measured: float, bound: float, unit: str = "") -> Claim:
        """Judge a figure that must not be larger."""
        return cls(what, f"<= {shown(bound)}{unit}", f"{shown(measured)}{unit}", measured <= bound)

    @classmethod
    def at_least(cls, what: str, measured: float, bound: float, unit: str = "") -> Claim:
        """Judge a figure that must not be smaller."""
        return cls(what, f">= {shown(bound)}{unit}", f"{shown(measured)}{unit}", measured >= bound)

    @classmethod
    def told(cls, what: str, measured: str) -> Claim:
        """Tell something that has no bound."""
        return cls(what, "", measured, None)


def shown(value: float) -> str:
    """Write a number as the table shows it."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


@dataclass(frozen=True)
class Plan:
    """How much of everything is measured.

    Attributes:
        short: Whether this is the form for tests: seconds instead of minutes, and bounds that a busy
            machine keeps.
        minutes_idle: How long idle connections are held.
        aborts: How many connections are aborted at each step.
        fuzz_seconds: How long each parser is fed.
        server_cpu: Core of the servers.
        load_cpu: Core of the load.
    """

    short: bool = False
    minutes_idle: float = 10.0
    aborts: int = 10_000
    fuzz_seconds: float = 30.0
    server_cpu: int = 0
    load_cpu: int = 1

    def full_or(self, full: int, short: int) -> int:
        """Choose an amount."""
        return short if self.short else full


Amount = TypeVar("Amount")


@dataclass(frozen=True)
class Figure(Generic[Amount]):
    """One figure of the table.

    Attributes:
        name: What `--figures` calls it.
        title: Its row.
        measure: Measures it.
        minutes: What it takes in full.
        allowance: Seconds after which a full measurement is given up.
    """

    name: str
    title: str
    measure: Callable[[Amount], list[Claim]]
    minutes: float
    allowance: float


_began = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[{time.monotonic() - _began:6.1f} s] {text}", file=sys.stderr, flush=True)
