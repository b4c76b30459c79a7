"""One client in one namespace: what handlers get."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from broker.flow.acks import AckTable
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import Disconnected
from broker.flow.isolation import isolated
from broker.flow.names import check_event, check_rooms
from broker.flow.outbox import Verdict
from broker.flow.overflow import OverflowPolicy, Policy, make_policy
from broker.flow.request import Handshake
from protocol import DisconnectReason
from protocol.recovery import RecoveryRefusal

from .broadcast import Broadcast, Direct, call_one
from .identity import USER_ROOM, Identified
from .remote import RemoteSocket

if TYPE_CHECKING:
    from .connection import Connection
    from .namespace import Namespace

logger = logging.getLogger(__name__)


class Socket(Identified):
    """One client in one namespace.

    Attributes:
        id: Public id, also the name of a room that only this socket is in.
        namespace: Where it is.
        data: Anything the application wants to keep with it.
        connected: Whether it has been let in and has not left.
        recovered: Whether its client has lost its connection and come back: id, rooms and data are those
            from before, and it gets the events that it has missed.
        recovery_refused: Why its client, which asked for that, got a new socket instead; else None.
    """

    __slots__ = (
        "_ack_table",
        "_auth",
        "_handshake",
        "_shown_rooms",
        "data",
        "id",
        "recovered",
        "recovery_refused",
        "was_connected",
    )

    def __init__(
        self, socket_id: str, namespace: Namespace, connection: Connection, auth: dict[str, Any] | None
    ) -> None:
        super().__init__(namespace, connection)
        self.id = socket_id
        self.data: dict[str, Any] = {}
        self.was_connected = False
        self.recovered = False
        self.recovery_refused: RecoveryRefusal | None = None
        self._auth = auth
        self._handshake: Handshake | None = None
        self._ack_table: AckTable | None = None
        # What `rooms` shows while it is no member: before it is let in, and after it has left.
        self._shown_rooms: frozenset[str] | None = frozenset((socket_id,))

    def __repr__(self) -> str:
        return f"<Socket {self.id} in {self.namespace.name}>"

    # What it is

    @property
    def handshake(self) -> Handshake:
        """What the session's first request and the CONNECT said."""
        if self._handshake is None:
            self._handshake = self._connection.session.opening.handshake(self._auth)
        return self._handshake

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in, its own among them; empty once the disconnect handler runs."""
        if self._shown_rooms is not None:
            return self._shown_rooms
        return frozenset((self.id, *self.namespace.index.rooms_of(self)))

    @property
    def transport(self) -> str:
        """`polling` or `websocket`."""
        return self._connection.session.transport.name

    # Sending

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event to this client. Never waits.

        Args:
            event: Its name.
            args: JSON values and bytes; bytes travel as attachments.

        Returns:
            QUEUED, or why it was not: DROPPED by the overflow policy, CLOSED if the socket has left or, in a
            middleware, is not in yet.

        Raises:
            ValueError: The name is reserved.
            TypeError: An argument has no JSON form.

        Spec: SIO-EVT-1.
        """
        return self.offer(self.encode(event, args))

    def emit_kept(self, event: str, args: tuple[Any, ...], policy: Policy | None = None) -> Verdict:
        """Send an event; where lost connections are recovered, it waits for a client that is away."""
        return self.offer(self.encode(event, args, policy=policy))

    def send(self, *args: Any) -> Verdict:
        """Send the event `message`."""
        return self.emit("message", *args)

    async def send_event(self, event: str, *args: Any) -> Verdict:
        """Send an event once there is room for it in the outbox, whatever the policy is.

        Returns:
            QUEUED, or CLOSED if the socket has left or leaves meanwhile.

        Raises:
            ValueError: The name is reserved.
            TypeError: An argument has no JSON form.

        Cancellation: the event is queued whole or not at all.
        """
        await self.outbox.wait_room()
        # Encoded only now: an offset must not be given out before those of what goes first.
        return self.emit(event, *args)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and wait for its ack.

        Args:
            event: Its name.
            args: JSON values and bytes.
            timeout: Seconds to wait; None takes `Limits.ack_timeout`.

        Returns:
            None, the one value of the ack, or a tuple of several.

        Raises:
            AckTimeout: No ack in time.
            Disconnected: The socket ended first.
            TooManyAcks: The client owes too many already.

        Cancellation: the event may be on the wire already; a late ack is ignored. Spec: SIO-ACK-1.
        """
        if timeout is None:
            timeout = self._connection.limits.ack_timeout
        ack_id = self.namespace.next_ack_id()
        return await call_one(self, self.encode(event, args, ack_id), ack_id, timeout)

    @property
    def acks(self) -> AckTable:
        """The acks this client owes."""
        if self._ack_table is None:
            self._ack_table = AckTable(self._connection.limits.outstanding_acks)
        return self._ack_table

    def encode(
        self, event: str, args: tuple[Any, ...], ack_id: int | None = None, policy: Policy | None = None
    ) -> EncodedMessage:
        """Encode an event of this namespace; listeners for outgoing events see it."""
        check_event(event)
        namespace = self.namespace
        namespace.notice_outgoing(event, args)
        message = namespace.encode_event(namespace.name, event, args, ack_id)
        if namespace.policies.in_use or policy is not None:
            namespace.apply_policy(message, event, policy, asks=ack_id is not None)
        return message

    def encode_volatile(
        self, event: str, args: tuple[Any, ...], policy: Policy | None = None
    ) -> EncodedMessage:
        """Encode an event that may be dropped."""
        return self.encode(event, args, policy=policy)

    # Broadcasting

    @property
    def broadcast(self) -> Broadcast:
        """Everyone in the namespace but this socket."""
        return Broadcast(self.namespace, except_rooms=(self.id,))

    def to(self, *rooms: str) -> Broadcast:
        """Everyone in these rooms but this socket."""
        return self.broadcast.to(*rooms)

    def in_(self, *rooms: str) -> Broadcast:
        """Everyone in these rooms but this socket."""
        return self.to(*rooms)

    def to_user(self, *users: str) -> Broadcast:
        """All sockets of these users but this one; see `Namespace.to_user`."""
        return self.broadcast.to_user(*users)

    def except_(self, *rooms: str) -> Broadcast:
        """Everyone but those in these rooms and this socket."""
        return self.broadcast.except_(*rooms)

    @property
    def volatile(self) -> Direct:
        """This socket, for events that may be dropped if it cannot take them at once. Spec: SIO-EVT-5."""
        return Direct(self, is_volatile=True)

    def overflow(self, policy: OverflowPolicy, key: str | None = None) -> Direct:
        """This socket, with another policy for what it cannot take; see `Broadcast.overflow`."""
        return Direct(self, policy=make_policy(policy, key))

    def timeout(self, seconds: float) -> Direct:
        """This socket, with a default timeout for `call`."""
        return Direct(self, ack_timeout=seconds)

    def view(self) -> RemoteSocket:
        """Return what `fetch_sockets` shows of this socket."""
        return RemoteSocket(
            id=self.id,
            namespace=self.namespace,
            handshake=self.handshake,
            rooms=self.rooms,
            data=self.data,
        )

    def join(self, *rooms: str) -> None:
        """Put this socket into rooms; does nothing once it has left the namespace.

        In a middleware it takes effect when the socket is let in.

        Raises:
            ValueError: It would be in more rooms than `Limits.rooms_per_socket`, or a name is longer than
                `Limits.room_bytes`, or begins as that of a user's room (`identity` puts it there).
        """
        check_rooms(rooms)
        if any(room.startswith(USER_ROOM) for room in rooms):
            raise ValueError("the room of a user is joined by setting the identity of the socket")
        limits = self._connection.limits
        if any(len(room.encode()) > limits.room_bytes for room in rooms if room != self.id):
            raise ValueError(f"the name of a room is {limits.room_bytes} bytes at most")
        if self.leaving is not None:
            return
        index = self.namespace.index
        limit = limits.rooms_per_socket
        # Its own room and that of its user do not count.
        if len(self.rooms.union(rooms)) > limit + 1 + self.is_present:
            raise ValueError(f"a socket may be in {limit} rooms at most")
        if self._shown_rooms is not None:
            self._shown_rooms = self._shown_rooms.union(rooms)
            return
        for room in rooms:
            if room != self.id:
                index.join(self, room)

    def leave(self, *rooms: str) -> None:
        """Take this socket out of rooms; its own room, and that of its user, it cannot leave."""
        check_rooms(rooms)
        rooms = tuple(room for room in rooms if not room.startswith(USER_ROOM))
        if self._shown_rooms is not None and self.leaving is None:
            self._shown_rooms = self._shown_rooms.difference(rooms).union((self.id,))
            return
        for room in rooms:
            self.namespace.index.leave(self, room)

    # Lifetime

    def disconnect(self, close: bool = False) -> None:
        """Make this socket leave its namespace; a stock client does not come back by itself.

        Its handlers and tasks are cancelled at their next checkpoint; then its acks fail, its rooms are left
        and the disconnect handler runs.

        Args:
            close: Make the client leave all its namespaces, and close its session.

        Spec: SIO-DIS-2.
        """
        if close:
            self._connection.disconnect_all()
        else:
            self._connection.disconnect(self)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a task that ends with this socket.

        What it raises is logged and counted; nothing else is disturbed.

        Raises:
            Disconnected: The socket has left.
        """
        if self.leaving is not None or not self._connection.session.start_soon(
            self._supervise, function, args
        ):
            raise Disconnected(self.leaving or DisconnectReason.SERVER_SHUTTING_DOWN)

    async def _supervise(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        with trio.CancelScope() as scope:
            self.enter(scope)
            try:
                with isolated(self._note_failed_task):
                    await function(*args)
            finally:
                self.exit(scope)

    def _note_failed_task(self, error: Exception) -> None:
        self.namespace.engine.counters.events["task failed"] += 1
        logger.error("task of a socket in %s failed", self.namespace.name, exc_info=error)

    # For the connection and the namespace

    def move_to(self, namespace: Namespace) -> None:
        """Take the namespace that was found for the name the client asked for."""
        self.namespace = namespace
        self._handlers = namespace.registry.handlers
        self._intercepted = bool(namespace.registry.incoming)

    def let_in(self) -> bool:
        """Become a member, and answer CONNECT; False if the client is gone meanwhile.

        Raises:
            ConnectRefused: What a middleware knows of the user has expired already.
        """
        self.check_expiry()
        if not self._connection.let_in(self, self.first_messages(), self.answer()):
            return False
        self.connected = self.was_connected = True
        self._intercepted |= bool(self.namespace.registry.incoming)
        self.namespace.add(self)
        rooms, self._shown_rooms = self.rooms, None
        self.join(*rooms)
        self.come_online()
        return True

    @property
    def passes_middlewares(self) -> bool:
        """Whether the middlewares need not look at it."""
        return False

    def first_messages(self) -> Iterable[EncodedMessage]:
        """Return what goes out before the answer to CONNECT."""
        return ()

    def answer(self) -> dict[str, Any]:
        """Return the answer to CONNECT. Spec: SIO-CON-3, SIO-REC-7."""
        if self.recovery_refused is None:
            return {"sid": self.id}
        return {"sid": self.id, "recovery": self.recovery_refused.value}

    def refuse(self, message: str, data: Any) -> None:
        """Answer CONNECT_ERROR."""
        answer = {"message": message} if data is None else {"message": message, "data": data}
        self._connection.refuse(self, answer)

    def leave_namespace(self, reason: DisconnectReason) -> None:
        """Fix the reason, take no more events, and cancel what runs."""
        self._shown_rooms = self.rooms
        self.leaving = reason
        self.connected = False
        self.namespace.remove(self)
        self.namespace.index.leave_all(self)
        self.go_offline(reason)
        self.cancel_all()

    def moved(self, room: str, inside: bool) -> None:
        """Take note that it has joined or left a room."""

    def end(self) -> None:
        """Take note that its last handler is done."""

    @property
    def is_idle(self) -> bool:
        """Whether none of its handlers and tasks runs and the client owes no ack."""
        return self.active == 0 and not self._ack_table

    def fail_acks(self, reason: DisconnectReason) -> None:
        """Tell everyone who waits for an ack of this client."""
        if self._ack_table is not None:
            self._ack_table.fail_all(reason)

    def forget_rooms(self) -> None:
        """Show no rooms from now on."""
        self._shown_rooms = frozenset()
