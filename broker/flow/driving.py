"""Run a coroutine in the task at hand up to its first suspension, and go on with it later in the same task.

Most handlers never suspend: for them no task is switched and no scope is entered. One that does is awaited
by the task that began it; trio's primitives inside it (scopes, nurseries, cancellation) work as usual,
since they belong to that task.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any


class Suspended:
    """A coroutine that has yielded once and waits to be gone on with.

    Args:
        steps: The coroutine.
        trap: What it yielded to the scheduler.
        context: The context that all its steps run in.
    """

    __slots__ = ("_context", "_steps", "_trap")

    def __init__(self, steps: Coroutine[Any, Any, Any], trap: Any, context: Context) -> None:
        self._steps = steps
        self._trap = trap
        self._context = context

    async def finish(self) -> Any:
        """Go on to the end; returns and raises what the coroutine does.

        Must be awaited at once, in the task that began it. Cancellation is delivered into the coroutine.
        """
        return await _go_on(self._steps, self._trap, self._context)


@coroutine
def _go_on(steps: Coroutine[Any, Any, Any], trap: Any, context: Context) -> Generator[Any, Any, Any]:
    while True:
        raised: BaseException | None = None
        value: Any = None
        try:
            value = yield trap
        except BaseException as error:  # noqa: ASYNC103 - handed on to the coroutine as it came
            raised = error
        try:
            trap = context.run(steps.throw, raised) if raised is not None else context.run(steps.send, value)
        except StopIteration as stop:
            return stop.value
        finally:
            del raised
