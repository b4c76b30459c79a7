"""The verbs that a namespace, a family of namespaces and the broker itself have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from broker.flow.handlers import HandlerRegistry
from broker.flow.overflow import OverflowPolicy, make_policy

from .presence import PRESENCE_KINDS, PresenceKind

if TYPE_CHECKING:
    from broker.adapters.base import Answers

    from .broadcast import Broadcast
    from .collecting import BroadcastAcks
    from .fanout import EmitResult
    from .remote import RemoteSocket
    from .socket import Socket

Function = TypeVar("Function", bound=Callable[..., Any])
Middleware = Callable[["Socket"], Awaitable[None] | None]


class Listening(ABC):
    """Registering handlers, middlewares and catch-all listeners."""

    __slots__ = ()

    @property
    @abstractmethod
    def registry(self) -> HandlerRegistry:
        """What is registered."""

    @abstractmethod
    def members(self) -> Iterable[Socket]:
        """Return the sockets that this is about."""

    def on(self, event: str, *, concurrency: int = 1) -> Callable[[Function], Function]:
        """Register a handler for an event: `handler(socket, *arguments)`.

        What it returns is the ack: None acks without arguments, a tuple with several, `NO_ACK` not at all.
        `connect` gets the socket, `disconnecting` and `disconnect` the socket and the reason. No event of a
        client is handled before its `connect` handler has ended: what takes long there is for
        `socket.start_soon`.

        Args:
            event: Its name.
            concurrency: How many may run at once for one socket. With 1, the default, the events of a socket
                run one after another, in order.

        Raises:
            ValueError: The name is reserved, the event has a handler, or `concurrency` is below 1.
            TypeError: The handler's parameters cannot take an event.
        """
        return self.registry.on(event, concurrency)

    def off(self, event: str) -> None:
        """Remove the handler of an event, if there is one."""
        self.registry.off(event)

    def use(self, middleware: Middleware) -> Middleware:
        """Run this, in order of registration, before a socket is let in; `ConnectRefused` keeps it out."""
        self.registry.middlewares.append(middleware)
        return middleware

    def set_overflow(
        self, policy: OverflowPolicy | None, key: str | None = None, *, room: str | None = None
    ) -> None:
        """Set what becomes of events that a client has no room for; see `Broadcast.overflow`.

        What an emit itself says wins over its room, the room over the namespace, and that over
        `Settings.overflow`. Of an event to several rooms, the first that has a policy decides.

        Args:
            policy: None takes back what was set.
            key: For `keep_latest`; None takes the name of each event.
            room: Only for events sent to this room; None means all of the namespace.

        Raises:
            ValueError: There is no such policy, or it takes no key.
        """
        self.registry.policies.set(None if policy is None else make_policy(policy, key), room)

    def on_any(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call this with each event that comes in, before its handler: `listener(event, *arguments)`.

        Events of sockets that are connected already are seen too, from the next on.
        """
        self.registry.incoming.append(listener)
        for socket in self.members():
            socket.intercept()
        return listener

    def on_any_outgoing(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call this with each event that goes out, once a broadcast: `listener(event, *arguments)`."""
        self.registry.outgoing.append(listener)
        return listener

    def on_server_event(self, event: str) -> Callable[[Function], Function]:
        """Register a handler for what other nodes send with `server_side_emit`: `handler(*arguments)`.

        What it returns is the answer, if one is wanted: of a tuple the first value, `NO_ACK` for none.

        Raises:
            ValueError: The event has a handler.
        """
        handlers = self.registry.server

        def register(function: Function) -> Function:
            if event in handlers:
                raise ValueError(f"the server-side event {event!r} is handled already")
            handlers[event] = function
            return function

        return register

    def on_presence(self, kind: PresenceKind) -> Callable[[Function], Function]:
        """Register a handler for users who come online or go: `handler(change)`, sync or async.

        Called once for a user, however many sockets they have, and on every node; one call after the other,
        in order. Who came and went before a call could begin is not told of.

        Args:
            kind: `join` or `leave`.

        Raises:
            ValueError: It is neither.
        """
        if kind not in PRESENCE_KINDS:
            raise ValueError(f"presence has {' and '.join(PRESENCE_KINDS)}, not {kind!r}")

        def register(handler: Function) -> Function:
            self.registry.presence.append((kind, handler))
            return handler

        return register

    def on_room(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call this when rooms come and go: `listener(event, room, socket)`, a plain function.

        The event is `create-room`, `join-room`, `leave-room` or `delete-room`; the socket is None for the
        first and the last. The room that each socket has for itself is not told of.
        """
        self.registry.rooms.append(listener)
        return listener

    def on_session_expired(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call this once for each lost session that was kept and is over: `listener(session)`.

        A plain function; it gets an `ExpiredSession`. Only with `Settings(recovery=...)`: `disconnect` tells
        that a connection is lost, this that its client will not get its socket back.
        """
        self.registry.expired.append(listener)
        return listener


class Sending(ABC):
    """Choosing sockets and sending to them."""

    __slots__ = ()

    @abstractmethod
    def everyone(self) -> Broadcast:
        """Return the choice of all sockets."""

    def emit(self, event: str, *args: Any) -> EmitResult:
        """Send an event to everyone; see `Broadcast.emit`."""
        return self.everyone().emit(event, *args)

    def send(self, *args: Any) -> EmitResult:
        """Send the event `message` to everyone."""
        return self.everyone().emit("message", *args)

    async def send_event(self, event: str, *args: Any) -> EmitResult:
        """Send an event to everyone, at the pace of the slowest; see `Broadcast.send_event`."""
        return await self.everyone().send_event(event, *args)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> BroadcastAcks:
        """Send an event to everyone and wait for their acks; see `Broadcast.call`."""
        return await self.everyone().call(event, *args, timeout=timeout)

    def to(self, *rooms: str) -> Broadcast:
        """Choose everyone in these rooms."""
        return self.everyone().to(*rooms)

    def in_(self, *rooms: str) -> Broadcast:
        """Choose everyone in these rooms; the same as `to`."""
        return self.everyone().to(*rooms)

    def to_user(self, *users: str) -> Broadcast:
        """Choose all sockets of users, by the identity that a middleware has set.

        A user is reached like a room, whatever node the sockets are on; nobody can be put into that room but
        by `Socket.identity`.
        """
        return self.everyone().to_user(*users)

    def except_(self, *rooms: str) -> Broadcast:
        """Choose everyone but those in these rooms."""
        return self.everyone().except_(*rooms)

    @property
    def local(self) -> Broadcast:
        """Choose only sockets of this process."""
        return self.everyone().local

    @property
    def volatile(self) -> Broadcast:
        """Choose everyone, for events that may be dropped. Spec: SIO-EVT-5."""
        return self.everyone().volatile

    def overflow(self, policy: OverflowPolicy, key: str | None = None) -> Broadcast:
        """Choose everyone, with another policy for slow clients; see `Broadcast.overflow`."""
        return self.everyone().overflow(policy, key)

    def timeout(self, seconds: float) -> Broadcast:
        """Choose everyone, with a timeout for `call`."""
        return self.everyone().timeout(seconds)

    async def fetch_sockets(self) -> Answers[RemoteSocket]:
        """Return a view of each socket, of all nodes; see `Broadcast.fetch_sockets`."""
        return await self.everyone().fetch_sockets()

    async def sockets_join(self, *rooms: str) -> None:
        """Put all sockets into rooms."""
        await self.everyone().sockets_join(*rooms)

    async def sockets_leave(self, *rooms: str) -> None:
        """Take all sockets out of rooms."""
        await self.everyone().sockets_leave(*rooms)

    async def disconnect_sockets(self, close: bool = False) -> None:
        """Make all sockets leave, or close their sessions."""
        await self.everyone().disconnect_sockets(close)
