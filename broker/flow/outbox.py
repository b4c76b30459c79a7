"""The bounded, ordered way out of a session: straight to the kernel while it is empty, else a backlog."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from protocol import Limits

from .budget import Budget
from .counters import Counters
from .encoded import EncodedMessage
from .overflow import Overflow
from .waiting import Waiting

_GATHER_BYTES = 65_536  # what is gathered while corked before it is written after all
_FAREWELL_BYTES = 65_536  # a longer rest of a begun message is not finished for the sake of a farewell


class Verdict(IntEnum):
    """What became of a message; QUEUED means accepted, not received."""

    QUEUED = 0
    DROPPED = 1
    CLOSED = 2


_QUEUED = Verdict.QUEUED  # looking up a member of an enum costs as much as a call


class OutboxOwner(Protocol):
    """The session behind an outbox; none of these may block."""

    def on_overflow(self) -> None:
        """End as a slow consumer."""

    def on_evicted(self) -> None:
        """End, so that all outboxes together fit their budget."""

    def on_broken(self) -> None:
        """Note that a direct write failed: the peer is gone."""

    def on_backlog(self) -> None:
        """Start or wake the writer: something is queued."""

    def is_writable(self) -> bool:
        """Tell whether the transport would take a message at once, where it is not written directly."""


class Outbox(Waiting):
    """What one peer has still to be sent.

    An empty outbox over a plain socket tries a non-blocking write in `offer` itself; what the kernel does
    not take waits for the writer. Callers hand over whole messages and never wait.

    In front of all stands the rest of a begun message, which cannot be taken back; then a PING, if one is
    due; then the backlog. The budget bounds the backlog alone, so that one large message under way makes
    nobody a slow consumer.

    Args:
        limits: The byte, message and time budgets.
        counters: Where drops are counted.
        owner: Told of overflow, of a broken connection and of a backlog.
        budget: That of all outboxes together.

    Attributes:
        direct: The one thing the hot path looks at: set only while a write may go straight out.
        stalled: Whether a write has made no progress in time: the peer would not take a farewell either.
    """

    __slots__ = ("_gathered", "_gathered_bytes", "_gathering", "_owner", "_send_now", "direct", "stalled")

    def __init__(
        self, limits: Limits, counters: Counters, owner: OutboxOwner, budget: Budget | None = None
    ) -> None:
        super().__init__(limits, counters, budget)
        self._owner = owner
        self.direct: Callable[[bytes], int] | None = None
        self._send_now: Callable[[bytes], int] | None = None
        self._gathering = False
        self._gathered: list[EncodedMessage] = []
        self._gathered_bytes = 0
        self.stalled = False

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
            return self._broken(message)
        if sent != len(frame):
            self.sent_part(message, sent)
        return _QUEUED

    def sent_part(self, message: EncodedMessage, sent: int) -> None:
        """Keep what the kernel did not take of a message that somebody wrote through `direct`."""
        self.direct = None
        self._keep((message,), sent)
        self._owner.on_backlog()

    def offer_volatile(self, message: EncodedMessage) -> Verdict:
        """Accept a message only if nothing else waits. Spec: SIO-EVT-5."""
        if self.closed:
            return self._refuse(message)
        if self.queued_bytes or self._gathered:
            return self._drop("volatile")
        if self.direct is None and not self._gathering and not self._owner.is_writable():
            return self._drop("volatile")
        return self.offer(message)

    def offer_urgent(self, message: EncodedMessage) -> Verdict:
        """Accept a PING, in front of all that has not begun; one at a time. Spec: FLOW-9."""
        if self.direct is not None:
            return self.offer(message)
        if self.closed:
            return Verdict.CLOSED
        self._put_urgent(message)
        self._owner.on_backlog()
        return _QUEUED

    def _offer_queued(self, message: EncodedMessage) -> Verdict:
        if self.closed:
            return self._refuse(message)
        if self._gathering and not self.queued_bytes:
            return self._gather(message)
        if message.key is not None and self._drop_key(message.key):
            self._counters.dropped["replaced"] += 1
        if not self._has_room(message):
            return self._overflowed(message)
        self._put(message)
        self._owner.on_backlog()
        return _QUEUED

    def _overflowed(self, message: EncodedMessage) -> Verdict:
        policy = message.overflow
        if policy is Overflow.DROP_NEWEST:
            return self._drop("newest")
        if policy is Overflow.WAIT:
            return self._drop("would wait")
        if policy is Overflow.DROP_OLDEST:
            return self._push_out(message)
        self._counters.dropped["slow consumer"] += message.is_counted
        self._end_slow()
        return Verdict.CLOSED

    def _push_out(self, message: EncodedMessage) -> Verdict:
        """Drop older messages until there is room; if none is left that may be dropped, the new one."""
        while not self._has_room(message):
            if not self._drop_oldest():
                return self._drop("newest")
            self._counters.dropped["oldest"] += 1
        self._put(message)
        self._owner.on_backlog()
        return _QUEUED

    def _drop(self, cause: str) -> Verdict:
        self._counters.dropped[cause] += 1
        return Verdict.DROPPED

    def _refuse(self, message: EncodedMessage) -> Verdict:
        self._counters.dropped["closed"] += message.is_counted
        return Verdict.CLOSED

    def _broken(self, message: EncodedMessage) -> Verdict:
        self.fail()
        return self._refuse(message)

    # Writing straight to the socket

    def connect(self, send_now: Callable[[bytes], int] | None) -> None:
        """Use this non-blocking write from now on; None if the transport has none."""
        self._send_now = send_now
        self.resume_direct()

    def resume_direct(self) -> None:
        """Go back to direct writes if nothing waits."""
        if not (self.queued_bytes or self._gathering or self.closed):
            self.direct = self._send_now

    # Gathering what is sent while a chunk of input is handled

    def cork(self) -> None:
        """Gather what is offered until `uncork`; only over a direct transport with nothing queued."""
        if self.direct is not None:
            self._gathering = True
            self.direct = None

    def _gather(self, message: EncodedMessage) -> Verdict:
        self._gathered.append(message)
        self._gathered_bytes += message.size
        if self._gathered_bytes > _GATHER_BYTES:
            self.uncork()
            self.cork()
        return Verdict.CLOSED if self.closed else _QUEUED

    def uncork(self) -> None:
        """Write what was gathered in one go."""
        if not self._gathering:
            return
        self._gathering = False
        gathered = self._gathered
        if not gathered:
            self.direct = self._send_now
            return
        frames = [message.frame or message.build_frame() for message in gathered]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        send = self._send_now
        try:
            sent = send(data) if send is not None else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.fail()
            sent = 0
        if sent == len(data):
            self.direct = send
        else:
            self._keep(gathered, sent)
            if not self.closed:
                self._owner.on_backlog()
        gathered.clear()
        self._gathered_bytes = 0

    # The end

    def stall(self) -> None:
        """Note that a write made no progress in time: the peer is a slow consumer."""
        self.stalled = True
        self._end_slow()

    def _end_slow(self) -> None:
        self._blame("slow consumer")
        self.close()
        self._owner.on_overflow()

    def evict(self) -> None:
        """Give up what waits, so that all outboxes together fit their budget."""
        self._blame("evicted")
        self.close()
        self.drop_waiting()
        if self.begun_bytes > _FAREWELL_BYTES:
            self._drop_begun()
            self.stalled = True
        self._owner.on_evicted()

    def fail(self) -> None:
        """Note that the peer is gone."""
        self.close()
        self._owner.on_broken()

    def close(self) -> None:
        """Accept nothing more; what is queued stays for a last flush."""
        self.closed = True
        if self._gathering:
            self.uncork()
        self.direct = None
        self._wake_waiters()

    def discard(self) -> None:
        """Close, and drop and count all that has not been written."""
        self.close()
        self.drop_waiting()
        self._drop_begun()
        # A writer that was cancelled with messages in hand says no more of them.
        self._in_flight_bytes = 0
        self._account()
