"""What waits to be sent, within a bound, and what gives way when it is full."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.errors import Disconnected
from broker.flow.outbox import Verdict
from protocol import ClientReason

from .errors import BufferFull
from .replies import Reply


class OfflinePolicy(StrEnum):
    """What to do with a message for which there is no room."""

    RAISE = "raise"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class Pending:
    """One message that waits.

    Attributes:
        message: The message.
        ack_id: The id its ack is asked for with, or None.
        reply: Who waits for that ack; told if the message gives way to another one.
        is_event: Whether it is an event of the application; all else may not be dropped.
    """

    __slots__ = ("ack_id", "is_event", "message", "reply")

    def __init__(
        self,
        message: EncodedMessage,
        ack_id: int | None = None,
        reply: Reply | None = None,
        is_event: bool = False,
    ) -> None:
        self.message = message
        self.is_event = is_event
        self.ack_id = ack_id
        self.reply = reply


class SendBuffer:
    """Messages in order, bounded in number and bytes.

    Args:
        limit_messages: How many may wait.
        limit_bytes: How many bytes they may have together.
        policy: What gives way when either is reached.

    Attributes:
        dropped: How many have given way.
    """

    __slots__ = ("_bytes", "_limit_bytes", "_limit_messages", "_policy", "_room", "_waiting", "dropped")

    def __init__(self, limit_messages: int, limit_bytes: int, policy: OfflinePolicy) -> None:
        self._limit_messages = limit_messages
        self._limit_bytes = limit_bytes
        self._policy = policy
        self._waiting: deque[Pending] = deque()
        self._bytes = 0
        self._room: trio.Event | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, size: int) -> bool:
        """Tell whether a message of this size may come in; one that comes first always may."""
        if not self._waiting:
            return True
        return len(self._waiting) < self._limit_messages and self._bytes + size <= self._limit_bytes

    @property
    def is_over(self) -> bool:
        """Whether more waits than may, which are messages that may not be dropped."""
        return len(self._waiting) > self._limit_messages or (
            self._bytes > self._limit_bytes and len(self._waiting) > 1
        )

    async def wait_not_over(self) -> None:
        """Wait until no more waits than may."""
        while self.is_over:
            await self._wait_taken()

    async def wait_room(self, size: int) -> None:
        """Wait until a message of this size may come in."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.has_room(size):
            await self._wait_taken()

    async def _wait_taken(self) -> None:
        if self._room is None:
            self._room = trio.Event()
        await self._room.wait()

    def offer(self, pending: Pending) -> Verdict:
        """Take in a message, or do with it what the policy says.

        Raises:
            BufferFull: There is no room, and the policy is to raise.
        """
        size = pending.message.size
        if pending.is_event and not self.has_room(size):
            if self._policy is OfflinePolicy.RAISE:
                raise BufferFull(
                    f"{len(self._waiting)} messages of {self._bytes} bytes wait to be sent already"
                )
            if self._policy is OfflinePolicy.DROP_NEWEST or not self._make_room(size):
                self.dropped += 1
                return Verdict.DROPPED
        self.put(pending)
        return Verdict.QUEUED

    def put(self, pending: Pending) -> None:
        """Take in a message whatever room there is."""
        self._waiting.append(pending)
        self._bytes += pending.message.size

    def _make_room(self, size: int) -> bool:
        """Drop the oldest until there is room; False if what is left may not be dropped."""
        while not self.has_room(size):
            oldest = next((item for item in self._waiting if item.is_event), None)
            if oldest is None:
                return False
            self.discard(oldest)
            self.dropped += 1
            if oldest.reply is not None:
                oldest.reply.fail(BufferFull("gave way to a newer message"))
        return True

    def discard(self, pending: Pending) -> bool:
        """Take out a message that nobody waits for any more; False if it is not here."""
        try:
            self._waiting.remove(pending)
        except ValueError:
            return False
        self._taken(pending)
        return True

    def release(self, reason: ClientReason) -> None:
        """Let go of those who wait for a reply; events of nobody else stay."""
        for pending in self.take():
            if pending.reply is None:
                self.put(pending)
            else:
                pending.reply.fail(Disconnected(reason))

    def take(self, most: int | None = None) -> list[Pending]:
        """Take out the first `most` messages, or all."""
        count = len(self._waiting) if most is None else min(most, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        for pending in taken:
            self._taken(pending)
        return taken

    def _taken(self, pending: Pending) -> None:
        self._bytes -= pending.message.size
        if self._room is not None:
            self._room.set()
            self._room = None
