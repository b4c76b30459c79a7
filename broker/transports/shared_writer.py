"""Writes what waits for all plain sockets of a broker in one task, and finds out who takes nothing in time.

A task and a cancel scope for each connection that is behind cost memory, and when hundreds fall behind or end
at once, everybody else waits for them. Here each is an entry in an `epoll` and in a dictionary: see
docs/adr/0026-shared-writer.md.
"""

from __future__ import annotations

import logging
import select
from math import inf
from typing import Protocol

import trio

logger = logging.getLogger(__name__)

_BATCH = 64  # connections that are written to between two looks of the scheduler at everybody else
_ENDED_AT_ONCE = 8  # the end of a session costs much more than a write


class Written(Protocol):
    """A connection with something to write."""

    @property
    def fileno(self) -> int:
        """The file descriptor of its socket."""

    def write_on(self) -> bool:
        """Write what the kernel takes; tells whether nothing is left. Does not wait."""

    def has_moved(self) -> bool:
        """Tell whether the peer has taken anything since this was asked before."""

    def give_up(self) -> None:
        """Take note that the peer is too slow."""

    def fail(self) -> None:
        """Take note that nothing more can be written."""


class SharedWriter:
    """One writer for all connections on plain sockets. Only inside `run`.

    Args:
        write_timeout: Seconds within which a peer must take something. Spec: LIM-4.
    """

    def __init__(self, write_timeout: float) -> None:
        self._write_timeout = write_timeout
        self._epoll = select.epoll()
        self._written: dict[int, Written] = {}
        self._due: dict[Written, float] = {}  # the one that is due first comes first
        self._sleep = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled."""
        try:
            task_status.started()
            while True:
                due = next(iter(self._due.values()), inf)
                with trio.CancelScope(deadline=due) as self._sleep:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._write_some()
                self._end_some(trio.current_time())
        finally:
            self._epoll.close()

    def add(self, written: Written) -> bool:
        """Write for a connection until nothing is left; False if this writer has ended."""
        if self._epoll.closed:
            return False
        fd = written.fileno
        self._written[fd] = written
        self._epoll.register(fd, select.EPOLLOUT)
        written.has_moved()
        self._put_off(written)
        return True

    def remove(self, written: Written) -> None:
        """Write no more for a connection; its socket is still open."""
        if self._due.pop(written, None) is None:
            return
        fd = written.fileno
        del self._written[fd]
        if not self._epoll.closed:
            self._epoll.unregister(fd)

    def _put_off(self, written: Written) -> None:
        """Give a connection the full time from now on."""
        self._due.pop(written, None)
        due = self._due[written] = trio.current_time() + self._write_timeout
        if due < self._sleep.deadline:
            self._sleep.deadline = due

    def _write_some(self) -> None:
        for fd, _ in self._epoll.poll(0, _BATCH):
            written = self._written.get(fd)
            if written is not None:  # nobody has removed it while others were written to
                self._write(written)

    def _write(self, written: Written) -> None:
        try:
            done = written.write_on()
        except Exception:  # a fault of ours ends that connection, not the writing for all
            logger.exception("writing failed")
            self.remove(written)
            written.fail()
            return
        if done:
            self.remove(written)
        else:
            written.has_moved()
            self._put_off(written)

    def _end_some(self, now: float) -> None:
        """End those whose time is up, a few in a turn: a whole room may have stalled at once."""
        for _ in range(_ENDED_AT_ONCE):
            written, due = next(iter(self._due.items()), (None, inf))
            if written is None or due > now:
                return
            # The kernel calls a socket writable only when a third of its buffer is free, which can be a
            # megabyte: so it is asked how far the peer has got.
            if written.has_moved():
                self._put_off(written)
            else:
                self.remove(written)
                written.give_up()
