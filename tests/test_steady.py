"""The clock of all tests that run in real time."""

from __future__ import annotations

import time

import trio
import trio.testing

from .steady import SteadyClock


async def test_it_goes_like_a_real_clock() -> None:
    assert isinstance(trio.lowlevel.current_clock(), SteadyClock)
    began, really = trio.current_time(), time.perf_counter()
    await trio.sleep(0.2)
    assert 0.2 <= trio.current_time() - began <= time.perf_counter() - really + 0.001


async def test_a_time_in_which_the_process_stands_still_makes_nobody_late() -> None:
    began = trio.current_time()
    with trio.fail_after(0.2):
        for _ in range(3):
            time.sleep(0.1)  # noqa: ASYNC251 - stands for a machine that runs something else
            await trio.sleep(0.01)
    assert 0.03 <= trio.current_time() - began < 0.2


async def test_clocks_that_jump_stay_in_their_tests(autojump_clock: trio.testing.MockClock) -> None:
    assert trio.lowlevel.current_clock() is autojump_clock
    await trio.sleep(1_000)
