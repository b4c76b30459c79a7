"""The way out of one session: budgets, policies, direct writes over a real socket, gathering."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker import Verdict
from broker.flow.counters import Counters
from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Outbox, Overflow
from protocol import Limits


class Owner:
    """The session behind an outbox: keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.writable = True

    def on_overflow(self) -> None:
        self.told.append("overflow")

    def on_broken(self) -> None:
        self.told.append("broken")

    def on_backlog(self) -> None:
        self.told.append("backlog")

    def is_writable(self) -> bool:
        return self.writable


def make(overflow: str = "disconnect", **limits: Any) -> tuple[Outbox, Owner, Counters]:
    owner, counters = Owner(), Counters()
    return Outbox(Limits(**limits), counters, Overflow(overflow), owner), owner, counters


def message(text: str, *, droppable: bool = True, key: str | None = None) -> EncodedMessage:
    return EncodedMessage(text.encode(), key=key, droppable=droppable)


def texts(messages: list[EncodedMessage]) -> str:
    return "".join(one.text.decode() for one in messages)


# -- budgets and policies ---------------------------------------------------------


async def test_disconnect_is_the_default() -> None:
    outbox, owner, counters = make(outbox_messages=2)
    assert [outbox.offer(message(letter)) for letter in "abcd"] == [0, 0, Verdict.CLOSED, Verdict.CLOSED]
    assert owner.told == ["backlog", "backlog", "overflow"]
    assert counters.dropped == {"slow consumer": 1}
    assert texts(outbox.take()) == "ab"  # what is queued stays for a last flush


async def test_drop_newest() -> None:
    outbox, owner, counters = make("drop_newest", outbox_messages=2)
    assert [outbox.offer(message(letter)) for letter in "abc"] == [0, 0, Verdict.DROPPED]
    assert texts(outbox.take()) == "ab"
    assert (owner.told, counters.dropped) == (["backlog"] * 2, {"newest": 1})


async def test_drop_oldest_never_reorders() -> None:
    outbox, _, counters = make("drop_oldest", outbox_messages=3)
    outbox.offer(message("A", droppable=False))
    assert [outbox.offer(message(letter)) for letter in "bcdef"] == [Verdict.QUEUED] * 5
    assert texts(outbox.take()) == "Aef"
    assert counters.dropped == {"oldest": 3}


async def test_drop_oldest_drops_as_many_as_it_takes() -> None:
    outbox, _, counters = make("drop_oldest", outbox_hard_bytes=10, outbox_soft_bytes=10)
    for letter in "abcd":
        outbox.offer(message(letter * 2))
    assert outbox.offer(message("e" * 7)) is Verdict.QUEUED
    assert texts(outbox.take()) == "dd" + "e" * 7
    assert counters.dropped == {"oldest": 3}


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "keep_latest"])
async def test_what_may_not_be_dropped_ends_the_session(policy: str) -> None:
    outbox, owner, _ = make(policy, outbox_messages=2)
    for letter in "ab":
        outbox.offer(message(letter, droppable=False))
    assert outbox.offer(message("c", droppable=False)) is Verdict.CLOSED
    assert owner.told[-1] == "overflow"


async def test_drop_oldest_with_nothing_to_drop() -> None:
    outbox, owner, _ = make("drop_oldest", outbox_messages=1)
    outbox.offer(message("a", droppable=False))
    assert outbox.offer(message("b")) is Verdict.CLOSED
    assert owner.told[-1] == "overflow"


async def test_keep_latest() -> None:
    outbox, owner, counters = make("keep_latest", outbox_messages=3)
    for text, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("X", None), ("a3", "a")):
        assert outbox.offer(message(text, key=key)) is Verdict.QUEUED
    assert (outbox.messages, outbox.queued_bytes) == (3, 5)
    assert texts(outbox.take()) == "b1Xa3"
    assert counters.dropped == {"replaced": 2}
    # Different keys do fill it.
    assert [outbox.offer(message(key, key=key)) for key in "abcd"] == [0, 0, 0, Verdict.CLOSED]
    assert owner.told[-1] == "overflow"


async def test_one_message_may_exceed_the_budget_alone() -> None:
    outbox, _, _ = make(outbox_hard_bytes=10, outbox_soft_bytes=5)
    assert outbox.offer(message("x" * 100)) is Verdict.QUEUED
    assert outbox.offer(message("y")) is Verdict.CLOSED


