"""A choice of sockets and how to send to them: immutable, so that a stored one never changes."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import evolve, frozen

from broker.adapters.base import Answers, Link
from broker.adapters.errors import BusUnavailable
from broker.flow.acks import AckWaiter, single_value
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import BrokerError, Disconnected, Unanswered
from broker.flow.names import check_event, check_rooms
from broker.flow.outbox import Verdict
from broker.flow.overflow import OverflowPolicy, Policy, make_policy
from protocol.bus.options import BroadcastOptions

from .collecting import BroadcastAcks, Collector, note_outcome
from .fanout import EmitResult
from .identity import user_room
from .local import join_all
from .remote import RemoteSocket, remote_socket

if TYPE_CHECKING:
    from .namespace import Namespace
    from .socket import Socket


SOCKET_ID_LENGTH = 20  # characters; rooms of this length are taken for sockets where it matters


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
    policy: Policy | None = None

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

    def overflow(self, policy: OverflowPolicy, key: str | None = None) -> Broadcast:
        """Set what becomes of the event where a client has no room for it; wins over `set_overflow`.

        Args:
            policy: `disconnect` ends the session; `drop_oldest` drops older events that were sent with it, or
                with `keep_latest`; `drop_newest` drops this one; `keep_latest` puts it in the place of the
                waiting one with the same key; `wait` refuses it, for senders that use `send_event`.
            key: For `keep_latest`: what it is the latest of; None takes the name of the event.

        Raises:
            ValueError: There is no such policy, or it takes no key.

        Spec: FLOW-7.
        """
        return evolve(self, policy=make_policy(policy, key))

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
        message = self._encode(event, args)
        published = self._publish(event, args)
        result = self._namespace.fan_out.deliver(message, self.select(), self.is_volatile)
        return result if published else evolve(result, unpublished=1)

    def _publish(self, event: str, args: tuple[Any, ...]) -> bool:
        """Send the event to the other nodes, if there are any; False if not taken."""
        link = self._link
        return link is None or link.broadcast((event, *args), self._options())

    def _encode(self, event: str, args: tuple[Any, ...], ack_id: int | None = None) -> EncodedMessage:
        namespace = self._namespace
        check_event(event)
        namespace.notice_outgoing(event, args)
        message = namespace.encode_event(namespace.name, event, args, ack_id)
        if namespace.policies.in_use or self.policy is not None:
            namespace.apply_policy(message, event, self.policy, self.rooms, asks=ack_id is not None)
        return message

    def _options(self, timeout: float | None = None) -> BroadcastOptions:
        """Return the choice as other nodes read it."""
        flags: dict[str, Any] = {}
        if self.is_volatile:
            flags["volatile"] = True
        if self.policy is not None:
            flags["overflow"] = self.policy.to_wire()
        if timeout is not None:
            flags["timeout"] = math.ceil(timeout * 1000)
        return BroadcastOptions(self.rooms, self.except_rooms, flags)

    @property
    def _link(self) -> Link | None:
        """The way to the other nodes, if they are meant as well."""
        return None if self.is_local else self._namespace.link

    def send(self, *args: Any) -> EmitResult:
        """Send the event `message`."""
        return self.emit("message", *args)

    async def send_event(self, event: str, *args: Any) -> EmitResult:
        """Send an event to all of them, waiting for those that have no room for it.

        Those who have room get it at once. Who takes nothing for too long is a slow consumer, and is then
        waited for no more. Clients of other nodes are not waited for.

        Returns:
            What became of it, once nobody is waited for.

        Raises:
            ValueError: The name is reserved.
            TypeError: An argument has no JSON form.

        Cancellation: some may have got it, the others do not.
        """
        message = self._encode(event, args)
        published = self._publish(event, args)
        result = await self._namespace.fan_out.deliver_patiently(message, self.select())
        return result if published else evolve(result, unpublished=1)

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
            TooManyRequests: As many questions wait for other nodes as may; only this node was asked.

        Cancellation: the event may be on the wire already; late acks are ignored. Spec: SIO-ACK-5.
        """
        namespace = self._namespace
        ack_id = namespace.next_ack_id()
        message = self._encode(event, args, ack_id)
        seconds = timeout if timeout is not None else self.ack_timeout
        if seconds is None:
            seconds = namespace.engine.limits.ack_timeout
        acks = BroadcastAcks()
        collector = Collector(ack_id, partial(note_outcome, acks))
        link = self._link
        try:
            acks.missing.extend(collector.ask(self.select(), message))
            if link is None:
                with trio.move_on_after(seconds):
                    await collector.done.wait()
            else:
                await self._ask_everywhere(link, (event, *args), seconds, collector, acks)
        finally:
            acks.missing.extend(collector.stop())
        return acks

    async def _ask_everywhere(
        self, link: Link, event: tuple[Any, ...], seconds: float, collector: Collector, acks: BroadcastAcks
    ) -> None:
        """Wait for the acks of all nodes; sockets of others have no name unless one alone was asked."""
        asked = self.rooms[0] if len(self.rooms) == 1 and len(self.rooms[0]) == SOCKET_ID_LENGTH else ""
        deadline = trio.current_time() + seconds
        # Acks of this node are taken meanwhile, too.
        remote = await link.broadcast_with_ack(event, self._options(seconds), seconds)
        acks.responses.extend((asked, value) for value in remote.responses)
        acks.missing.extend([asked] * (remote.expected - len(remote.responses)))
        acks.silent.extend(remote.silent)
        with trio.move_on_at(deadline):
            await collector.done.wait()

    # Managing

    async def fetch_sockets(self) -> Answers[RemoteSocket]:
        """Return a view of each of them; `silent` names the nodes that did not answer in time."""
        link = self._link
        if link is None:
            await trio.lowlevel.checkpoint()
            return Answers(socket.view() for socket in self.select())
        others = await link.fetch_sockets(self._options())
        views = [socket.view() for socket in self.select()]
        return Answers(
            (*views, *(remote_socket(self._namespace, one) for one in others)), silent=others.silent
        )

    async def sockets_join(self, *rooms: str) -> None:
        """Put all of them into rooms.

        On other nodes it takes effect when the message arrives there: this does not wait for it.

        Raises:
            ValueError: A socket of this node would be in too many rooms (all others are in), or a name is
                too long.
            BusUnavailable: It was done on this node alone: the bus is away and its buffer is full.
        """
        check_rooms(rooms)
        link = self._link
        taken = link is None or link.sockets_join(self._options(), rooms)
        await trio.lowlevel.checkpoint()
        refused = join_all(self.select(), rooms)
        _check_taken(taken)
        if refused:
            raise refused[0]

    async def sockets_leave(self, *rooms: str) -> None:
        """Take all of them out of rooms; on other nodes as `sockets_join`.

        Raises:
            BusUnavailable: It was done on this node alone: the bus is away and its buffer is full.
        """
        check_rooms(rooms)
        link = self._link
        taken = link is None or link.sockets_leave(self._options(), rooms)
        await trio.lowlevel.checkpoint()
        for socket in list(self.select()):
            socket.leave(*rooms)
        _check_taken(taken)

    async def disconnect_sockets(self, close: bool = False) -> None:
        """Make all of them leave the namespace, or close their sessions; on other nodes as `sockets_join`.

        Raises:
            BusUnavailable: It was done on this node alone: the bus is away and its buffer is full.
        """
        link = self._link
        taken = link is None or link.disconnect_sockets(self._options(), close)
        await trio.lowlevel.checkpoint()
        for socket in list(self.select()):
            socket.disconnect(close)
        _check_taken(taken)


