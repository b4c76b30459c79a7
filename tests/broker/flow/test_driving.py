"""Driving a coroutine in the task at hand, and going on with it after its first suspension."""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
import trio

from broker.flow.driving import Suspended

variable: ContextVar[int] = ContextVar("variable", default=0)


def begin(steps: Any) -> Suspended:
    context: Context = copy_context()
    trap = context.run(steps.send, None)
    return Suspended(steps, trap, context)


async def test_value_and_exception_come_out() -> None:
    async def value() -> int:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        return 7

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("mine")

    assert await begin(value()).finish() == 7
    with pytest.raises(KeyError, match="mine"):
        await begin(fails()).finish()


async def test_cancellation_goes_in_and_cleanup_runs() -> None:
    seen: list[str] = []

    async def steps() -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("cleanup")
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            seen.append("done")

    with trio.CancelScope() as scope:
        suspended = begin(steps())
        scope.cancel()
        await suspended.finish()
    assert scope.cancelled_caught
    assert seen == ["cleanup", "done"]


async def test_cancellation_may_be_swallowed() -> None:
    async def steps() -> str:
        with trio.move_on_after(0):
            await trio.sleep_forever()
        return "on"

    assert await begin(steps()).finish() == "on"


async def test_scopes_and_nurseries_of_the_coroutine_belong_to_the_task() -> None:
    seen: list[str] = []

    async def child() -> None:
        await trio.lowlevel.checkpoint()
        seen.append("child")

    async def steps() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        with trio.move_on_after(0.001) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught

    await begin(steps()).finish()
    assert seen == ["child"]


async def test_all_steps_run_in_one_context_of_their_own() -> None:
    async def steps() -> list[int]:
        variable.set(1)
        await trio.lowlevel.checkpoint()
        first = variable.get()
        variable.set(2)
        await trio.lowlevel.checkpoint()
        return [first, variable.get()]

    assert await begin(steps()).finish() == [1, 2]
    assert variable.get() == 0
