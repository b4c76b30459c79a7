"""What waits for a Redis server, and for how long, without a server: on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from broker.adapters.errors import BusRefused
from broker.adapters.redis.barrier import Barrier
from broker.adapters.redis.outgoing import Command, Outgoing, Waiter


def nodes(*counts: int) -> tuple[Barrier, list[float]]:
    """Make a barrier at which so many nodes are seen, look by look; give also the times of the looks."""
    left, looks = list(counts), []

    async def ask(*parts: str) -> list[Any]:
        assert parts == ("PUBSUB", "NUMSUB", "channel")
        looks.append(trio.current_time())
        return [b"channel", left.pop(0) if len(left) > 1 else left[0]]

    return Barrier(ask, "NUMSUB", "channel", 3.0), looks


async def test_who_is_alone_waits_for_nobody(autojump_clock: Any) -> None:
    barrier, looks = nodes(1)
    await barrier.count()
    begun = trio.current_time()
    await barrier.wait()
    assert trio.current_time() == begun
    assert len(looks) == 2


async def test_all_are_waited_for(autojump_clock: Any) -> None:
    barrier, looks = nodes(3, 1, 2, 3)
    await barrier.count()
    begun = trio.current_time()
    await barrier.wait()
    assert len(looks) == 4
    assert 0 < trio.current_time() - begun < 0.2


async def test_the_grace_time_is_the_end(autojump_clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    barrier, looks = nodes(3, 2)
    await barrier.count()
    begun = trio.current_time()
    await barrier.wait()
    assert trio.current_time() - begun == pytest.approx(3.0)
    assert "fewer than 3 nodes are back on the bus after 3 s" in caplog.text
    # Soon seen, and cheap for the server.
    assert 15 <= len(looks) <= 40


async def test_the_grace_time_of_an_outage_is_one_though_the_connection_breaks(autojump_clock: Any) -> None:
    barrier, _ = nodes(2, 1)
    await barrier.count()
    begun = trio.current_time()
    for _ in range(2):
        with trio.move_on_after(1.0):
            await barrier.wait()
    await barrier.wait()
    assert trio.current_time() - begun == pytest.approx(3.0)
    # The next outage has its own.
    await barrier.wait()
    assert trio.current_time() - begun == pytest.approx(6.0)


async def test_a_right_that_is_taken_away_is_the_end_of_waiting(autojump_clock: Any) -> None:
    answers: list[Any] = [[b"channel", 2], BusRefused("NOPERM")]

    async def ask(*parts: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    barrier = Barrier(ask, "NUMSUB", "channel", 3.0)
    await barrier.count()
    begun = trio.current_time()
    await barrier.wait()
    await barrier.wait()
    assert trio.current_time() == begun


# -- the queue ---------------------------------------------------------------------


async def test_publications_wait_in_order_and_all_else_passes() -> None:
    outgoing = Outgoing(1000)
    assert outgoing.offer(Command(b"sent"))
    assert await outgoing.take() == b"sent"
    assert outgoing.offer(Command(b"1"))
    waiter = Waiter()
    outgoing.put(Command(b"ask", waiter))
    outgoing.put(Command(b"subscribe", has_reply=False))
    assert outgoing.give_up() == 1
    assert waiter.lost
    assert outgoing.offer(Command(b"2"))
    outgoing.put(Command(b"ping", Waiter()))
    assert await outgoing.take() == b"ping"
    outgoing.answered()
    assert not outgoing.is_settled
    # Lost once more: what waits stays, and was never sent.
    assert outgoing.give_up() == 0
    assert outgoing.offer(Command(b"3"))
    outgoing.release()
    assert outgoing.offer(Command(b"4"))
    assert await outgoing.take() == b"1234"
    assert outgoing.give_up() == 4
    assert outgoing.is_settled


async def test_what_is_held_counts_for_the_budget() -> None:
    outgoing = Outgoing(10)
    outgoing.give_up()
    assert outgoing.offer(Command(b"x" * 6))
    assert not outgoing.offer(Command(b"x" * 5))
    assert outgoing.offer(Command(b"x" * 4))
    outgoing.give_up()
    assert not outgoing.offer(Command(b"x"))
    outgoing.release()
    assert not outgoing.offer(Command(b"x"))
    await outgoing.take()
    assert outgoing.offer(Command(b"x" * 10))


async def test_what_is_given_up_is_settled(autojump_clock: Any) -> None:
    outgoing = Outgoing(1_000)
    outgoing.put(Command(b"sent"))
    assert await outgoing.take() == b"sent"
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outgoing.settle)
            await trio.testing.wait_all_tasks_blocked()
            assert outgoing.give_up() == 1