async def test_soft_budget_may_be_exceeded_for_a_while(autojump_clock: MockClock) -> None:
    outbox, owner, _ = make(outbox_hard_bytes=100, outbox_soft_bytes=10, outbox_soft_time=10.0)
    outbox.offer(message("x" * 8))
    assert outbox.offer(message("x" * 8)) is Verdict.QUEUED  # the time begins
    await trio.sleep(9)
    assert outbox.offer(message("x" * 8)) is Verdict.QUEUED
    assert len(outbox.take(16)) == 2  # back within it: the time is forgotten
    outbox.offer(message("x" * 8))
    await trio.sleep(9)
    assert outbox.offer(message("x" * 8)) is Verdict.QUEUED
    await trio.sleep(1.5)
    assert outbox.offer(message("x")) is Verdict.CLOSED
    assert owner.told[-1] == "overflow"


async def test_soft_time_begins_anew_when_a_message_fits_again(autojump_clock: MockClock) -> None:
    outbox, _, _ = make(outbox_hard_bytes=100, outbox_soft_bytes=10, outbox_soft_time=10.0)
    outbox.offer(message("x" * 8))
    outbox.offer(message("x" * 8))
    await trio.sleep(20)
    outbox.take()
    outbox.offer(message("x" * 4))
    assert outbox.offer(message("x" * 4)) is Verdict.QUEUED
    assert outbox.offer(message("x" * 8)) is Verdict.QUEUED


# -- waiting for room ----------------------------------------------------------------


async def test_wait_room() -> None:
    outbox, _, _ = make(outbox_soft_bytes=10)
    passed: list[str] = []

    async def wait(name: str) -> None:
        await outbox.wait_room()
        passed.append(name)

    async with trio.open_nursery() as nursery:
        outbox.offer(message("x" * 10))
        await outbox.wait_room()
        outbox.offer(message("y" * 5))
        for name in "ab":
            nursery.start_soon(wait, name)
        with trio.move_on_after(0.01):
            await outbox.wait_room()
        await wait_all_tasks_blocked()
        assert passed == []
        outbox.take(1)
        await wait_all_tasks_blocked()
        assert sorted(passed) == ["a", "b"]


async def test_wait_room_ends_with_the_outbox() -> None:
    outbox, _, _ = make(outbox_soft_bytes=10)
    outbox.offer(message("x" * 20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.wait_room)
        await wait_all_tasks_blocked()
        outbox.close()


async def test_wait_room_behind_the_rest_of_one_large_frame() -> None:
    outbox, _, _ = make(outbox_soft_bytes=10)
    outbox.connect(lambda data: 1)
    outbox.offer(message("x" * 50))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.wait_room)
        await wait_all_tasks_blocked()
        assert len(outbox.take_tail()) == 51
        assert outbox.take() == []
        nursery.cancel_scope.deadline = trio.current_time() + 1
    assert not nursery.cancel_scope.cancelled_caught


# -- writing straight to a socket ------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected, non-blocking sockets with small buffers."""
    near, far = socket.socketpair()
    for one in (near, far):
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield near, far
    near.close()
    far.close()


Pair = tuple[socket.socket, socket.socket]


def frame(text: str) -> bytes:
    return message(text).build_frame()


