"""The bounded, ordered way out of a session: straight to the kernel while it is empty, else a channel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum, StrEnum
from math import inf
from typing import Protocol

import trio

from protocol import Limits

from .backlog import Backlog
from .counters import Counters
from .encoded import EncodedMessage

_GATHER_BYTES = 65_536  # what is gathered while corked before it is written after all


class Verdict(IntEnum):
    """What became of a message; QUEUED means accepted, not received."""

    QUEUED = 0
    DROPPED = 1
    CLOSED = 2


_QUEUED = Verdict.QUEUED  # looking up a member of an enum costs as much as a call


class Overflow(StrEnum):
    """What to do when the budget is used up."""

    DISCONNECT = "disconnect"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    KEEP_LATEST = "keep_latest"


class OutboxOwner(Protocol):
    """The session behind an outbox; none of these may block."""

    def on_overflow(self) -> None:
        """End as a slow consumer."""

    def on_broken(self) -> None:
        """Note that a direct write failed: the peer is gone."""

    def on_backlog(self) -> None:
        """Start or wake the writer: something is queued."""

    def is_writable(self) -> bool:
        """Tell whether the transport would take a message at once, where it is not written directly."""


class Outbox:
    """What one peer has still to be sent.

    An empty outbox over a plain socket tries a non-blocking write in `offer` itself; what the kernel does not
    take waits in a bounded memory channel for the writer. Callers hand over whole messages and never wait.

    Args:
        limits: The byte, message and time budgets.
        counters: Where drops are counted.
        overflow: The policy when a budget is used up.
        owner: Told of overflow, of a broken connection and of a backlog.
    """

    __slots__ = (
        "_backlog",
        "_counters",
        "_gathered",
        "_gathered_bytes",
        "_gathering",
        "_limits",
        "_overflow",
        "_owner",
        "_room",
        "_send_now",
        "_soft_since",
        "_tail",
        "closed",
        "direct",
    )

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        overflow: Overflow,
        owner: OutboxOwner,
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._overflow = overflow
        self._owner = owner
        # `direct` is the one thing the hot path looks at: set only while a write may go straight out.
        self.direct: Callable[[bytes], int] | None = None
        self._send_now: Callable[[bytes], int] | None = None
        self._gathering = False
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._tail = b""
        self._backlog: Backlog | None = None
        self._soft_since = inf
        self._room: trio.Event | None = None
        self.closed = False

    # Offering

    def offer(self, message: EncodedMessage) -> Verdict:
        """Accept a message, in order, or say why not. Never waits."""
        send = self.direct
        if send is None:
            return self._offer_queued(message)
        frame = message.frame
        if frame is None:
            frame = message.build_frame()
        try:
            sent = send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._broken()
        if sent != len(frame):
            self.sent_part(frame, sent)
        return _QUEUED

    def sent_part(self, frame: bytes, sent: int) -> None:
        """Keep what the kernel did not take of a frame that somebody else wrote through `direct`."""
        self._keep_tail(frame[sent:])

    def offer_volatile(self, message: EncodedMessage) -> Verdict:
        """Accept a message only if nothing else waits. Spec: SIO-EVT-5."""
        if self.closed:
            return Verdict.CLOSED
        if self.queued_bytes or self._gathered:
            return self._drop("volatile")
        if self.direct is None and not self._gathering and not self._owner.is_writable():
            return self._drop("volatile")
        return self.offer(message)

    def _offer_queued(self, message: EncodedMessage) -> Verdict:
        if self.closed:
            return Verdict.CLOSED
        if self._gathering and not self.queued_bytes:
            return self._gather(message.frame or message.build_frame())
        if self._overflow is Overflow.KEEP_LATEST:
            self._drop_replaced(message.key)
        if not self._has_room(message):
            return self._overflowed(message)
        self._enqueue(message)
        return Verdict.QUEUED

    def _has_room(self, message: EncodedMessage) -> bool:
        limits = self._limits
        waiting = self.queued_bytes
        if not waiting:
            return True  # one message alone may exceed the budget, else it could never be sent
        total = waiting + message.size
        if total > limits.outbox_hard_bytes or self.messages >= limits.outbox_messages:
            return False
        if total <= limits.outbox_soft_bytes:
            self._soft_since = inf
            return True
        now = trio.current_time()
        self._soft_since = min(self._soft_since, now)
        return now - self._soft_since <= limits.outbox_soft_time

    def _overflowed(self, message: EncodedMessage) -> Verdict:
        policy = self._overflow if message.droppable else Overflow.DISCONNECT
        if policy is Overflow.DROP_NEWEST:
            return self._drop("newest")
        if policy is Overflow.DROP_OLDEST:
            while not (has_room := self._has_room(message)) and self._drop_oldest():
                pass
            if has_room:
                self._enqueue(message)
                return Verdict.QUEUED
        self.stall()
        return Verdict.CLOSED

    def _drop_replaced(self, key: str | None) -> None:
        if key is not None and self._backlog is not None and self._backlog.drop_key(key):
            self._counters.dropped["replaced"] += 1

    def _drop_oldest(self) -> bool:
        if self._backlog is None or not self._backlog.drop_oldest():
            return False
        self._counters.dropped["oldest"] += 1
        return True

    def _drop(self, cause: str) -> Verdict:
        self._counters.dropped[cause] += 1
        return Verdict.DROPPED

    def _broken(self) -> Verdict:
        self.close()
        self._owner.on_broken()
        return Verdict.CLOSED

    # The queue

    @property
    def queued_bytes(self) -> int:
        """What waits, in bytes."""
        queued = 0 if self._backlog is None else self._backlog.bytes
        return queued + len(self._tail)

    @property
    def messages(self) -> int:
        """How many messages wait."""
        return 0 if self._backlog is None else self._backlog.messages

    def _enqueue(self, message: EncodedMessage) -> None:
        if self._backlog is None:
            self._backlog = Backlog(self._limits.outbox_messages)
        self._backlog.put(message)
        self._owner.on_backlog()

    def take(self, max_bytes: int = sys.maxsize, max_packets: int = sys.maxsize) -> list[EncodedMessage]:
        """Take what is queued, in order; the caller sends it. See `Backlog.take`."""
        messages = [] if self._backlog is None else self._backlog.take(max_bytes, max_packets)
        if self.queued_bytes <= self._limits.outbox_soft_bytes:
            self._soft_since = inf
            self._wake_waiters()
        return messages

    def _wake_waiters(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def wait_room(self) -> None:
        """Wait until the queue is within its soft budget. Cancellation is safe."""
        while self.queued_bytes > self._limits.outbox_soft_bytes and not self.closed:
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()
        await trio.lowlevel.checkpoint()

    # Writing straight to the socket

    def connect(self, send_now: Callable[[bytes], int] | None) -> None:
        """Use this non-blocking write from now on; None if the transport has none."""
        self._send_now = send_now
        self.resume_direct()

    def resume_direct(self) -> None:
        """Go back to direct writes if nothing waits."""
        if not (self.queued_bytes or self._gathering or self.closed):
            self.direct = self._send_now

    def take_tail(self) -> bytes:
        """Take the rest of a frame that the kernel took only in part; it goes first."""
        tail, self._tail = self._tail, b""
        return tail

    def put_back(self, rest: bytes) -> None:
        """Return what could not be written after all; it goes first next time."""
        self._tail = rest

    def _keep_tail(self, rest: bytes) -> None:
        self.direct = None
        self.put_back(rest)
        self._owner.on_backlog()

    # Gathering what is sent while a chunk of input is handled

    def cork(self) -> None:
        """Gather what is offered until `uncork`; only over a direct transport with nothing queued."""
        if self.direct is not None:
            self._gathering = True
            self.direct = None

    def _gather(self, frame: bytes) -> Verdict:
        self._gathered.append(frame)
        self._gathered_bytes += len(frame)
        if self._gathered_bytes > _GATHER_BYTES:
            self.uncork()
            self.cork()
        return Verdict.CLOSED if self.closed else Verdict.QUEUED

    def uncork(self) -> None:
        """Write what was gathered in one go."""
        if not self._gathering:
            return
        self._gathering = False
        gathered = self._gathered
        if not gathered:
            self.direct = self._send_now
            return
        data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        gathered.clear()
        self._gathered_bytes = 0
        send = self._send_now
        if self.closed or send is None:
            return
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._broken()
            return
        if sent == len(data):
            self.direct = send
        else:
            self._keep_tail(data[sent:])

    # The end

    def stall(self) -> None:
        """Note that a write made no progress in time: the peer is a slow consumer."""
        self._counters.dropped["slow consumer"] += 1
        self.close()
        self._owner.on_overflow()

    def fail(self) -> None:
        """Note that the peer is gone."""
        self._broken()

    def close(self) -> None:
        """Accept nothing more; what is queued stays for a last flush."""
        if self._gathering:
            self.uncork()
        self.closed = True
        self.direct = None
        self._wake_waiters()

    def discard(self) -> None:
        """Close and forget what is queued; counted as `unsent`."""
        self.close()
        self.take_tail()
        if self._backlog is not None:
            if self._backlog.messages:
                self._counters.dropped["unsent"] += self._backlog.messages
            self._backlog.close()
            self._backlog = None
