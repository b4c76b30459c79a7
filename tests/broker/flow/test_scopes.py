"""Endings that go on for a bounded time, whatever is cancelled around them, and whatever fails in them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from broker.flow.scopes import outliving


async def test_a_goodbye_that_fails_ends_the_task_all_the_same(autojump_clock: Any) -> None:
    async def goodbye() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("goodbye")

    with pytest.RaisesGroup(KeyError):
        async with outliving(trio.sleep_forever, goodbye, 1.0):
            pass
