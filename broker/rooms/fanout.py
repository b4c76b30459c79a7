"""Delivers one message to many sockets: at once if they are few, else in turns with everybody else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Verdict

if TYPE_CHECKING:
    from broker.sessions.engine import Engine

    from .inbound import Inbound

CHUNK = 512  # members between two looks of the scheduler at everybody else: about 1.5 ms


@frozen
class EmitResult:
    """What became of a broadcast, counted by member.

    Attributes:
        queued: Accepted for them; members of a large room whose turn is still to come count here.
        dropped: Dropped by a policy, or because it was volatile.
        closed: They were on their way out.
        unpublished: 1 if the other nodes could not be told, since the bus is away and its buffer is full.
    """

    queued: int = 0
    dropped: int = 0
    closed: int = 0
    unpublished: int = 0


class _Job:
    """A message on its way to many members."""

    __slots__ = ("_at", "_early", "_members", "_message", "_places", "_volatile")

    def __init__(self, message: EncodedMessage, sockets: Iterable[Inbound], volatile: bool) -> None:
        self._message = message
        self._volatile = volatile
        # Members may come and go between the turns: the message is for those who are here now.
        self._members = tuple(sockets)
        self._at = 0
        self._places: dict[Inbound, int] | None = None
        self._early: set[Inbound] = set()

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._members)

    def give_early(self, socket: Inbound) -> None:
        """Give one member the message before its turn, if it has not got it yet."""
        if self._places is None:
            self._places = {member: place for place, member in enumerate(self._members)}
        if self._places.get(socket, -1) < self._at or socket in self._early:
            return
        self._early.add(socket)
        _deliver_some(self._message, (socket,), self._volatile)

    def give_chunk(self) -> int:
        """Give the next members the message; tells how many of them have left since it was sent."""
        chunk = self._members[self._at : self._at + CHUNK]
        self._at += CHUNK
        early = self._early
        due = [socket for socket in chunk if socket not in early]
        here = [socket for socket in due if socket.connected]
        _deliver_some(self._message, here, self._volatile)
        return len(due) - len(here)


class FanOut:
    """The broadcasts of one namespace.

    All members see the same order. While a broadcast to a large room is under way, whoever is to get
    something later gets the earlier message first: nobody waits for the whole room.

    Args:
        engine: Its server scope runs large broadcasts.

    Attributes:
        jobs: Broadcasts under way, oldest first.
    """

    __slots__ = ("_engine", "jobs")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.jobs: list[_Job] = []

    def deliver(self, message: EncodedMessage, sockets: Collection[Inbound], volatile: bool) -> EmitResult:
        """Offer a message to sockets; never waits."""
        if len(sockets) <= CHUNK:
            for socket in sockets if self.jobs else ():
                self.catch_up(socket)
            return _deliver_some(message, sockets, volatile)
        self.jobs.append(_Job(message, sockets, volatile))
        if len(self.jobs) == 1:
            self._engine.start_soon(self._work_off)
        return EmitResult(len(sockets))

    async def deliver_patiently(self, message: EncodedMessage, sockets: Collection[Inbound]) -> EmitResult:
        """Offer a message to each socket once it has room, first to those who have it now.

        Cancellation: who has not got it yet does not get it.
        """
        counts = dict.fromkeys(Verdict, 0)
        waiting: list[Inbound] = []
        for number, socket in enumerate(tuple(sockets), 1):
            if socket.outbox.has_room:
                counts[socket.offer(message)] += 1
            else:
                waiting.append(socket)
            if number % CHUNK == 0:
                await trio.lowlevel.checkpoint()
        for socket in waiting:
            await socket.outbox.wait_room()
            counts[socket.offer(message)] += 1
        await trio.lowlevel.checkpoint()
        return EmitResult(counts[Verdict.QUEUED], counts[Verdict.DROPPED], counts[Verdict.CLOSED])

    def catch_up(self, socket: Inbound) -> None:
        """Give a socket what is under way to it, before it gets something else."""
        for job in self.jobs:
            job.give_early(socket)

    async def _work_off(self) -> None:
        """Deliver the large broadcasts, one after the other, a chunk at a time."""
        try:
            while self.jobs:
                gone = self.jobs[0].give_chunk()
                if gone:
                    self._engine.counters.dropped["closed"] += gone
                if self.jobs[0].is_done:
                    del self.jobs[0]
                await trio.lowlevel.checkpoint()
        finally:
            self.jobs.clear()


def _deliver_some(message: EncodedMessage, sockets: Iterable[Inbound], volatile: bool) -> EmitResult:
    return _deliver_volatile(message, sockets) if volatile else _deliver(message, sockets)


def _deliver(message: EncodedMessage, sockets: Iterable[Inbound]) -> EmitResult:
    """Offer one message to many outboxes.

    No application code runs and nobody is removed in this loop, so it needs no copy of the members.
    """
    frame = message.build_frame()
    size = len(frame)
    queued = dropped = closed = 0
    for socket in sockets:
        outbox = socket.outbox
        send = outbox.direct
        # The first half of `Outbox.offer`, once more: the call would cost a tenth of a delivery.
        if send is not None:
            try:
                sent = send(frame)
            except OSError:
                pass  # would block, or the peer is gone: `offer` finds out which
            else:
                queued += 1
                if sent != size:
                    outbox.sent_part(message, sent)
                continue
        verdict = outbox.offer(message)
        if verdict is Verdict.QUEUED:
            queued += 1
        elif verdict is Verdict.DROPPED:
            dropped += 1
        else:
            closed += 1
    return EmitResult(queued, dropped, closed)


def _deliver_volatile(message: EncodedMessage, sockets: Iterable[Inbound]) -> EmitResult:
    counts = dict.fromkeys(Verdict, 0)
    for socket in sockets:
        # Past the socket, which would first take the broadcasts that are behind this one.
        counts[socket.outbox.offer_volatile(message)] += 1
    return EmitResult(counts[Verdict.QUEUED], counts[Verdict.DROPPED], counts[Verdict.CLOSED])
