"""Turns what a case raised into a verdict: nothing that one case raises ends the run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from .cases import Deviation, Late, Skip, Verdict

MAX_TRACE = 40
SHAPE = (ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What reading raises if the peer sent something of another form."""


@dataclass(slots=True)
class Judgement:
    """What one attempt came to.

    Attributes:
        verdict: The verdict.
        message: Why.
        late: Whether something came too late, or a connection broke.
        trace: The traceback, if the case ended by something it does not raise itself.
    """

    verdict: Verdict
    message: str = ""
    late: bool = False
    trace: list[str] = field(default_factory=list)


def judge(error: BaseException) -> Judgement:
    """Judge what a case raised.

    A mistake of the kit comes before all else, so that it cannot hide behind what followed from it; what was
    found out about the peer comes before the broken connection it led to.

    Raises:
        BaseException: The error itself, if it is an interrupt or a cancellation of the whole run.
    """
    found = [one for one in _leaves(error) if not isinstance(one, trio.Cancelled)]
    if not found or not all(isinstance(one, Exception) for one in found):
        raise error
    return min(map(_judge_one, found), key=_rank)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _judge_one(error: BaseException) -> Judgement:
    if isinstance(error, Skip):
        return Judgement(Verdict.SKIP, str(error))
    if isinstance(error, Deviation):
        return Judgement(Verdict.FAIL, str(error), isinstance(error, Late))
    if isinstance(error, OSError):
        return Judgement(Verdict.FAIL, f"cannot connect: {error}", True)
    if isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError)):
        return Judgement(Verdict.FAIL, "the connection broke", True)
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SHAPE):
        return Judgement(Verdict.FAIL, f"what the peer sent has another shape: {what}", trace=_trace(error))
    return Judgement(Verdict.ERROR, f"the kit failed: {what}", trace=_trace(error))


def _trace(error: BaseException) -> list[str]:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return lines[-MAX_TRACE:]


def _rank(judgement: Judgement) -> int:
    if judgement.verdict is Verdict.FAIL:
        return 3 if judgement.late else 1
    return 0 if judgement.verdict is Verdict.ERROR else 2
