"""A broker with its clients is cancelled at one step after another; it ends in good order at each of them."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from broker import AckTimeout, Broker, Disconnected, Limits, Socket
from broker.testing import open_harness
from broker.testing.determinism import fixed_order

SPARSE = 17  # every so many steps; a prime, so that no rhythm of the program hides some from it


class _StopAt(trio.abc.Instrument):
    """Cancels a scope when so many steps of tasks have begun."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


async def _live(step: int) -> bool:
    """Let a broker live with clients on each transport; return whether it was cancelled before their end."""
    limits = Limits(close_timeout=0.5, cleanup_timeout=0.5)
    broker = Broker(ping_interval=1.0, ping_timeout=0.5, limits=limits)
    lives: Counter[str] = Counter()

    @broker.on("connect")
    async def connect(socket: Socket) -> None:
        lives[socket.id] += 1
        socket.join("room")
        await trio.sleep(0.01)

    @broker.on("disconnect")
    def disconnect(socket: Socket) -> None:
        lives[socket.id] -= 1

    @broker.on("ask")
    async def ask(socket: Socket, value: int) -> int:
        try:
            return int(await socket.call("question", value, timeout=1.0))
        except (AckTimeout, Disconnected):
            return -1

    with trio.CancelScope() as scope:
        trio.lowlevel.add_instrument(_StopAt(step, scope))
        async with open_harness(broker) as harness:
            for via in ("polling", "websocket", "upgrade"):
                client = await harness.connect(transport=via)
                client.client.on("question")(lambda value: value + 1)
                assert await client.client.call("ask", 1, timeout=2.0) == 2
                broker.to("room").emit("news", b"with bytes")
            await trio.sleep(2.0)
            await broker.drain(deadline=1.0)
    assert broker.statistics().sessions == 0
    assert broker.statistics().queued_bytes == 0
    assert not +lives, "a socket was let in and never told of its end"
    assert not -lives, "a socket was told twice of its end"
    return scope.cancelled_caught


def test_cancelled_at_one_step_after_another(caplog: pytest.LogCaptureFixture) -> None:
    tried = 0
    with fixed_order(1):
        step = 1
        while trio.run(_live, step, clock=MockClock(autojump_threshold=0)):
            step += SPARSE
            tried += 1
            assert [one for one in caplog.records if one.levelno >= logging.ERROR] == [], f"at step {step}"
    assert tried > 20
