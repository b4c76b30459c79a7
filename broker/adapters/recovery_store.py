"""What keeps lost sessions and, beyond this process, their events: the interface, and the records it takes.

Each node holds the recent events of its namespaces itself, in a `broker.adapters.event_log.EventLog`. A store
keeps the sessions, so that another node, or the same one after a crash, can take them over, and gives back
events older than the node's own log. With a store that numbers events itself (a Redis stream), an event is
sent to it first and enters the log of every node, with the number it got, when it comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import trio
from attrs import define, field, frozen

from protocol import DisconnectReason
from protocol.bus.options import BroadcastOptions
from protocol.recovery import START, Offset, RecoveryRefusal, Stay


@define(eq=False, kw_only=True)
class StoredSession:
    """What is kept of one client in one namespace.

    Attributes:
        pid: Private id; whoever shows it gets the session, so it is never shown to others.
        id: Public id of the socket.
        namespace: Name of the namespace.
        start: The end of the log when the socket was let in first.
        stays: By room, when the session was in it; the last stay of a room may be open.
        ended: How many of these stays have ended.
        floor: Stays that ended before here have been forgotten.
        data: The socket's data: the dict itself, read when it is saved.
        identity: The user whose socket it is, if that is known.
        claims: What else was said about the user.
        expires_at: Until when that holds, in Unix seconds; None for ever.
        lost: Why its connection ended; None while it is connected.
        due: When it expires, on Trio's clock of this node; None while it is connected.
    """

    pid: str
    id: str
    namespace: str
    start: Offset = START
    stays: dict[str, list[Stay]] = field(factory=dict)
    ended: int = 0
    floor: Offset = START
    data: dict[str, Any] = field(factory=dict)
    identity: str | None = None
    claims: Mapping[str, Any] | None = None
    expires_at: float | None = None
    lost: DisconnectReason | None = None
    due: float | None = None

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in, its own among them."""
        return frozenset(room for room, stays in self.stays.items() if stays[-1].until is None)


@frozen
class StoredEvent:
    """An event as a store gives it back.

    Attributes:
        offset: Its position.
        args: Its name and arguments, without the offset.
        rooms: Rooms that it was sent to; none means everyone.
        except_rooms: Rooms that were left out.
    """

    offset: Offset
    args: Sequence[Any]
    rooms: tuple[str, ...] = ()
    except_rooms: tuple[str, ...] = ()


Expired = Callable[[StoredSession, RecoveryRefusal], None]


class SessionStore(Protocol):
    """Keeps sessions until their clients come back, or their window has passed.

    Written ahead: `save` is called when a socket is let in and at each change of its rooms or data, so that a
    session survives the death of the process if the store does. The plain functions never block: a store
    outside the process notes the session as changed and writes it soon, changes of one session joined, within
    a budget.
    """

    async def run(
        self, on_expired: Expired, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep sessions until cancelled.

        Args:
            on_expired: To be called once, on one node, for each lost session that nobody has claimed, with
                EXPIRED at the end of its window or TRIMMED if it was pushed out before. Never raises.
            task_status: Told when sessions can be taken.
        """

    def save(self, session: StoredSession) -> None:
        """Note that a session has begun, was recovered, or has changed; the node of the caller holds it."""

    def lose(self, session: StoredSession) -> None:
        """Note that its client is gone, or that a recovery was not completed: keep it a window from now."""

    def forget(self, session: StoredSession) -> None:
        """Note that a session has ended for good; `on_expired` is not called for it."""

    async def claim(self, namespace: str, pid: str) -> StoredSession | RecoveryRefusal:
        """Take a session for a client that shows its pid; of several at the same time one gets it.

        The caller either saves it, loses it again or forgets it. A session that another living node holds is
        UNKNOWN, unless that node gives it up.

        Args:
            namespace: Name of the namespace that the client wants to join.
            pid: What it sent, checked to be a short string and no more.

        Returns:
            The session, once this node's log has all that a shared log had when this was called; or why there
            is none: EXPIRED, TRIMMED (pushed out by others) or UNKNOWN.

        Cancellation: a session taken meanwhile is kept as lost.
        """

    async def backfill(
        self, session: StoredSession, after: Offset, until: Offset
    ) -> Sequence[StoredEvent] | None:
        """Return the events for a session behind `after`, up to and with `until`.

        This node's log no longer holds them.

        Returns:
            None if the store does not hold them either, or if they are more than an outbox takes.
        """


class SharedLog(Protocol):
    """A log outside the process that numbers the events of all nodes, and the sessions beside it.

    What it takes is handed to `LocalNamespace.deliver` when it comes back: with its offset, in the order of
    the log, the same on all nodes; or without one, and at once, while the log is out of reach.
    """

    @property
    def store(self) -> SessionStore:
        """Keeps the sessions."""

    @property
    def position(self) -> Offset:
        """The end of what has come back."""

    def publish(self, namespace: str, event: Sequence[Any], options: BroadcastOptions) -> bool:
        """Send an event to all nodes, this one among them. Never waits.

        Returns:
            False if the other nodes do not get it.

        Raises:
            TypeError: An argument has no form in the log.
        """


@runtime_checkable
class LogKeeper(Protocol):
    """A bus that may have a shared log."""

    def share_log(self, window: float, max_sessions: int) -> SharedLog | None:
        """Keep events and sessions from now on; called once, before it runs.

        Args:
            window: Seconds for which a lost session is kept.
            max_sessions: How many this node keeps an eye on.

        Returns:
            None if it cannot, with the options it has.
        """
