"""Sockets and broadcasts of a broker that keeps events: they log what they send, and send what was missed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from broker.adapters.event_log import LogEntry
from broker.adapters.recovery_store import StoredSession
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import ConnectRefused
from broker.flow.names import check_event
from broker.flow.outbox import Verdict
from broker.flow.overflow import Policy
from protocol import DisconnectReason
from protocol.bus.options import BroadcastOptions
from protocol.recovery import RECOVERABLE, START, Offset

from .broadcast import Broadcast
from .fanout import EmitResult
from .identity import CHANGED_CODE, without_user
from .socket import Socket
from .watched import WatchedDict

if TYPE_CHECKING:
    from broker.sessions.session import Session

    from .connection import Connection
    from .namespace import Namespace
    from .recovery import Recoveries


@frozen
class LoggedBroadcast(Broadcast):
    """A choice of sockets in a namespace that keeps its events."""

    def _encode(self, event: str, args: tuple[Any, ...], ack_id: int | None = None) -> EncodedMessage:
        """Encode an event, and keep it unless it asks for an ack or is volatile.

        Spec: SIO-REC-2, SIO-REC-3.
        """
        namespace = self._namespace
        journal = namespace.journal
        if ack_id is not None or journal is None:
            return super()._encode(event, args, ack_id)
        check_event(event)
        namespace.notice_outgoing(event, args)
        if self.is_volatile:
            message = journal.encode_volatile(event, args)
        else:
            message = journal.record(event, args, self.rooms, self.except_rooms)
        namespace.apply_policy(message, event, self.policy, self.rooms)
        return message

    def emit(self, event: str, *args: Any) -> EmitResult:
        """Send an event to all of them, see `Broadcast.emit`; by way of the shared log, if there is one.

        Spec: SIO-REC-2.
        """
        shared = self._namespace.shared_log
        if shared is None or self.is_volatile or self.is_local:
            return super().emit(event, *args)
        check_event(event)
        self._namespace.notice_outgoing(event, args)
        published = shared.publish(self._namespace.name, (event, *args), self._options())
        return EmitResult(len(self.select()), unpublished=0 if published else 1)

    async def send_event(self, event: str, *args: Any) -> EmitResult:
        """Send an event to all of them once each has room for it.

        See `Broadcast.send_event`. All get it at the same time here: an event that came later than one behind
        it in the log would set the offset of its receiver back.

        Cancellation: nobody gets it.
        """
        await trio.lowlevel.checkpoint()
        for socket in tuple(self.select()):
            await socket.outbox.wait_room()
        return self.emit(event, *args)


class LoggedSocket(Socket):
    """A socket in a namespace that keeps its events.

    Attributes:
        stored: Its session, once it is let in or recovered; None if recovery is off.
        is_proven: Whether nothing that was said about its user, before it was recovered, has expired.
    """

    __slots__ = ("_data", "_ended", "_missed", "_missed_until", "_recoveries", "is_proven", "stored")

    def __init__(
        self,
        socket_id: str,
        namespace: Namespace,
        connection: Connection,
        auth: dict[str, Any] | None,
        recoveries: Recoveries,
    ) -> None:
        self.stored: StoredSession | None = None
        super().__init__(socket_id, namespace, connection, auth)
        self.is_proven = True
        self._recoveries = recoveries
        self._missed: list[LogEntry] = []
        self._missed_until: Offset = START
        self._ended: trio.Event | None = None

    @property
    def data(self) -> dict[str, Any]:
        """Anything the application wants to keep with it; changes of the dict itself are noticed and kept."""
        return self._data

    @data.setter
    def data(self, values: dict[str, Any]) -> None:
        self._data = WatchedDict(values, self.noted)
        if self.stored is not None:
            self.stored.data = self._data
            self.noted()

    def noted(self) -> None:
        """Write ahead what has changed: rooms, data or identity."""
        if self.connected and self.stored is not None:
            self._write_identity(self.stored)
            self._recoveries.store.save(self.stored)

    def _write_identity(self, session: StoredSession) -> None:
        session.identity, session.expires_at = self.identity, self.expires_at
        session.claims = self.claims or None

    @property
    def session(self) -> Session:
        """The Engine.IO session that it is on."""
        return self._connection.session

    # Sending

    @property
    def _is_kept(self) -> bool:
        """Whether it has lost its connection and may come back."""
        return not self.connected and self.stored is not None and self.stored.lost in RECOVERABLE

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event to this client, see `Socket.emit`; while it is away the event waits for it."""
        return self.emit_kept(event, args)

    def emit_kept(self, event: str, args: tuple[Any, ...], policy: Policy | None = None) -> Verdict:
        """Send an event, by way of the shared log if there is one and it is to be kept."""
        namespace = self.namespace
        shared = namespace.shared_log
        if shared is None or self.stored is None or not (self.connected or self._is_kept):
            return self.offer_kept(self.encode(event, args, policy=policy))
        check_event(event)
        namespace.notice_outgoing(event, args)
        flags = {} if policy is None else {"overflow": policy.to_wire()}
        shared.publish(namespace.name, (event, *args), BroadcastOptions((self.id,), flags=flags))
        return Verdict.QUEUED

    def offer_kept(self, message: EncodedMessage) -> Verdict:
        """Queue an event that is kept: while the client is away, it waits for it."""
        kept = self._is_kept
        verdict = self.offer(message)
        return Verdict.QUEUED if kept else verdict

    def encode(
        self, event: str, args: tuple[Any, ...], ack_id: int | None = None, policy: Policy | None = None
    ) -> EncodedMessage:
        """Encode an event of this namespace, and keep it unless it asks for an ack. Spec: SIO-REC-2."""
        namespace = self.namespace
        if ack_id is not None or self.stored is None or not (self.connected or self._is_kept):
            return super().encode(event, args, ack_id, policy)
        check_event(event)
        namespace.notice_outgoing(event, args)
        assert namespace.journal is not None
        message = namespace.journal.record(event, args, (self.id,), (), private=True)
        namespace.apply_policy(message, event, policy)
        return message

    def encode_volatile(
        self, event: str, args: tuple[Any, ...], policy: Policy | None = None
    ) -> EncodedMessage:
        """Encode an event that is not kept. Spec: SIO-REC-3."""
        namespace = self.namespace
        if namespace.journal is None:
            return super().encode(event, args, None, policy)
        check_event(event)
        namespace.notice_outgoing(event, args)
        message = namespace.journal.encode_volatile(event, args)
        namespace.apply_policy(message, event, policy)
        return message

    @property
    def broadcast(self) -> Broadcast:
        """Everyone in the namespace but this socket."""
        return LoggedBroadcast(self.namespace, except_rooms=(self.id,))

    # Coming back

    def has_room_for(self, missed: Iterable[LogEntry]) -> bool:
        """Whether so much fits the outbox at once."""
        limits = self._connection.limits
        sizes = [entry.message.size for entry in missed]
        room = limits.outbox_hard_bytes - self.outbox.queued_bytes
        return sum(sizes) <= room and len(sizes) + self.outbox.messages < limits.outbox_messages

    def take_over(
        self, session: StoredSession, missed: list[LogEntry], until: Offset, is_proven: bool
    ) -> None:
        """Become the socket that a session was kept of.

        Args:
            session: It is this socket's alone.
            missed: The events to send before the answer to CONNECT.
            until: The end of the log that they were read from.
            is_proven: Whether what was said about the user still holds; else middlewares have to say it anew.
        """
        self.id = session.id
        self.recovered = True
        self._missed, self._missed_until = missed, until
        self._shown_rooms = without_user(session.rooms)
        self.is_proven = is_proven
        if is_proven and session.identity is not None:
            self.identity = session.identity
        if is_proven and session.claims is not None:
            self.claims = session.claims
        self.expires_at = session.expires_at if is_proven else None
        self.data = session.data
        self.stored = session
        session.data = self._data

    def let_in(self) -> bool:
        """Become a member; send what was missed, then the answer to CONNECT. Spec: SIO-REC-9."""
        namespace, recoveries = self.namespace, self._recoveries
        journal = namespace.journal
        assert journal is not None
        if not recoveries.keeps_sessions:
            return self._let_in()
        session = self.stored
        if session is None:
            session = recoveries.open(self)
        else:
            self._check_user(session)
            # Since it was claimed, middlewares may have taken their time.
            late = journal.missed(session, self._missed_until)
            if late is None or not self.has_room_for([*self._missed, *late]):
                self.session.close(DisconnectReason.FORCED_CLOSE)
                return False
            self._missed += late
        self.stored, session.data = session, self._data
        if not self._let_in():
            return False
        self._missed = []
        for room in session.rooms.difference((self.id,), namespace.index.rooms_of(self)):
            journal.leave(session, room)
        self._write_identity(session)
        recoveries.entered(self, session)
        return True

    def _check_user(self, session: StoredSession) -> None:
        """Keep the rooms and events of one user from another who has their client.

        Raises:
            ConnectRefused: The middlewares have found another user than before.
        """
        if session.identity not in (None, self.identity):
            self.stored = None
            self._recoveries.discard(session)
            raise ConnectRefused("identity changed", {"code": CHANGED_CODE})

    def _let_in(self) -> bool:
        entered = False
        try:
            entered = super().let_in()
        finally:
            if not entered and not self.recovered:
                self.stored = None  # it has never begun
        return entered

    def first_messages(self) -> list[EncodedMessage]:
        """Return what goes out before the answer to CONNECT: the events that were missed."""
        return [entry.message for entry in self._missed]

    @property
    def passes_middlewares(self) -> bool:
        """Whether it need not be looked at again: the settings say so, and its proof still holds."""
        recovery = self.namespace.engine.settings.recovery
        return self.recovered and self.is_proven and recovery is not None and recovery.skip_middlewares

    def answer(self) -> dict[str, Any]:
        """Return the answer to CONNECT. Spec: SIO-REC-1."""
        answer = super().answer()
        if self.stored is not None:
            answer["pid"] = self.stored.pid
        return answer

    # For the namespace

    def moved(self, room: str, inside: bool) -> None:
        """Note that it has joined or left a room, while it is a member."""
        journal = self.namespace.journal
        if self.stored is None or journal is None or self.leaving is not None:
            return
        if inside:
            journal.enter(self.stored, room)
        else:
            journal.leave(self.stored, room)
        self.noted()

    def leave_namespace(self, reason: DisconnectReason) -> None:
        """Fix the reason, take no more events, and cancel what runs; the session is kept or not."""
        super().leave_namespace(reason)
        if self.stored is None:
            return
        if self.was_connected:
            self._recoveries.left(self.stored, reason)
        else:
            self._recoveries.put_back(self.stored)

    def end(self) -> None:
        """Note that its last handler is done: the session may be claimed."""
        if self.stored is not None and self.was_connected:
            self._recoveries.ended(self.stored)
        if self._ended is None:
            self._ended = trio.Event()
        self._ended.set()

    async def wait_ended(self) -> None:
        """Wait until nothing of it is left."""
        if self._ended is None:
            self._ended = trio.Event()
        await self._ended.wait()
