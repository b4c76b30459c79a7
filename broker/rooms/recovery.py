"""The sessions of a broker that may be recovered: who holds them, who gets them back, and which are over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from broker.adapters.event_log import EventLog
from broker.adapters.memory_sessions import MemorySessions
from broker.adapters.recovery_store import SessionStore, SharedLog, StoredSession
from broker.flow.settings import Recovery
from protocol import DisconnectReason
from protocol.recovery import MAX_PRIVATE_ID, RECOVERABLE, RecoveryRefusal

from .history import Histories
from .identity import wall_clock, without_user
from .journal import Journal

if TYPE_CHECKING:
    from broker.sessions.engine import Engine

    from .logged import LoggedSocket
    from .namespace import Namespace

logger = logging.getLogger(__name__)

_TICK = 0.05  # how often an older connection is looked at while its client is asked for a sign of life


@frozen
class ExpiredSession:
    """A lost session whose client has not come back, as listeners get it.

    Attributes:
        id: The socket's id.
        namespace: Name of its namespace.
        rooms: The rooms it was in.
        data: The socket's data.
        reason: Why its connection was lost.
        why: EXPIRED: its window has passed, or the broker ends. TRIMMED: pushed out by others, or its client
            came but too much was missed. UNKNOWN: its client came with an offset that was never one, or as
            another user.
    """

    id: str
    namespace: str
    rooms: frozenset[str]
    data: Mapping[str, Any]
    reason: DisconnectReason
    why: RecoveryRefusal


class Recoveries:
    """The journals of all namespaces, and the sessions that may come back.

    Args:
        engine: Its settings and limits hold.
        store: Keeps the sessions; None keeps them in memory.
    """

    def __init__(self, engine: Engine, store: SessionStore | None = None) -> None:
        settings, limits = engine.settings, engine.limits
        self._engine = engine
        self._options = settings.recovery
        options = settings.recovery or Recovery()
        self.store: SessionStore = store or MemorySessions(options.window, limits.recovery_sessions)
        # An event may have been lost on a connection that was given up only after a whole heartbeat.
        self.shared: SharedLog | None = None
        self._max_age = options.window + settings.ping_interval + settings.ping_timeout
        self._journals: dict[str, Journal] = {}
        # Those of removed namespaces, by the time of that, for as long as anybody may ask for them.
        self._detached: dict[str, float] = {}
        self._keep = max(self._max_age, 0.0 if settings.history is None else settings.history.age)
        self._bytes = 0
        self._holders: dict[str, LoggedSocket] = {}
        self._histories: Histories | None = None
        if settings.history is not None:
            self._histories = Histories(
                settings.history, engine.codec, limits.history_rooms, limits.history_bytes
            )

    @property
    def keeps_sessions(self) -> bool:
        """Whether recovery is on, not room history alone."""
        return self._options is not None

    @property
    def bytes(self) -> int:
        """What all logs take."""
        return self._bytes

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep sessions, and let go of old events, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.store.run, self._on_expired)
            task_status.started()
            while True:
                await trio.sleep(max(1.0, self._max_age / 4))
                self._sweep(trio.current_time())

    # Journals

    def share(self, log: SharedLog) -> None:
        """Let a log of all nodes number the events from now on, and keep the sessions; before `run`."""
        self.shared, self.store = log, log.store
        for journal in self._journals.values():
            journal.is_shared = True

    def attach(self, namespace: Namespace) -> None:
        """Give a namespace its journal, which may be that of an earlier one of the same name."""
        shared = self.shared
        journal = self._journals.get(namespace.name)
        if journal is not None and shared is not None:
            journal.restart(shared.position)  # what came while nobody was in the namespace is not in it
        if journal is None:
            journal = self._journals[namespace.name] = self._new_journal(namespace.name)
        self._detached.pop(namespace.name, None)
        journal.registry = namespace.registry
        namespace.keep_events(journal, shared)

    def _new_journal(self, name: str) -> Journal:
        options = self._options
        if options is None:
            log = EventLog(0.0, 0, 0, lambda count: None)
        else:
            log = EventLog(self._max_age, options.max_events, options.max_bytes, self._count_trimmed)
        journal = Journal(name, self._engine.codec, log, self._histories, self._grow)
        if self.shared is not None:
            journal.is_shared = True
            journal.restart(self.shared.position)
        return journal

    def _count_trimmed(self, events: int) -> None:
        self._engine.counters.dropped["log trimmed"] += events

    def _grow(self, grown: int) -> None:
        """Hold the bound over all logs: the largest one gives up a quarter."""
        self._bytes += grown
        while self._bytes > self._engine.limits.recovery_bytes:
            largest = max((journal.log for journal in self._journals.values()), key=lambda log: log.bytes)
            self._bytes -= largest.give_up(max(1, largest.bytes // 4))

    def _sweep(self, now: float) -> None:
        for journal in self._journals.values():
            before = journal.log.bytes
            journal.log.expire(now)
            self._bytes -= before - journal.log.bytes
        while self._detached and next(iter(self._detached.values())) < now - self._keep:
            self._drop_journal(next(iter(self._detached)))
        if self._histories is not None:
            self._histories.expire(now)

    def detach(self, namespace: Namespace) -> None:
        """Note that a namespace was removed; its journal stays while sessions may come back to it."""
        self._detached[namespace.name] = trio.current_time()
        if len(self._detached) > self._engine.limits.dynamic_namespaces:
            self._drop_journal(next(iter(self._detached)))

    def _drop_journal(self, name: str) -> None:
        del self._detached[name]
        self._journals.pop(name).close()
        if self._histories is not None:
            self._histories.forget(name)

    # A socket's session

    def open(self, socket: LoggedSocket) -> StoredSession:
        """Begin the session of a socket that is about to be let in."""
        journal = socket.namespace.journal
        assert journal is not None
        session = StoredSession(
            pid=self._engine.new_id(), id=socket.id, namespace=journal.name, start=journal.log.last
        )
        journal.enter(session, socket.id)
        return session

    def entered(self, socket: LoggedSocket, session: StoredSession) -> None:
        """Note that a socket has been let in."""
        if session.lost is not None:
            self._engine.counters.recoveries["recovered"] += 1
        session.lost = session.due = None
        self._holders[session.pid] = socket
        self.store.save(session)

    def left(self, session: StoredSession, reason: DisconnectReason) -> None:
        """Note that a socket has left; its session may be claimed once its handlers are done."""
        session.lost = reason

    def ended(self, session: StoredSession) -> None:
        """Note that nothing of a socket is left."""
        self._holders.pop(session.pid, None)
        if session.lost in RECOVERABLE:
            self.store.lose(session)
        else:
            self.store.forget(session)

    def put_back(self, session: StoredSession) -> None:
        """Note that a recovery was not completed: a middleware refused, or the client went."""
        self.store.lose(session)

    def _on_expired(self, session: StoredSession, why: RecoveryRefusal) -> None:
        self._engine.counters.recoveries["session expired"] += 1
        journal = self._journals.get(session.namespace)
        reason, session.lost = session.lost or DisconnectReason.TRANSPORT_CLOSE, None
        rooms = without_user(session.rooms)
        expired = ExpiredSession(session.id, session.namespace, rooms, session.data, reason, why)
        for listener in () if journal is None else journal.registry.expired:
            try:
                listener(expired)
            except Exception:
                self._engine.counters.events["failed"] += 1
                logger.exception("listener for expired sessions of %s failed", session.namespace)

    # Recovering

    async def recover(self, socket: LoggedSocket, auth: Mapping[str, Any]) -> RecoveryRefusal | None:
        """Give a socket on its way in the session that its client asks for.

        Args:
            socket: It must be in its namespace's care already.
            auth: The object of its CONNECT.

        Returns:
            Why it has none.

        Cancellation: the session is kept as lost. Spec: SIO-REC-6, SIO-REC-7.
        """
        if self._options is None:
            await trio.lowlevel.checkpoint()
            return RecoveryRefusal.UNSUPPORTED
        session = await self._claim(socket, auth["pid"])
        if isinstance(session, RecoveryRefusal):
            return session
        given = False
        refusal: RecoveryRefusal | None
        try:
            refusal = await self._hand_over(socket, session, auth.get("offset"))
            # Whoever has gone meanwhile may come again.
            given = socket.leaving is None
        finally:
            if not given:
                self.put_back(session)
        if refusal is not None:
            self.store.forget(session)
            self._on_expired(session, refusal)
        return refusal

    async def _claim(self, socket: LoggedSocket, pid: str) -> StoredSession | RecoveryRefusal:
        holder = self._holders.get(pid)
        if holder is not None and (holder.namespace is not socket.namespace or not await self._fence(holder)):
            return RecoveryRefusal.UNKNOWN
        if len(pid) > MAX_PRIVATE_ID:
            return RecoveryRefusal.UNKNOWN
        return await self.store.claim(socket.namespace.name, pid)

    async def _fence(self, holder: LoggedSocket) -> bool:
        """End the older connection of a session, unless its client answers there. Spec: SIO-REC-10."""
        limits = self._engine.limits
        if holder.leaving is None:
            session = holder.session
            session.ping()
            with trio.move_on_after(limits.recovery_probe_timeout):
                while holder.leaving is None and session.reason is None:
                    if session.ponged:
                        return False
                    await trio.sleep(_TICK)
            session.close(DisconnectReason.PING_TIMEOUT)
        with trio.move_on_after(3 * limits.cleanup_timeout):
            await holder.wait_ended()
            return True
        return False

    async def _hand_over(
        self, socket: LoggedSocket, session: StoredSession, offset: object
    ) -> RecoveryRefusal | None:
        journal = socket.namespace.journal
        assert journal is not None
        position = journal.position(session, offset)
        if isinstance(position, RecoveryRefusal):
            return position
        missed = journal.missed(session, position)
        if missed is None and position >= session.floor:
            older = await self.store.backfill(session, position, journal.log.floor)
            missed = None if older is None else journal.filled(session, position, older)
        if missed is None or not socket.has_room_for(missed):
            return RecoveryRefusal.TRIMMED
        clock = self._engine.settings.wall_clock or wall_clock
        is_proven = session.expires_at is None or session.expires_at > clock()
        socket.take_over(session, missed, journal.log.last, is_proven)
        return None

    def discard(self, session: StoredSession) -> None:
        """Note that a session is over, though its client has come."""
        self.store.forget(session)
        self._on_expired(session, RecoveryRefusal.UNKNOWN)
