"""The queue of events that are sent again until they are acknowledged, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.errors import AckTimeout, Disconnected
from broker.flow.outbox import Verdict

from .offline import Pending, SendBuffer
from .replies import Reply

logger = logging.getLogger(__name__)

Request = Callable[[EncodedMessage, float], Awaitable[Sequence[Any]]]


class RetryQueue:
    """At least once, in order, with one event in flight. Its payload is that of the first time.

    Args:
        request: Waits for the connection, sends a message with a new ack id, and returns the ack.
        retries: How often an event is sent again.
        timeout: Seconds to wait for each ack.
        buffer: Holds what waits.

    Attributes:
        failed: Events given up.
    """

    def __init__(self, request: Request, retries: int, timeout: float, buffer: SendBuffer) -> None:
        self._request = request
        self._retries = retries
        self._timeout = timeout
        self._buffer = buffer
        self._news = trio.Event()
        self._busy = False
        self._idle: trio.Event | None = None
        self.failed = 0

    def __len__(self) -> int:
        return len(self._buffer) + self._busy

    def put(self, message: EncodedMessage, reply: Reply | None) -> Verdict:
        """Add an event; `reply` is told what became of it.

        Raises:
            BufferFull: There is no room, and the policy is to raise.
        """
        verdict = self._buffer.offer(Pending(message, None, reply, is_event=True))
        self._news.set()
        return verdict

    async def wait_room(self, size: int) -> None:
        """Wait until a message of this size may come in."""
        await self._buffer.wait_room(size)

    async def flush(self) -> None:
        """Wait until no event waits."""
        while len(self):
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            taken = self._buffer.take(1)
            if not taken:
                if self._idle is not None:
                    self._idle.set()
                    self._idle = None
                self._news = trio.Event()
                await self._news.wait()
                continue
            self._busy = True
            try:
                await self._deliver(taken[0])
            finally:
                self._busy = False

    async def _deliver(self, pending: Pending) -> None:
        for left in range(self._retries, -1, -1):
            try:
                values = await self._request(pending.message, self._timeout)
            except (AckTimeout, Disconnected) as error:
                if left == 0:
                    self._give_up(pending, error)
                continue
            if pending.reply is not None:
                pending.reply.settle(values)
            return

    def _give_up(self, pending: Pending, error: Exception) -> None:
        self.failed += 1
        if pending.reply is not None:
            pending.reply.fail(error)
            return
        logger.warning("an event was given up after %d tries: %s", self._retries + 1, error)
