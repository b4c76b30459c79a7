"""The queue of events that are sent again until they are acknowledged, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.errors import AckTimeout, Disconnected
from broker.flow.outbox import Verdict
from protocol import ClientReason

from .errors import BufferFull
from .offline import Pending, SendBuffer
from .replies import Reply

logger = logging.getLogger(__name__)

Request = Callable[[EncodedMessage, float], Awaitable[Sequence[Any]]]


class RetryQueue:
    """At least once, in order, with one event in flight. Its payload is that of the first time.

    Args:
        room: Waits until a message of so many bytes may be sent.
        request: Sends a message with a new ack id, and returns the ack.
        retries: How often an event is sent again.
        timeout: Seconds to wait for each ack.
        buffer: Holds what waits.

    Attributes:
        failed: Events given up.
    """

    def __init__(
        self,
        room: Callable[[int], Awaitable[None]],
        request: Request,
        retries: int,
        timeout: float,
        buffer: SendBuffer,
    ) -> None:
        self._room = room
        self._request = request
        self._retries = retries
        self._timeout = timeout
        self._buffer = buffer
        self._news = trio.Event()
        self._current: Pending | None = None
        self._sent = False
        self._delivery = trio.CancelScope()
        self._idle: trio.Event | None = None
        self.failed = 0

    def __len__(self) -> int:
        return len(self._buffer) + (self._current is not None)

    def put(self, message: EncodedMessage) -> Verdict:
        """Add an event.

        Raises:
            BufferFull: There is no room, and the policy is to raise.
        """
        return self._put(Pending(message, is_event=True))

    def _put(self, pending: Pending) -> Verdict:
        verdict = self._buffer.offer(pending)
        self._news.set()
        return verdict

    async def wait_room(self, size: int) -> None:
        """Wait until a message of this size may come in."""
        await self._buffer.wait_room(size)

    async def call(self, message: EncodedMessage, timeout: float | None) -> Sequence[Any]:
        """Add an event and wait for its ack; cancelled, take it back if it has not been sent.

        Raises:
            AckTimeout: No ack within `timeout` seconds, or it was given up.
            Disconnected: There is no connection, and none will come.
            BufferFull: There is no room, or it gave way to a newer one.
        """
        reply = Reply()
        pending = Pending(message, None, reply, is_event=True)
        if self._put(pending) is Verdict.DROPPED:
            raise BufferFull("there is no room for another event")
        try:
            return await reply.wait(timeout)
        finally:
            if not self._buffer.discard(pending) and pending is self._current and not self._sent:
                self._delivery.cancel()

    def release(self, reason: ClientReason) -> None:
        """Let go of callers, and of those who wait in `wait_idle`: there will be no connection."""
        self._buffer.release(reason)
        current = self._current
        if current is not None and current.reply is not None:
            current.reply.fail(Disconnected(reason))
            self._delivery.cancel()
        self._wake_idle()

    async def wait_idle(self) -> None:
        """Wait until no event waits, or there is no connection for those that do."""
        if self._idle is None:
            self._idle = trio.Event()
        await self._idle.wait()

    def _wake_idle(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            taken = self._buffer.take(1)
            if not taken:
                self._wake_idle()
                self._news = trio.Event()
                await self._news.wait()
                continue
            self._current, self._sent = taken[0], False
            try:
                with trio.CancelScope() as self._delivery:
                    await self._deliver(taken[0])
            finally:
                self._current = None

    async def _deliver(self, pending: Pending) -> None:
        for left in range(self._retries, -1, -1):
            try:
                await self._room(pending.message.size)
                self._sent = True
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
