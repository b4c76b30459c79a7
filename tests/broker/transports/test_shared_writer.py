"""One writer for all: who waits for it, who is given up, and what goes wrong with one stays with that one."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from broker.transports.shared_writer import SharedWriter
from tests.peers import until

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")

WRITE_TIMEOUT = 0.05


class Line:
    """A connection with something to write, whose peer takes what it is told to.

    Attributes:
        left: How many writes it needs until nothing is left.
        moves: How often the peer has moved when it is asked.
        told: What it was told.
    """

    def __init__(self, sock: socket.socket, left: int = 1) -> None:
        self.sock = sock
        self.left = left
        self.moves = 0
        self.told: list[str] = []
        self.on_write: Callable[[], None] = lambda: None

    @property
    def fileno(self) -> int:
        return self.sock.fileno()

    def write_on(self) -> bool:
        self.told.append("write")
        self.on_write()
        self.left -= 1
        return self.left <= 0

    def has_moved(self) -> bool:
        self.moves -= 1
        return self.moves >= 0

    def give_up(self) -> None:
        self.told.append("given up")

    def fail(self) -> None:
        self.told.append("failed")


@asynccontextmanager
async def writing() -> AsyncIterator[SharedWriter]:
    writer = SharedWriter(WRITE_TIMEOUT)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


@contextmanager
def lines(count: int, *, clogged: bool = False, left: int = 1) -> Iterator[list[Line]]:
    pairs = [socket.socketpair() for _ in range(count)]
    for ours, _ in pairs:
        ours.setblocking(False)
        while clogged:
            try:
                ours.send(b"x" * 65_536)
            except BlockingIOError:
                break
    yield [Line(ours, left) for ours, _ in pairs]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_it_writes_until_nothing_is_left_and_may_be_asked_again() -> None:
    with lines(1, left=3) as (line,):
        async with writing() as writer:
            assert writer.add(line)
            await until(lambda: line.left == 0)
            line.left = 1
            assert writer.add(line)
            await until(lambda: line.left == 0)
            writer.remove(line)  # which it has done by itself
        assert line.told == ["write"] * 4


async def test_who_is_removed_is_left_alone() -> None:
    with lines(2) as (first, second), lines(1, clogged=True) as (third,):
        async with writing() as writer:
            first.on_write = lambda: writer.remove(second)
            second.on_write = lambda: writer.remove(first)
            for line in (first, second, third):
                writer.add(line)
            writer.remove(third)
            await until(lambda: first.told or second.told)
            await trio.sleep(2 * WRITE_TIMEOUT)
        assert sorted([first.told, second.told, third.told]) == [[], [], ["write"]]


async def test_a_fault_of_ours_ends_one_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def fault() -> None:
        raise AssertionError("a fault of ours")

    with lines(2) as (unlucky, other):
        async with writing() as writer:
            unlucky.on_write = fault
            writer.add(unlucky)
            writer.add(other)
            await until(lambda: other.left == 0)
            await until(lambda: "failed" in unlucky.told)
        assert (unlucky.told, other.told) == (["write", "failed"], ["write"])
    assert "writing failed" in caplog.text


async def test_who_takes_nothing_in_time_is_given_up_and_who_moves_has_the_time_again() -> None:
    with lines(2, clogged=True) as (still, moving):
        moving.moves = 4  # one look when it begins, three when the time is up
        async with writing() as writer:
            started = trio.current_time()
            writer.add(still)
            writer.add(moving)
            await until(lambda: still.told)
            assert trio.current_time() - started >= WRITE_TIMEOUT
            assert moving.told == []
            await until(lambda: moving.told)
            assert trio.current_time() - started >= 4 * WRITE_TIMEOUT
        assert (still.told, moving.told) == (["given up"], ["given up"])


async def test_many_are_given_up_in_turns_with_everybody_else() -> None:
    turn = 0
    given_up: Counter[int] = Counter()

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    class Noted(Line):
        def give_up(self) -> None:
            given_up[turn] += 1

    with lines(100, clogged=True) as some:
        async with writing() as writer, trio.open_nursery() as nursery:
            for line in some:
                writer.add(Noted(line.sock))
            nursery.start_soon(take_turns)
            await until(lambda: given_up.total() == 100)
            nursery.cancel_scope.cancel()
    assert max(given_up.values()) <= 16  # a turn of the scheduler may see two of the writer's
    assert len(given_up) > 6


async def test_after_its_end_it_takes_nobody() -> None:
    with lines(1, clogged=True) as (line,):
        async with writing() as writer:
            writer.add(line)
        writer.remove(line)
        assert not writer.add(line)
        assert line.told == []
