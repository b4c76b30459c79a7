"""Reads all plain sockets of a broker in one task; a handler that suspends keeps it, a follower reads on.

A task for each connection costs two task switches and two system calls for each chunk of input. Here one
`epoll` of our own tells which sockets are readable; they are read and their handlers driven one after the
other, and their answers are written at the end of the batch: see docs/adr/0003-shared-reader.md. Where there
is no `epoll`, each session reads by itself.
"""

from __future__ import annotations

import logging
import select
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from broker.flow.outbox import Outbox
from broker.transports.base import TransportEnded
from protocol import DisconnectReason
from protocol.websocket import Received

from .handler import Driven

if TYPE_CHECKING:
    from .reading import Reading

logger = logging.getLogger(__name__)

AVAILABLE = hasattr(select, "epoll")

# Enough to spread the cost of a wake-up, few enough that the first answer of a batch does not wait long.
_BATCH = 64

# Seconds of work after which other tasks have their turn, however many sessions have still something to read.
_TURN_TIME = 0.002

Work = deque[tuple["Reading", Iterator[Received] | None]]


class SharedReader:
    """One reader for all sessions on plain sockets. Only inside `run`.

    Args:
        metered: Whether the packets of sessions are counted.
    """

    def __init__(self, *, metered: bool = False) -> None:
        self._receive = self._receive_metered if metered else self._receive_plain
        self._epoll = select.epoll()
        self._sessions: dict[int, Reading] = {}
        self._corked: list[Outbox] = []
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled. Handlers that have suspended are tasks of this nursery."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                nursery.start_soon(self._lead, deque())
        finally:
            self._nursery = None
            self._epoll.close()

    def add(self, session: Reading, received: Iterator[Received] | None = None) -> None:
        """Read for a session from now on, after it has taken what was received already."""
        if received is None and not session.socket.has_rest:
            self._register(session)
        elif self._nursery is not None:
            self._nursery.start_soon(self._catch_up, deque([(session, received)]))

    def remove(self, session: Reading) -> None:
        """Read no more for a session: it has ended, or its inbox is full."""
        fd = session.socket.fileno
        if self._sessions.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    def _register(self, session: Reading) -> None:
        fd = session.socket.fileno
        if fd < 0 or session.reason is not None or self._epoll.closed or self._sessions.get(fd) is session:
            return
        self._sessions[fd] = session
        self._epoll.register(fd, select.EPOLLIN)

    async def _lead(self, work: Work) -> None:
        """Work off what is there and wait for more, until a handler suspends."""
        assert self._nursery is not None
        with trio.CancelScope() as scope:
            while True:
                driven = self._work_off(work)
                if driven is not None:
                    # The scope is this handler's from here on; the follower brings its own.
                    driven.adopt(scope)
                    self._nursery.start_soon(self._lead, work)
                    await driven.finish()
                    return
                if work:
                    await trio.lowlevel.checkpoint()
                    self._add_readable(work)
                    continue
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, _ in self._epoll.poll(0, _BATCH):
                    work.append((self._sessions[fd], None))

    def _add_readable(self, work: Work) -> None:
        """Let those who have become readable stand behind what the last turn has left."""
        waiting = {session for session, _ in work}
        for fd, _ in self._epoll.poll(0, _BATCH):
            session = self._sessions[fd]
            if session not in waiting:
                work.append((session, None))

    async def _catch_up(self, work: Work) -> None:
        """Work off what one session had received before; then read for it."""
        session = work[0][0]
        with trio.CancelScope() as scope:
            driven = self._work_off(work)
            while driven is None and work:
                await trio.lowlevel.checkpoint()
                driven = self._work_off(work)
            if driven is not None:
                driven.adopt(scope)
                if self._nursery is not None:
                    self._nursery.start_soon(self._catch_up, work)
                await driven.finish()
                return
            # At once: if a pause were lifted first, another would be catching up.
            if not session.is_paused:
                self._register(session)

    def _work_off(self, work: Work) -> Driven | None:
        """Take some input of each, until the turn is over or a handler suspends; then write all answers.

        What is left stays in `work`.
        """
        corked = self._corked
        unread: Work = deque()
        over = perf_counter() + _TURN_TIME
        try:
            while work:
                session, received = work.popleft()
                if session.reason is not None:
                    continue
                if received is None:
                    received = self._receive(session)
                outbox = session.outbox
                outbox.cork()
                corked.append(outbox)
                driven = self._take(session, received)
                if driven is not None:
                    work.appendleft((session, received))
                    return driven
                if session.is_paused:
                    self.remove(session)
                    session.held = received
                elif session.socket.has_rest:
                    unread.append((session, None))
                if perf_counter() > over:
                    break
        finally:
            work.extend(unread)
            for outbox in corked:
                outbox.uncork()
            corked.clear()
        return None

    def _receive_metered(self, session: Reading) -> Iterator[Received]:
        messages = list(self._receive_plain(session))
        session.meter(len(messages))
        return iter(messages)

    def _receive_plain(self, session: Reading) -> Iterator[Received]:
        try:
            messages = session.socket.receive_now()
        except TransportEnded as ended:
            session.on_ended(ended)
            return iter(())
        if session.mid_message or not messages or type(messages[-1]) is not bytes:
            session.watch(messages)
        return iter(messages)

    def _take(self, session: Reading, received: Iterator[Received]) -> Driven | None:
        """Let a session take its input; a fault of ours ends that session, not the reading of all."""
        try:
            return session.take(received)
        except Exception:
            logger.exception("session failed")
            session.close(DisconnectReason.FORCED_CLOSE)
            return None