def drain(far: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            more = far.recv(65_536)
        except BlockingIOError:
            return data
        if not more:
            return data
        data += more


async def test_empty_outbox_writes_at_once(pair: Pair) -> None:
    near, far = pair
    outbox, owner, _ = make()
    outbox.connect(near.send)
    assert outbox.offer(message("a")) is Verdict.QUEUED
    assert drain(far) == frame("a")
    assert (owner.told, outbox.queued_bytes) == ([], 0)


async def test_what_the_kernel_does_not_take_waits_in_order(pair: Pair) -> None:
    near, far = pair
    outbox, owner, _ = make()
    outbox.connect(near.send)
    large = "x" * 500_000
    outbox.offer(message(large))
    assert owner.told == ["backlog"]
    assert outbox.direct is None
    assert 0 < outbox.queued_bytes < 500_000
    outbox.offer(message("b"))
    assert outbox.offer_volatile(message("v")) is Verdict.DROPPED
    assert outbox.messages == 1
    received = drain(far)
    # What a writer does, with writes that are cut as well.
    while data := outbox.take_tail() + b"".join(one.build_frame() for one in outbox.take()):
        outbox.put_back(data[near.send(data) :])
        received += drain(far)
    outbox.resume_direct()
    assert received == frame(large) + frame("b")
    assert outbox.direct is not None
    outbox.offer(message("c"))
    assert drain(far) == frame("c")


async def test_full_kernel_takes_nothing(pair: Pair) -> None:
    near, _ = pair
    with pytest.raises(BlockingIOError):
        while True:
            near.send(b"x" * 4096)
    outbox, owner, _ = make()
    outbox.connect(near.send)
    assert outbox.offer(message("a")) is Verdict.QUEUED
    assert outbox.take_tail() == frame("a")
    assert owner.told == ["backlog"]


async def test_resume_only_when_nothing_waits() -> None:
    outbox, _, _ = make()
    outbox.offer(message("a"))
    outbox.connect(len)
    assert outbox.direct is None
    outbox.take()
    outbox.resume_direct()
    assert outbox.direct is len
    outbox.close()
    outbox.resume_direct()
    assert outbox.direct is None


@pytest.mark.parametrize("corked", [False, True])
async def test_peer_that_is_gone(pair: Pair, corked: bool) -> None:
    near, far = pair
    far.close()
    outbox, owner, _ = make()
    outbox.connect(near.send)
    if corked:
        outbox.cork()
        assert outbox.offer(message("a")) is Verdict.QUEUED
        outbox.uncork()
    else:
        assert outbox.offer(message("a")) is Verdict.CLOSED
    assert owner.told == ["broken"]
    assert outbox.offer(message("b")) is Verdict.CLOSED
    assert outbox.offer_volatile(message("b")) is Verdict.CLOSED


# -- gathering ---------------------------------------------------------------------------


async def test_what_is_sent_while_corked_goes_out_in_one_write() -> None:
    writes: list[bytes] = []

    def send(data: bytes) -> int:
        writes.append(data)
        return len(data)

    outbox, _, _ = make()
    outbox.connect(send)
    outbox.cork()
    outbox.offer(message("a"))
    outbox.offer(message("b"))
    assert outbox.offer_volatile(message("v")) is Verdict.DROPPED
    assert writes == []
    outbox.uncork()
    outbox.uncork()
    assert writes == [frame("a") + frame("b")]
    outbox.cork()
    assert outbox.offer_volatile(message("v")) is Verdict.QUEUED
    outbox.uncork()
    outbox.cork()
    outbox.uncork()
    assert writes[1:] == [frame("v")]
    assert outbox.direct is send


async def test_gathering_is_bounded() -> None:
    writes: list[int] = []

    def send(data: bytes) -> int:
        writes.append(len(data))
        return len(data)

    outbox, _, _ = make()
    outbox.connect(send)
    outbox.cork()
    for _ in range(5):
        outbox.offer(message("x" * 30_000))
    assert [size // 30_000 for size in writes] == [3]
    outbox.uncork()
    assert [size // 30_000 for size in writes] == [3, 2]


async def test_uncorking_into_a_full_kernel_keeps_the_order() -> None:
    outbox, owner, _ = make()
    outbox.connect(lambda data: 3)
    outbox.cork()
    outbox.offer(message("a"))
    outbox.offer(message("b"))
    outbox.uncork()
    outbox.offer(message("c"))
    assert owner.told == ["backlog", "backlog"]
    assert outbox.take_tail() == (frame("a") + frame("b"))[3:]
    assert texts(outbox.take()) == "c"


async def test_uncorking_where_the_kernel_blocks() -> None:
    def send(data: bytes) -> int:
        raise BlockingIOError

    outbox, owner, _ = make()
    outbox.connect(send)
    outbox.cork()
    outbox.offer(message("a"))
    outbox.uncork()
    assert (owner.told, outbox.take_tail()) == (["backlog"], frame("a"))


async def test_corked_outbox_that_closes_writes_what_it_has() -> None:
    writes: list[bytes] = []

    def send(data: bytes) -> int:
        writes.append(data)
        return len(data)

    outbox, _, _ = make()
    outbox.connect(send)
    outbox.cork()
    outbox.offer(message("a"))
    outbox.close()
    assert writes == [frame("a")]
    assert outbox.offer(message("b")) is Verdict.CLOSED


async def test_cork_is_nothing_without_direct_writes() -> None:
    outbox, _, _ = make()
    outbox.cork()
    outbox.offer(message("a"))
    outbox.uncork()
    assert texts(outbox.take()) == "a"


async def test_volatile_asks_the_transport_where_writes_are_not_direct() -> None:
    outbox, owner, counters = make()
    assert outbox.offer_volatile(message("a")) is Verdict.QUEUED
    outbox.take()
    owner.writable = False
    assert outbox.offer_volatile(message("b")) is Verdict.DROPPED
    assert counters.dropped == {"volatile": 1}


async def test_discard_forgets_what_is_queued() -> None:
    outbox, _, _ = make()
    outbox.discard()
    outbox, owner, _ = make()
    outbox.offer(message("a"))
    outbox.put_back(b"rest")
    outbox.discard()
    assert (outbox.queued_bytes, outbox.messages, outbox.closed) == (0, 0, True)
    outbox.fail()
    outbox.stall()
    assert owner.told == ["backlog", "broken", "overflow"]
