"""The judge of hostile input: whoever holds up the broker is found, whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from broker import Socket
from tests.peers import client, plain_errors, quick_broker, serving

from .arena import TIMED, arena
from .judge import FLOOR, LONGEST_STEP, Outcome, judging

BLOCKED = 0.15
_QUIET = [0.001] * 20


def compute() -> None:
    """Take a processor for that time, however many others want it."""
    began = time.thread_time()
    while time.thread_time() - began < BLOCKED:
        pass


def wait() -> None:
    """Wait without a processor, as a blocking call does."""
    time.sleep(BLOCKED)


blocks = pytest.mark.parametrize("block", [compute, wait])


@blocks
async def test_a_handler_that_blocks_is_found(block: Callable[[], None]) -> None:
    broker = quick_broker(ping_interval=60.0)
    broker.on("block")(lambda socket: block())
    async with serving(broker) as server, client(server) as peer:
        with judging() as judge:
            await peer.send_text('421["block"]')
            await peer.expect("431[]")
            judge.taken = _QUIET
            outcome = judge.outcome(_QUIET)
        assert outcome.step >= BLOCKED
        with pytest.raises(AssertionError, match="has held up everybody"):
            outcome.check()


@blocks
async def test_what_the_attacker_does_is_not_the_fault_of_the_broker(block: Callable[[], None]) -> None:
    broker = quick_broker(ping_interval=60.0)
    async with serving(broker) as server, client(server) as peer:
        with judging() as judge:
            await peer.emit("echo", 1)
            block()
            await peer.expect('42["echo",1]')
            judge.taken = _QUIET
            outcome = judge.outcome(_QUIET)
        assert 0 < outcome.step < BLOCKED


def test_messages_that_take_longer_are_found() -> None:
    with pytest.raises(AssertionError, match="p99"):
        Outcome(during=FLOOR * 1.1, before=FLOOR * 0.5, step=LONGEST_STEP, task="", test="").check()
    Outcome(during=FLOOR * 1.1, before=FLOOR * 0.6, step=LONGEST_STEP, task="", test="").check()


@pytest.mark.skipif(not TIMED, reason="canaries are not timed")
@blocks
async def test_a_handler_that_blocks_once_fails_the_arena(block: Callable[[], None]) -> None:
    with pytest.raises(AssertionError, match="has held up everybody"), plain_errors():
        async with arena() as where, client(where.server) as peer:

            @where.broker.on("block")
            def on_block(socket: Socket) -> None:
                block()

            await peer.send_text('421["block"]')
            await peer.expect("431[]")
