"""Whether a broker is ready for clients: what it says of itself, and checks that others add."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

import trio

logger = logging.getLogger(__name__)

Verdict = bool | str | None
Check = Callable[[], Verdict | Awaitable[Verdict]]
AnyCheck = TypeVar("AnyCheck", bound=Check)

FRESH_TIME = 1.0  # seconds for which an answer stands, so that whoever asks often does not cost much
CHECK_TIMEOUT = 2.0  # seconds; most probes wait for one to three


class Readiness:
    """The checks of one broker: `broker.readiness`.

    It is ready while it is open, is not draining, and every check passes. That it has as many sessions as it
    may does not make it unready: what stands in front would send the requests of those sessions elsewhere.

    Attributes:
        refusing: Why it is not ready for a reason of its own; None if there is none.
    """

    def __init__(self) -> None:
        self.refusing: str | None = None
        self._checks: dict[str, tuple[Check, float]] = {}
        self._problems: dict[str, str] = {}
        self._looked_at = -FRESH_TIME
        self._looking: trio.Event | None = None

    def check(self, name: str, timeout: float = CHECK_TIMEOUT) -> Callable[[AnyCheck], AnyCheck]:
        """Register a check: a function, sync or async, that returns None or True if all is well.

        False or a text that says what is wrong makes the broker unready, as raising does. The text is shown
        to whoever asks for the endpoint; that of an exception is only logged.

        Args:
            name: Its name in the answer; a second check of that name replaces the first.
            timeout: Seconds an async check may take.
        """

        def register(check: AnyCheck) -> AnyCheck:
            self._checks[name] = (check, timeout)
            return check

        return register

    def remove(self, name: str) -> None:
        """Remove a check, if it is there."""
        self._checks.pop(name, None)
        self._problems.pop(name, None)

    async def problems(self) -> dict[str, str]:
        """Return what is wrong, by name of the check; the broker's own reason is named `broker`.

        Cancellation: whoever waits for the same answer asks anew.
        """
        await trio.lowlevel.checkpoint()
        if self.refusing is not None:
            return {"broker": self.refusing}
        while trio.current_time() - self._looked_at >= FRESH_TIME:
            if self._looking is None:
                await self._look()
            else:
                await self._looking.wait()
        # It may have begun to drain meanwhile.
        return dict(self._problems) if self.refusing is None else {"broker": self.refusing}

    async def _look(self) -> None:
        looking = self._looking = trio.Event()
        found: dict[str, str] = {}

        async def look(name: str, check: Check, timeout: float) -> None:
            problem = await self._run(name, check, timeout)
            if problem is not None:
                found[name] = problem

        try:
            async with trio.open_nursery() as nursery:
                for name, (check, timeout) in self._checks.items():
                    nursery.start_soon(look, name, check, timeout)
            self._problems = found
            self._looked_at = trio.current_time()
        finally:
            self._looking = None
            looking.set()

    async def _run(self, name: str, check: Check, timeout: float) -> str | None:
        verdict: Verdict = f"no answer within {timeout:g} s"
        try:
            with trio.move_on_after(timeout):
                answer = check()
                verdict = await answer if isawaitable(answer) else answer
        except Exception:
            logger.exception("readiness check %r failed", name)
            return "failed"
        if isinstance(verdict, str):
            return verdict
        return None if verdict or verdict is None else "not ready"
