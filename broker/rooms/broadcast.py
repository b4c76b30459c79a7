"""A choice of sockets and how to send to them: immutable, so that a stored one never changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import evolve, field, frozen

from broker.flow.acks import AckWaiter, single_value
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import BrokerError, Disconnected, TooManyAcks
from broker.flow.outbox import Verdict
from protocol import DisconnectReason
from protocol.socketio.packet import RESERVED_EVENTS

from .fanout import EmitResult
from .identity import user_room

if TYPE_CHECKING:
    from .namespace import Namespace
    from .remote import RemoteSocket
    from .socket import Socket


@frozen
class BroadcastAcks:
    """Who answered a broadcast, and who did not.

    Attributes:
        responses: Socket id and value, in the order of arrival.
        missing: Ids that did not answer in time.
        disconnected: Ids that left first.
    """

    responses: list[tuple[str, Any]] = field(factory=list)
    missing: list[str] = field(factory=list)
    disconnected: list[str] = field(factory=list)

    @property
    def complete(self) -> bool:
        """Whether everyone answered."""
        return not self.missing and not self.disconnected


def check_event(event: str) -> None:
    """Refuse an event name that the protocol keeps to itself. Spec: SIO-EVT-3.

    Raises:
        TypeError: It is no text.
        ValueError: It is reserved.
    """
    if not isinstance(event, str):
        raise TypeError(f"an event name is a str, not {type(event).__name__}")
    if event in RESERVED_EVENTS:
        raise ValueError(f"{event!r} is a reserved event name")


def check_rooms(rooms: Iterable[Any]) -> None:
    """Refuse what cannot be a room name.

    Raises:
        TypeError: A name is no text; several rooms are several arguments, not a list.
    """
    for room in rooms:
        if not isinstance(room, str):
            raise TypeError(
                f"a room is a str, not {type(room).__name__}; give several rooms as several arguments"
            )


@frozen
class Broadcast:
    """Sockets of a namespace, chosen by rooms; every method that narrows it returns a new one.

    Without rooms it means everyone in the namespace. A socket that is in several rooms counts once.
    """

    _namespace: Namespace
    rooms: tuple[str, ...] = ()
    except_rooms: tuple[str, ...] = ()
    is_local: bool = False
    is_volatile: bool = False
    ack_timeout: float | None = None

    # Choosing

    def to(self, *rooms: str) -> Broadcast:
        """Add rooms to send to."""
        check_rooms(rooms)
        return evolve(self, rooms=self.rooms + rooms)

    def in_(self, *rooms: str) -> Broadcast:
        """Add rooms to send to; the same as `to`."""
        return self.to(*rooms)

    def to_user(self, *users: str) -> Broadcast:
        """Add all sockets of users, by the identity that a middleware has set."""
        return evolve(self, rooms=self.rooms + tuple(map(user_room, users)))

    def except_(self, *rooms: str) -> Broadcast:
        """Leave out everyone in these rooms; wins over `to`."""
        check_rooms(rooms)
        return evolve(self, except_rooms=self.except_rooms + rooms)

    @property
    def local(self) -> Broadcast:
        """Only sockets of this process."""
        return evolve(self, is_local=True)

    @property
    def volatile(self) -> Broadcast:
        """For events that may be dropped for those who cannot take them at once. Spec: SIO-EVT-5."""
        return evolve(self, is_volatile=True)

    def compress(self, compress: bool) -> Broadcast:
        """Say whether to compress; without effect, since compression is off."""
        return self

    def timeout(self, seconds: float) -> Broadcast:
        """Set how long `call` waits for acks."""
        if not seconds > 0:
            raise ValueError(f"a timeout is greater than 0 seconds, not {seconds!r}")
        return evolve(self, ack_timeout=seconds)

    def select(self) -> Collection[Socket]:
        """Return the sockets it means now, each once."""
        return self._namespace.select(self.rooms, self.except_rooms)

    # Sending

    def emit(self, event: str, *args: Any) -> EmitResult:
        """Send an event to all of them; encoded once, never waits.

        Raises:
            ValueError: The name is reserved.
            TypeError: An argument has no JSON form.

        Spec: SIO-EVT-1.
        """
        namespace = self._namespace
        check_event(event)
        namespace.notice_outgoing(event, args)
        message = namespace.encode_event(namespace.name, event, args, key=event)
        return namespace.fan_out.deliver(message, self.select(), self.is_volatile)

    def send(self, *args: Any) -> EmitResult:
        """Send the event `message`."""
        return self.emit("message", *args)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> BroadcastAcks:
        """Send an event to all of them and wait for their acks.

        Args:
            event: Its name.
            args: JSON values and bytes.
            timeout: Seconds to wait; None takes the one set by `timeout()`, else `Limits.ack_timeout`.

        Returns:
            One outcome for each of them.

        Raises:
            ValueError: The name is reserved.
            TypeError: An argument has no JSON form.

        Cancellation: the event may be on the wire already; late acks are ignored. Spec: SIO-ACK-5.
        """
        namespace = self._namespace
        check_event(event)
        namespace.notice_outgoing(event, args)
        ack_id = namespace.next_ack_id()
        message = namespace.encode_event(namespace.name, event, args, ack_id, key=event)
        collector = _Collector(ack_id)
        seconds = timeout if timeout is not None else self.ack_timeout
        if seconds is None:
            seconds = namespace.engine.limits.ack_timeout
        try:
            collector.ask(self.select(), message)
            with trio.move_on_after(seconds):
                await collector.done.wait()
        finally:
            collector.stop()
        return collector.acks

    # Managing

    async def fetch_sockets(self) -> list[RemoteSocket]:
        """Return a view of each of them."""
        await trio.lowlevel.checkpoint()
        return [socket.view() for socket in self.select()]

    async def sockets_join(self, *rooms: str) -> None:
        """Put all of them into rooms."""
        await self._each(lambda socket: socket.join(*rooms))

    async def sockets_leave(self, *rooms: str) -> None:
        """Take all of them out of rooms."""
        await self._each(lambda socket: socket.leave(*rooms))

    async def disconnect_sockets(self, close: bool = False) -> None:
        """Make all of them leave the namespace, or close their sessions."""
        await self._each(lambda socket: socket.disconnect(close))

    async def _each(self, action: Callable[[Socket], None]) -> None:
        await trio.lowlevel.checkpoint()
        for socket in list(self.select()):
            action(socket)


class Direct:
    """One socket, reached with options: what `socket.volatile` and `socket.timeout()` return."""

    __slots__ = ("_ack_timeout", "_is_volatile", "_socket")

    def __init__(
        self, socket: Socket, *, is_volatile: bool = False, ack_timeout: float | None = None
    ) -> None:
        self._socket = socket
        self._is_volatile = is_volatile
        self._ack_timeout = ack_timeout

    @property
    def volatile(self) -> Direct:
        """For events that may be dropped if it cannot take them at once. Spec: SIO-EVT-5."""
        return Direct(self._socket, is_volatile=True, ack_timeout=self._ack_timeout)

    def timeout(self, seconds: float) -> Direct:
        """Set how long `call` waits."""
        return Direct(self._socket, is_volatile=self._is_volatile, ack_timeout=seconds)

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event; see `Socket.emit`."""
        if not self._is_volatile:
            return self._socket.emit(event, *args)
        return self._socket.offer_volatile(self._socket.encode(event, args))

    async def call(self, event: str, *args: Any) -> Any:
        """Send an event and wait for its ack; see `Socket.call`."""
        return await self._socket.call(event, *args, timeout=self._ack_timeout)


