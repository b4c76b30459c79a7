"""The way out of one session: budgets, policies, direct writes over a real socket, gathering."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker import Verdict
from broker.flow.budget import Budget
from broker.flow.counters import Counters
from broker.flow.encoded import ControlMessage, EncodedMessage
from broker.flow.outbox import Outbox
from broker.flow.overflow import Overflow
from protocol import Limits


class Owner:
    """The session behind an outbox: keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.writable = True

    def on_overflow(self) -> None:
        self.told.append("overflow")

    def on_evicted(self) -> None:
        self.told.append("evicted")

    def on_broken(self) -> None:
        self.told.append("broken")

    def on_backlog(self) -> None:
        self.told.append("backlog")

    def is_writable(self) -> bool:
        return self.writable


def make(budget: Budget | None = None, **limits: Any) -> tuple[Outbox, Owner, Counters]:
    owner, counters = Owner(), Counters()
    return Outbox(Limits(**limits), counters, owner, budget), owner, counters


def message(text: str, overflow: str = "disconnect", key: str | None = None) -> EncodedMessage:
    made = EncodedMessage(text.encode())
    made.overflow = Overflow(overflow)
    made.key = None if key is None else ("/", key)
    return made


def texts(messages: list[EncodedMessage]) -> str:
    return "".join(one.text.decode() for one in messages)


# -- budgets and policies ---------------------------------------------------------


async def test_disconnect_is_the_default() -> None:
    outbox, owner, counters = make(outbox_messages=2)
    assert [outbox.offer(message(letter)) for letter in "abcd"] == [0, 0, Verdict.CLOSED, Verdict.CLOSED]
    assert owner.told == ["backlog", "backlog", "overflow"]
    assert counters.dropped == {"slow consumer": 1, "closed": 1}
    outbox.discard()
    assert counters.dropped == {"slow consumer": 3, "closed": 1}


@pytest.mark.parametrize(("policy", "cause"), [("drop_newest", "newest"), ("wait", "would wait")])
async def test_policies_that_drop_the_new_one(policy: str, cause: str) -> None:
    outbox, owner, counters = make(outbox_messages=2)
    assert [outbox.offer(message(letter, policy)) for letter in "abc"] == [0, 0, Verdict.DROPPED]
    assert texts(outbox.take()) == "ab"
    assert (owner.told, counters.dropped) == (["backlog"] * 2, {cause: 1})


async def test_drop_oldest_never_reorders() -> None:
    outbox, _, counters = make(outbox_messages=3)
    outbox.offer(message("A"))
    assert [outbox.offer(message(letter, "drop_oldest")) for letter in "bcdef"] == [Verdict.QUEUED] * 5
    assert texts(outbox.take()) == "Aef"
    assert counters.dropped == {"oldest": 3}


async def test_drop_oldest_drops_as_many_as_it_takes() -> None:
    outbox, _, counters = make(outbox_hard_bytes=10, outbox_soft_bytes=10)
    for letter in "abcd":
        outbox.offer(message(letter * 2, "drop_oldest"))
    assert outbox.offer(message("e" * 7, "drop_oldest")) is Verdict.QUEUED
    assert texts(outbox.take()) == "dd" + "e" * 7
    assert counters.dropped == {"oldest": 3}


@pytest.mark.parametrize("waiting", ["disconnect", "drop_newest", "wait"])
async def test_no_policy_drops_what_was_sent_with_another(waiting: str) -> None:
    outbox, owner, counters = make(outbox_messages=2)
    for letter in "ab":
        outbox.offer(message(letter, waiting))
    assert outbox.offer(message("c", "drop_oldest")) is Verdict.DROPPED
    assert counters.dropped == {"newest": 1}
    assert "overflow" not in owner.told
    assert texts(outbox.take()) == "ab"


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "keep_latest", "wait"])
async def test_what_may_not_be_dropped_ends_the_session(policy: str) -> None:
    outbox, owner, _ = make(outbox_messages=2)
    for letter in "ab":
        outbox.offer(message(letter, policy, "k" + letter))
    assert outbox.offer(message("c")) is Verdict.CLOSED
    assert owner.told[-1] == "overflow"


