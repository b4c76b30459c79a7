"""The only shields of the broker: an ending goes on for a bounded time, whatever is cancelled around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


def cleanup_window(timeout: float) -> trio.CancelScope:
    """Return a scope that lets cleanup go on for `timeout` seconds, whatever is cancelled around it."""
    return trio.move_on_after(timeout, shield=True)


@asynccontextmanager
async def outliving(
    task: Callable[[], Awaitable[None]], goodbye: Callable[[], Awaitable[None]], timeout: float
) -> AsyncIterator[None]:
    """Run a task beside the block that is told of the end before it is cancelled.

    Args:
        task: What to run.
        goodbye: Called when the block ends, also by cancellation; tells the task, and waits for it.
        timeout: Seconds that `goodbye` may take; then the task is cancelled.
    """
    scope = trio.CancelScope(shield=True)

    async def run() -> None:
        with scope:
            await task()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield
        finally:
            try:
                with cleanup_window(timeout):
                    await goodbye()  # noqa: ASYNC102 - the window is shielded and has a deadline
            finally:
                scope.cancel()