class _Collector:
    """Collects the outcome of each member of one broadcast with acks."""

    def __init__(self, ack_id: int) -> None:
        self.acks = BroadcastAcks()
        self.done = trio.Event()
        self._ack_id = ack_id
        self._waiting: dict[str, Socket] = {}

    def ask(self, sockets: Iterable[Socket], message: EncodedMessage) -> None:
        message.build_frame()
        for socket in sockets:
            try:
                socket.acks.expect(self._ack_id, partial(self._settle, socket.id))
            except TooManyAcks:
                self.acks.missing.append(socket.id)
                continue
            self._waiting[socket.id] = socket
            socket.offer(message)
        if not self._waiting:
            self.done.set()

    def _settle(self, socket_id: str, outcome: Sequence[Any] | DisconnectReason) -> None:
        del self._waiting[socket_id]
        if isinstance(outcome, DisconnectReason):
            self.acks.disconnected.append(socket_id)
        else:
            self.acks.responses.append((socket_id, single_value(outcome)))
        if not self._waiting:
            self.done.set()

    def stop(self) -> None:
        for socket_id, socket in self._waiting.items():
            socket.acks.forget(self._ack_id)
            self.acks.missing.append(socket_id)
        self._waiting.clear()


async def call_one(socket: Socket, message: EncodedMessage, ack_id: int, timeout: float) -> Any:
    """Send a message to one socket and wait for its ack; see `Socket.call`."""
    if socket.leaving is not None:
        await trio.lowlevel.checkpoint()
        raise Disconnected(socket.leaving)
    if not socket.connected:
        await trio.lowlevel.checkpoint()
        raise BrokerError("the socket is not in its namespace yet: it cannot be called in a middleware")
    waiter = AckWaiter()
    socket.acks.expect(ack_id, waiter.settle)
    try:
        socket.offer(message)
        return single_value(await waiter.wait(timeout))
    finally:
        socket.acks.forget(ack_id)