async def test_keep_latest() -> None:
    outbox, owner, counters = make(outbox_messages=3)
    for text, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("X", None), ("a3", "a")):
        assert outbox.offer(message(text, "keep_latest" if key else "disconnect", key)) is Verdict.QUEUED
    assert (outbox.messages, outbox.queued_bytes) == (3, 5)
    assert texts(outbox.take()) == "b1Xa3"
    assert counters.dropped == {"replaced": 2}
    # Different keys do fill it.
    assert [outbox.offer(message(key, "keep_latest", key)) for key in "abcd"] == [0, 0, 0, Verdict.CLOSED]
    assert owner.told[-1] == "overflow"


async def test_one_message_may_exceed_the_budget_alone() -> None:
    outbox, _, _ = make(outbox_hard_bytes=10, outbox_soft_bytes=5)
    assert outbox.offer(message("x" * 100)) is Verdict.QUEUED
    assert outbox.offer(message("y" * 10)) is Verdict.QUEUED
    assert outbox.offer(message("z")) is Verdict.CLOSED
    outbox, _, _ = make(outbox_hard_bytes=10, outbox_soft_bytes=5)
    assert outbox.offer(message("x" * 10)) is Verdict.QUEUED
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
        write(outbox, 1_000)
        nursery.cancel_scope.deadline = trio.current_time() + 1
    assert not nursery.cancel_scope.cancelled_caught


# -- writing -----------------------------------------------------------------------------


def write(outbox: Outbox, room: int) -> bytes:
    """Do what a writer does, for a kernel that takes `room` bytes; return what it took."""
    taken = b""
    while buffers := outbox.front(40, EncodedMessage.build_frame):
        data = b"".join(buffers)[: room - len(taken)]
        taken += data
        if not outbox.advance(buffers, len(data)):
            break
    return taken


@pytest.mark.parametrize("room", [1, 2, 3, 4, 7, 50, 1_000])
async def test_what_is_not_written_is_counted_to_the_message(room: int) -> None:
    outbox, _, counters = make()
    outbox.connect(lambda data: min(room, len(data)))
    for number in range(20):
        assert outbox.offer(message(f"<{number}>")) is Verdict.QUEUED
    stream = b"".join(frame(f"<{number}>") for number in range(20))
    assert stream.endswith(write(outbox, 1_000))
    outbox, _, counters = make()
    for number in range(20):
        outbox.offer(message(f"<{number}>"))
    written = write(outbox, room)
    assert stream.startswith(written)
    outbox.discard()
    whole = sum(len(stream) >= 0 and written.find(b"<%d>" % number) >= 0 for number in range(20))
    assert counters.dropped["unsent"] == 20 - whole
    assert (outbox.held_bytes, outbox.queued_bytes) == (0, 0)


async def test_a_ping_goes_behind_the_begun_message_and_ahead_of_the_others() -> None:
    outbox, owner, counters = make()
    outbox.connect(lambda data: 2)
    outbox.offer(message("begun"))
    outbox.offer(message("waits"))
    assert outbox.offer_urgent(ControlMessage(b"2")) is Verdict.QUEUED
    assert outbox.has_urgent
    assert owner.told == ["backlog"] * 3
    assert write(outbox, 8) == frame("begun")[2:] + frame("2")[:3]
    assert not outbox.has_urgent
    assert write(outbox, 100) == frame("waits")
    outbox.resume_direct()
    outbox.offer_urgent(ControlMessage(b"2"))
    assert write(outbox, 100) == frame("2")[2:]
    outbox.close()
    assert outbox.offer_urgent(ControlMessage(b"2")) is Verdict.CLOSED
    assert counters.dropped == {}


async def test_a_ping_is_taken_first_by_whole_messages_too() -> None:
    outbox, _, counters = make()
    for letter in "abc":
        outbox.offer(message(letter))
    outbox.offer_urgent(ControlMessage(b"2"))
    assert texts(outbox.take(max_packets=1)) == "2"
    outbox.offer_urgent(ControlMessage(b"2"))
    batch = outbox.take(max_packets=3)
    assert texts(batch) == "2ab"
    assert (outbox.queued_bytes, outbox.held_bytes) == (1, 5)  # the first PING is under way still
    outbox.sent(batch[:2])
    outbox.lost(batch[2:])
    assert counters.dropped == {"unsent": 1}
    outbox.discard()
    outbox.sent([ControlMessage(b"2")])
    assert (counters.dropped, outbox.held_bytes) == ({"unsent": 2}, 0)