def _check_taken(taken: bool) -> None:
    """Raise `BusUnavailable` if only this node has heard of it."""
    if not taken:
        raise BusUnavailable("the other nodes cannot be told now: the bus is away and its buffer is full")


class Direct:
    """One socket, reached with options: what `socket.volatile` and `socket.timeout()` return."""

    __slots__ = ("_ack_timeout", "_is_volatile", "_policy", "_socket")

    def __init__(
        self,
        socket: Socket,
        *,
        is_volatile: bool = False,
        ack_timeout: float | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._socket = socket
        self._is_volatile = is_volatile
        self._ack_timeout = ack_timeout
        self._policy = policy

    @property
    def volatile(self) -> Direct:
        """For events that may be dropped if it cannot take them at once. Spec: SIO-EVT-5."""
        return Direct(self._socket, is_volatile=True, ack_timeout=self._ack_timeout, policy=self._policy)

    def timeout(self, seconds: float) -> Direct:
        """Set how long `call` waits."""
        return Direct(self._socket, is_volatile=self._is_volatile, ack_timeout=seconds, policy=self._policy)

    def overflow(self, policy: OverflowPolicy, key: str | None = None) -> Direct:
        """Set what becomes of the event if there is no room for it; see `Broadcast.overflow`."""
        return Direct(
            self._socket,
            is_volatile=self._is_volatile,
            ack_timeout=self._ack_timeout,
            policy=make_policy(policy, key),
        )

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event; see `Socket.emit`."""
        if not self._is_volatile:
            return self._socket.emit_kept(event, args, self._policy)
        return self._socket.offer_volatile(self._socket.encode_volatile(event, args, self._policy))

    async def call(self, event: str, *args: Any) -> Any:
        """Send an event and wait for its ack; see `Socket.call`."""
        return await self._socket.call(event, *args, timeout=self._ack_timeout)


async def call_one(socket: Socket, message: EncodedMessage, ack_id: int, timeout: float) -> Any:
    """Send a message to one socket and wait for its ack; see `Socket.call`."""
    counted = socket.namespace.engine.counters.acks
    if socket.leaving is not None:
        await trio.lowlevel.checkpoint()
        counted["disconnected"] += 1
        raise Disconnected(socket.leaving)
    if not socket.connected:
        await trio.lowlevel.checkpoint()
        raise BrokerError("the socket is not in its namespace yet: it cannot be called in a middleware")
    waiter = AckWaiter()
    try:
        socket.acks.expect(ack_id, waiter.settle)
        socket.offer(message)
        return single_value(await waiter.wait(timeout))
    except Unanswered as error:
        counted[error.word] += 1
        raise
    except trio.Cancelled:
        counted["cancelled"] += 1
        raise
    finally:
        socket.acks.forget(ack_id)
