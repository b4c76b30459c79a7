"""What waits in an outbox, how writers take it, and the count of what they never could."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import inf

import trio

from protocol import Limits

from .backlog import Backlog
from .budget import Budget
from .counters import Counters
from .encoded import EncodedMessage, Key

_MAX_BUFFERS = 512  # what one write may consist of; Linux takes 1,024

Buffer = bytes | memoryview
Frame = Callable[[EncodedMessage], bytes]


class Waiting(ABC):
    """The waiting half of an outbox; see `Outbox`.

    A message is either here, or the kernel (or whoever writes for us) has all of it, or it is counted in
    `Counters.dropped`: so the counts tell exactly what a client has not been sent.

    Args:
        limits: The byte, message and time budgets.
        counters: Where drops are counted.
        budget: That of all outboxes together.

    Attributes:
        closed: Whether nothing more is accepted.
        held_bytes: All that waits or is being written.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_begun",
        "_budget",
        "_counters",
        "_in_flight_bytes",
        "_limits",
        "_lost_to",
        "_room",
        "_soft_since",
        "_tail",
        "_urgent",
        "closed",
        "held_bytes",
    )

    def __init__(self, limits: Limits, counters: Counters, budget: Budget | None) -> None:
        self._limits = limits
        self._counters = counters
        self._budget = budget
        self._tail: Buffer = b""
        self._begun: EncodedMessage | None = None
        self._urgent: EncodedMessage | None = None
        self._backlog: Backlog | None = None
        self._in_flight_bytes = 0
        self._soft_since = inf
        self._room: trio.Event | None = None
        self._lost_to: str | None = None
        self.held_bytes = 0
        self.closed = False

    @property
    def queued_bytes(self) -> int:
        """What waits to be written, in bytes."""
        queued = 0 if self._backlog is None else self._backlog.bytes
        urgent = 0 if self._urgent is None else self._urgent.size
        return queued + len(self._tail) + urgent

    @property
    def begun_bytes(self) -> int:
        """The rest of the message that is being written."""
        return len(self._tail)

    @property
    def messages(self) -> int:
        """How many messages wait behind the begun one."""
        return 0 if self._backlog is None else len(self._backlog)

    @property
    def has_urgent(self) -> bool:
        """Whether a PING waits to be written."""
        return self._urgent is not None

    def _put(self, message: EncodedMessage) -> None:
        if self._backlog is None:
            self._backlog = Backlog()
        self._backlog.put(message)
        self._account()

    def _put_urgent(self, message: EncodedMessage) -> None:
        self._urgent = message
        self._account()

    def _has_room(self, message: EncodedMessage) -> bool:
        backlog = self._backlog
        if not backlog:
            return True  # one message alone may exceed the budget, else it could never be sent
        limits = self._limits
        first = backlog.first.size
        # Such a message does not make its receiver slow: what waits behind it is bounded as ever.
        total = backlog.bytes + message.size - (first if first > limits.outbox_hard_bytes else 0)
        if total > limits.outbox_hard_bytes or len(backlog) >= limits.outbox_messages:
            return False
        if total <= limits.outbox_soft_bytes:
            self._soft_since = inf
            return True
        now = trio.current_time()
        self._soft_since = min(self._soft_since, now)
        return now - self._soft_since <= limits.outbox_soft_time

    def _drop_oldest(self) -> bool:
        dropped = self._backlog is not None and self._backlog.drop_oldest()
        self._account()
        return dropped

    def _drop_key(self, key: Key) -> bool:
        return self._backlog is not None and self._backlog.drop_key(key)

    def _keep(self, messages: Iterable[EncodedMessage], sent: int) -> None:
        """Keep what a write has left of these messages, of whose frames `sent` bytes have gone out."""
        if self._backlog is None:
            self._backlog = Backlog()
        for message in messages:
            frame = message.frame
            assert frame is not None
            if sent >= len(frame):
                sent -= len(frame)
            elif sent:
                self._begin(message, frame, sent)
                sent = 0
            else:
                self._backlog.put(message)
        self._account()

    def _begin(self, message: EncodedMessage | None, buffer: Buffer, sent: int) -> None:
        self._begun = message
        self._tail = memoryview(buffer)[sent:]

    def _account(self) -> None:
        """Tell the common budget what is held now."""
        before = self.held_bytes
        held = self.held_bytes = self.queued_bytes + self._in_flight_bytes
        if held != before and self._budget is not None:
            self._budget.note(self, before)

    # For writers that hand over whole messages

    def take(self, max_bytes: int = sys.maxsize, max_packets: int = sys.maxsize) -> list[EncodedMessage]:
        """Take what is queued, in order; the caller sends it, and says so by `sent`.

        Args:
            max_bytes: About how much to take.
            max_packets: How many Engine.IO packets the messages may make; the first is taken anyway.
        """
        batch: list[EncodedMessage] = []
        if self._urgent is not None:
            batch.append(self._urgent)
            self._urgent = None
            max_packets -= 1
        if self._backlog and max_packets > 0:
            batch += self._backlog.take(max_bytes, max_packets)
        if batch:
            self._in_flight_bytes += sum(message.size for message in batch)
            self._moved()
        return batch

    def sent(self, messages: Sequence[EncodedMessage]) -> None:
        """Note that messages which were taken are on their way."""
        landed = sum(message.size for message in messages)
        self._in_flight_bytes = max(0, self._in_flight_bytes - landed)
        self._account()

    def lost(self, messages: Sequence[EncodedMessage]) -> None:
        """Note that messages which were taken could not be sent."""
        self._lose(messages)
        self.sent(messages)

    def _moved(self) -> None:
        """Take note that there is more room now."""
        self._account()
        if self.queued_bytes <= self._limits.outbox_soft_bytes:
            self._soft_since = inf
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def wait_room(self) -> None:
        """Wait until the queue is within its soft budget, or the outbox is closed. Cancellation is safe."""
        while not self.has_room:
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()
        await trio.lowlevel.checkpoint()

    @property
    def has_room(self) -> bool:
        """Whether a patient sender may go on: the queue is within its soft budget, or all is over."""
        return self.queued_bytes <= self._limits.outbox_soft_bytes or self.closed

    # For writers that hand over bytes

    def front(self, max_bytes: int, frame_of: Frame) -> list[Buffer]:
        """Return what is to be written next, one buffer a message; it stays until `advance`.

        Args:
            max_bytes: About how much to return.
            frame_of: Builds the bytes of a message.
        """
        buffers: list[Buffer] = [self._tail] if self._tail else []
        if self._urgent is not None:
            buffers.append(frame_of(self._urgent))
        max_bytes -= sum(map(len, buffers))
        for message in islice(self._backlog or (), _MAX_BUFFERS):
            if max_bytes <= 0:
                break
            buffers.append(frame_of(message))
            max_bytes -= message.size
        return buffers

    def advance(self, buffers: Sequence[Buffer], sent: int) -> bool:
        """Note how many bytes of `front` have been written; tells whether that was all of them."""
        complete = True
        for buffer in buffers:
            if sent < len(buffer):
                complete = False
                if sent:
                    self._begin(self._pop_front(), buffer, sent)
                break
            sent -= len(buffer)
            self._pop_front()
        self._moved()
        return complete

    def _pop_front(self) -> EncodedMessage | None:
        """Take away what is first: the rest of the begun message, the PING, or the next message."""
        if self._tail:
            begun, self._begun, self._tail = self._begun, None, b""
            return begun
        if self._urgent is not None:
            urgent, self._urgent = self._urgent, None
            return urgent
        assert self._backlog is not None
        return self._backlog.pop()

    # The end

    @abstractmethod
    def evict(self) -> None:
        """Give up what waits, and have the session end."""

    def drop_waiting(self) -> None:
        """Drop and count all but the begun message, whose rest a farewell has to follow."""
        self._urgent = None
        backlog, self._backlog = self._backlog, None
        self._lose(backlog or ())
        self._account()

    def _drop_begun(self) -> None:
        begun, self._begun, self._tail = self._begun, None, b""
        self._lose(() if begun is None else (begun,))
        self._account()

    def _lose(self, messages: Iterable[EncodedMessage]) -> None:
        lost = sum(message.is_counted for message in messages)
        if lost:
            cause = self._blame("unsent") if self.closed else "unsent"
            self._counters.dropped[cause] += lost

    def _blame(self, cause: str) -> str:
        """Note why what waits will be lost; the first cause stays."""
        self._lost_to = self._lost_to or cause
        return self._lost_to