async def test_one_large_message_under_way_makes_nobody_slow() -> None:
    outbox, owner, _ = make(outbox_hard_bytes=100, outbox_soft_bytes=50)
    outbox.connect(lambda data: 10)
    outbox.offer(message("x" * 10_000))
    assert [outbox.offer(message("y" * 40)) for _ in range(3)] == [0, 0, Verdict.CLOSED]
    assert owner.told[-1] == "overflow"


# -- the budget of all -------------------------------------------------------------------


async def test_the_largest_outbox_is_evicted_first() -> None:
    budget = Budget(100)
    small, small_owner, _ = make(budget)
    large, large_owner, counters = make(budget)
    small.offer(message("a" * 30))
    large.offer(message("b" * 30))
    large.offer(message("c" * 31))
    assert budget.total == 91
    assert small.offer(message("d" * 10)) is Verdict.QUEUED
    assert (budget.total, large.closed, small.closed) == (40, True, False)
    assert (large_owner.told[-1], small_owner.told[-1]) == ("evicted", "backlog")
    assert counters.dropped == {"evicted": 2}
    write(small, 1_000)
    assert budget.total == 0


async def test_who_offers_may_be_the_one_who_goes() -> None:
    budget = Budget(100)
    outbox, owner, counters = make(budget)
    outbox.offer(message("a" * 60))
    assert outbox.offer(message("b" * 60)) is Verdict.QUEUED  # and dropped at once, which is counted
    assert (budget.total, counters.dropped, owner.told[1]) == (0, {"evicted": 2}, "evicted")


@pytest.mark.parametrize(("size", "stays"), [(60_000, True), (70_000, False)])
async def test_an_evicted_peer_gets_the_rest_of_a_short_begun_message(size: int, stays: bool) -> None:
    budget = Budget(80_000)
    outbox, _, counters = make(budget)
    outbox.connect(lambda data: 100)
    outbox.offer(message("x" * size))
    outbox.offer(message("y" * 30_000))
    assert outbox.closed
    assert outbox.stalled is not stays
    assert bool(outbox.begun_bytes) is stays
    assert budget.total == outbox.begun_bytes
    other, _, _ = make(budget)
    other.offer(message("z" * 30_000))
    # Nothing more can be had from the one that is evicted already.
    assert other.closed is stays
    outbox.discard()
    assert counters.dropped == {"evicted": 2}


async def test_the_budget_is_kept_by_whatever_takes_messages_out() -> None:
    budget = Budget(1_000)
    outbox, _, _ = make(budget, outbox_messages=3)
    for number in range(9):
        outbox.offer(message(f"{number}", "drop_oldest"))
        assert budget.total == outbox.held_bytes == outbox.queued_bytes
    batch = outbox.take()
    assert (budget.total, outbox.queued_bytes) == (3, 0)
    outbox.sent(batch)
    assert budget.total == 0


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
    while buffers := outbox.front(65_536, EncodedMessage.build_frame):
        outbox.advance(buffers, near.sendmsg(buffers))
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
    assert (outbox.begun_bytes, texts(outbox.take())) == (0, "a")
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
    outbox, owner, counters = make()
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
    outbox.discard()
    assert counters.dropped == ({"closed": 2, "unsent": 1} if corked else {"closed": 3})


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
    assert outbox.begun_bytes == 0
    assert texts(outbox.take()) == "bc"


async def test_uncorking_where_the_kernel_blocks() -> None:
    def send(data: bytes) -> int:
        raise BlockingIOError

    outbox, owner, _ = make()
    outbox.connect(send)
    outbox.cork()
    outbox.offer(message("a"))
    outbox.uncork()
    assert (owner.told, outbox.begun_bytes, texts(outbox.take())) == (["backlog"], 0, "a")


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
    outbox, owner, counters = make()
    outbox.connect(lambda data: 1)
    outbox.offer(message("a"))
    outbox.offer(message("b"))
    outbox.discard()
    assert (outbox.queued_bytes, outbox.messages, outbox.closed) == (0, 0, True)
    outbox.fail()
    outbox.stall()
    assert owner.told == ["backlog", "backlog", "broken", "overflow"]
    assert counters.dropped == {"unsent": 2}
