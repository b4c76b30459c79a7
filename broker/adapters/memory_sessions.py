"""Lost sessions in the memory of this process, each with one end."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

import trio

from protocol.recovery import Offset, RecoveryRefusal

from .recovery_store import Expired, StoredEvent, StoredSession


class MemorySessions:
    """A `SessionStore` that lives and dies with its process.

    Args:
        window: Seconds for which a lost session is kept.
        max_sessions: How many are kept; beyond it those lost first go.
    """

    def __init__(self, window: float, max_sessions: int) -> None:
        self._window = window
        self._max_sessions = max_sessions
        self._lost: OrderedDict[str, StoredSession] = OrderedDict()
        # Why those that are gone are gone, for as long as a window, to be able to say so.
        self._gone: OrderedDict[str, tuple[RecoveryRefusal, float]] = OrderedDict()
        self._on_expired: Expired = lambda session, why: None
        self._sleep: trio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._lost)

    async def run(
        self, on_expired: Expired, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep sessions until cancelled; then all are over."""
        self._on_expired = on_expired
        task_status.started()
        try:
            while True:
                with trio.CancelScope(deadline=self._next_deadline()) as self._sleep:
                    await trio.sleep_forever()
                self._expire(trio.current_time())
        finally:
            self._sleep = None
            while self._lost:
                self._drop(next(iter(self._lost)), RecoveryRefusal.EXPIRED)
            self._gone.clear()

    def _next_deadline(self) -> float:
        # The window is the same for all, so the first that was lost is the first to end.
        first = next(iter(self._lost.values()), None)
        return inf if first is None or first.due is None else first.due

    def _expire(self, now: float) -> None:
        while self._lost and self._next_deadline() <= now:
            self._drop(next(iter(self._lost)), RecoveryRefusal.EXPIRED)

    def _drop(self, pid: str, why: RecoveryRefusal) -> None:
        session = self._lost.pop(pid)
        now = trio.current_time()
        self._gone[pid] = (why, now + self._window)
        while self._gone and (
            next(iter(self._gone.values()))[1] <= now or len(self._gone) > self._max_sessions
        ):
            self._gone.popitem(last=False)
        self._on_expired(session, why)

    def save(self, session: StoredSession) -> None:
        """Nothing to do: what is connected needs no copy here."""

    def lose(self, session: StoredSession) -> None:
        """Keep a session to the end of its window."""
        session.due = trio.current_time() + self._window
        self._lost[session.pid] = session
        if self._sleep is not None:
            self._sleep.deadline = self._next_deadline()
        while len(self._lost) > self._max_sessions:
            self._drop(next(iter(self._lost)), RecoveryRefusal.TRIMMED)

    def forget(self, session: StoredSession) -> None:
        """Drop a session without a word."""
        self._lost.pop(session.pid, None)

    async def claim(self, namespace: str, pid: str) -> StoredSession | RecoveryRefusal:
        """Take a session; see `SessionStore.claim`."""
        await trio.lowlevel.checkpoint()
        session = self._lost.get(pid)
        if session is None:
            return self._gone.get(pid, (RecoveryRefusal.UNKNOWN, 0.0))[0]
        if session.namespace != namespace:
            return RecoveryRefusal.UNKNOWN
        del self._lost[pid]
        return session

    async def backfill(
        self, session: StoredSession, after: Offset, until: Offset
    ) -> list[StoredEvent] | None:
        """Return None: what the log has let go is nowhere else."""
        await trio.lowlevel.checkpoint()
        return None
