"""Streams in memory: trio's own checks, and the bound that trio's memory streams lack."""

from __future__ import annotations

import pytest
import trio
from trio.testing import check_half_closeable_stream

from broker.testing.pipes import Pipe, VirtualStream, stream_pair


async def test_they_pass_the_checks_of_trio(autojump_clock):
    async def make() -> tuple[VirtualStream, VirtualStream]:
        return stream_pair(1_000)

    async def make_clogged() -> tuple[VirtualStream, VirtualStream]:
        ends = stream_pair(16)
        for end in ends:
            with trio.move_on_after(1):
                await end.send_all(bytes(17))
        return ends

    await check_half_closeable_stream(make, make_clogged)


async def test_a_full_buffer_makes_the_sender_wait(autojump_clock):
    sender, receiver = stream_pair(10)
    sent = trio.Event()

    async def send() -> None:
        await sender.send_all(bytes(range(25)))
        sent.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert sender.outgoing.queued_bytes == 10
        data = await receiver.receive_some(4)
        await trio.testing.wait_all_tasks_blocked()
        assert sender.outgoing.queued_bytes == 10
        assert not sent.is_set()
        while len(data) < 25:
            data += await receiver.receive_some()
        assert data == bytes(range(25))
        await sent.wait()


async def test_latency_delays_and_keeps_the_order(autojump_clock):
    sender, receiver = stream_pair()
    sender.outgoing.latency = 2.0
    start = trio.current_time()
    await sender.send_all(b"a")
    sender.outgoing.latency = 0.0
    await sender.send_all(b"b")
    assert await receiver.receive_some() == b"ab"
    assert trio.current_time() - start == 2.0


async def test_a_trickle_is_slow(autojump_clock):
    sender, receiver = stream_pair()
    sender.outgoing.trickle = (2, 1.0)
    start = trio.current_time()
    await sender.send_all(b"abcde")
    assert [await receiver.receive_some() for _ in range(3)] == [b"ab", b"cd", b"e"]
    assert trio.current_time() - start == 2.0


async def test_a_cut_comes_after_the_byte_it_was_told(autojump_clock):
    sender, receiver = stream_pair()
    sender.outgoing.cut_after = 3
    await sender.send_all(b"abcde")
    assert await receiver.receive_some() == b"abc"
    with pytest.raises(trio.BrokenResourceError):
        await receiver.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await sender.send_all(b"f")


async def test_what_is_held_arrives_later(autojump_clock):
    sender, receiver = stream_pair()
    pipe = sender.outgoing
    pipe.held = True
    await sender.send_all(b"a")
    await sender.aclose()
    with trio.move_on_after(10) as waited:
        await receiver.receive_some()
    assert waited.cancelled_caught
    pipe.held = False
    pipe.wake()
    assert await receiver.receive_some() == b"a"
    assert await receiver.receive_some() == b""


def test_a_pipe_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 1 byte"):
        Pipe(0)
