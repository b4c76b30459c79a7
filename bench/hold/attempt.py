"""Measure one figure within its time: what goes wrong is a claim that was not met."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

from bench import machine

from .figure import Amount, Claim, Figure, say


class _Overdue(Exception):
    """A figure has taken longer than its allowance."""


def machine_cell(facts: Mapping[str, str]) -> str:
    """Return where the rows were measured, for their last cell."""
    return (
        f"{facts['CPU']}; Linux {facts['kernel'].split()[-1]}; Python {facts['Python'].split()[-1]}; "
        f"{facts['commit']}; {facts['date']}; load before {machine.load_average():.2f}"
    )


def measure(figure: Figure[Amount], plan: Amount, allowance: float) -> list[Claim]:
    """Measure one figure, for so many seconds at most."""
    try:
        with _deadline(allowance):
            return figure.measure(plan)
    except _Overdue:
        return [Claim("could be measured", "", f"no: took longer than {allowance:g} s", met=False)]
    except Exception as error:
        say(f"{figure.title}: {error!r}")
        told = " ".join(str(error).split())[:200]
        return [Claim("could be measured", "", f"no: {type(error).__name__}: {told}", met=False)]


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise in the main thread when the time is over, whatever it waits for."""

    def overdue(number: int, frame: FrameType | None) -> NoReturn:
        raise _Overdue

    before: Any = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as by Ctrl-C; for SIGTERM. Trio, if it runs, knows what to do with that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
