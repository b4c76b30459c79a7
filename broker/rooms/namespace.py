"""A namespace: its members and rooms, who is let in, and how events go out to all of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import trio

from broker.adapters.base import Answers, Bus, Link
from broker.adapters.recovery_store import SharedLog
from broker.adapters.requests import UNKNOWN_NODE
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import BrokerError, ConnectRefused, EventError, without_group
from broker.flow.handlers import HandlerRegistry
from broker.flow.isolation import isolated
from broker.flow.names import check_event
from broker.flow.overflow import Policy
from protocol import DisconnectReason
from protocol.bus.options import BroadcastOptions
from protocol.recovery import Offset

from .broadcast import Broadcast
from .fanout import FanOut
from .history import RoomHistory
from .index import RoomEvent, RoomIndex
from .journal import Journal
from .local import LocalSide
from .logged import LoggedBroadcast
from .presence import Presence
from .shared_presence import SharedPresence
from .verbs import Listening, Sending

if TYPE_CHECKING:
    from broker.sessions.engine import Engine

    from .parent import ParentNamespace
    from .socket import Socket

logger = logging.getLogger(__name__)


class Namespace(Listening, Sending):
    """One namespace. Made by `broker.of(name)`, or by a pattern when its first client comes.

    Attributes:
        name: With its leading slash.
        engine: The broker's engine.
        encode_event: The codec's `event`; held here because each look-up on the way of an event counts.
        encode_ack: The codec's `ack`.
        policies: What becomes of events that clients cannot take.
        parent: The family it belongs to, if a pattern or predicate made it.
        sockets: Connected sockets by id.
        index: Who is in which room.
        fan_out: Delivers broadcasts.
        journal: Keeps its events; None unless recovery or room history is on.
        shared_log: Numbers its events together with those of other nodes; None if this node numbers its own.
        link: The way to the same namespace on other nodes; None if there are none.
        node: The name of this node among them.
        shared_presence: What they know of who is online here, if presence is in use.
    """

    def __init__(self, name: str, engine: Engine, parent: ParentNamespace | None = None) -> None:
        self.name = name
        self.engine = engine
        self.encode_event = engine.codec.event
        self.encode_ack = engine.codec.ack
        self.parent = parent
        self.sockets: dict[str, Socket] = {}
        self.index: RoomIndex[Socket] = RoomIndex(self._notice_room)
        self.fan_out = FanOut(engine)
        self.link: Link | None = None
        self.connecting = 0
        self.journal: Journal | None = None
        self.shared_log: SharedLog | None = None
        self._broadcast: type[Broadcast] = Broadcast
        self._registry = HandlerRegistry() if parent is None else parent.registry
        self._presence: Presence | None = None
        self.node = ""
        self.shared_presence: SharedPresence | None = None
        self.policies = self._registry.policies
        self.policies.set_fallback(engine.settings.overflow)
        self._last_ack_id = -1

    def __repr__(self) -> str:
        return f"<Namespace {self.name} with {len(self.sockets)} sockets>"

    @property
    def registry(self) -> HandlerRegistry:
        """What is registered."""
        return self._registry

    @property
    def presence(self) -> Presence:
        """Who is online here; see `Presence`."""
        if self._presence is None:
            self._presence = Presence(self)
            if self.link is not None:
                lease_time = self.engine.limits.presence_lease_time
                self.shared_presence = SharedPresence(self.node, self._presence, self.link, lease_time)
                self.shared_presence.ask()
        return self._presence

    async def end_presence(self) -> None:
        """Tell the last leaves: the broker closes."""
        if self._presence is not None:
            await self._presence.close()

    @property
    def rooms(self) -> dict[str, frozenset[str]]:
        """Ids of the members of each room; a socket's own room is not listed."""
        return {
            room: frozenset(socket.id for socket in members) for room, members in self.index.rooms.items()
        }

    def members(self) -> Collection[Socket]:
        """Return the connected sockets."""
        return self.sockets.values()

    def everyone(self) -> Broadcast:
        """Return the choice of all sockets."""
        return self._broadcast(self)

    def next_ack_id(self) -> int:
        """Return a new ack id; shared by a broadcast's members, so that it is encoded once."""
        self._last_ack_id += 1
        return self._last_ack_id

    def select(self, rooms: Sequence[str], except_rooms: Sequence[str]) -> Collection[Socket]:
        """Return the sockets in any of `rooms` (all, if there are none) and in none of `except_rooms`."""
        sockets = self.sockets
        if not rooms:
            chosen = sockets
            if not except_rooms:
                return sockets.values()
        elif len(rooms) == 1 and not except_rooms:
            own = sockets.get(rooms[0])
            members = self.index.members(rooms[0])
            return members if own is None else {own: None, **dict.fromkeys(members)}
        else:
            chosen = {socket.id: socket for room in rooms for socket in self._in_room(room)}
        excepted = {socket.id for room in except_rooms for socket in self._in_room(room)}
        return [socket for socket_id, socket in chosen.items() if socket_id not in excepted]

    def _in_room(self, room: str) -> list[Socket]:
        own = self.sockets.get(room)
        members = list(self.index.members(room))
        return members if own is None else [own, *members]

    def apply_policy(
        self,
        message: EncodedMessage,
        event: str,
        policy: Policy | None = None,
        rooms: Sequence[str] = (),
        *,
        asks: bool = False,
    ) -> None:
        """Give an event the policy that holds for it. Spec: FLOW-7.

        Args:
            message: The event, encoded.
            event: Its name.
            policy: The one it is sent with; None takes that of its room, the namespace, or the broker.
            rooms: Where it is sent to.
            asks: Whether it asks for an ack.
        """
        policy = policy or self.policies.find(rooms)
        if policy is not None:
            policy.apply(message, self.name, event, asks=asks)

    def notice_outgoing(self, event: str, args: Sequence[Any]) -> None:
        """Call the listeners for outgoing events."""
        for listener in self._registry.outgoing:
            listener(event, *args)

    def encode_for(
        self,
        event: str,
        args: Sequence[Any],
        options: BroadcastOptions,
        ack_id: int | None,
        offset: Offset | None = None,
    ) -> EncodedMessage:
        """Encode what another node has sent, and keep it as this node keeps its own.

        Raises:
            TypeError: An argument has no form on the wire.
        """
        journal = self.journal
        if journal is None or ack_id is not None:
            return self.encode_event(self.name, event, args, ack_id)
        if options.volatile:
            return journal.encode_volatile(event, args)
        return journal.record(event, args, options.rooms, options.except_rooms, offset)

    def link_to(self, bus: Bus, node: str) -> None:
        """Connect with the same namespace on other nodes; `node` names this one to them."""
        self.node = node
        self.link = bus.link(LocalSide(self))

    def add(self, socket: Socket) -> None:
        """Make a socket a member."""
        self.sockets[socket.id] = socket
        if self.link is not None:
            self.link.room_created(socket.id)

    def remove(self, socket: Socket) -> None:
        """Take a socket out, if it is in."""
        if self.sockets.pop(socket.id, None) is not None and self.link is not None:
            self.link.room_deleted(socket.id)

    def _notice_room(self, event: RoomEvent, room: str, socket: Socket | None) -> None:
        if self.journal is not None and socket is not None:
            socket.moved(room, event == "join-room")
        if socket is None and self.link is not None:
            (self.link.room_created if event == "create-room" else self.link.room_deleted)(room)
        for listener in self._registry.rooms:
            try:
                listener(event, room, socket)
            except Exception:
                self.engine.counters.events["failed"] += 1
                logger.exception("listener for rooms of %s failed", self.name)

    def keep_events(self, journal: Journal, shared: SharedLog | None = None) -> None:
        """Keep what is sent from here on; with a shared log, send it there first."""
        self.journal = journal
        self.shared_log = shared
        self._broadcast = LoggedBroadcast

    def history(self, room: str, *, since: str | None = None, limit: int | None = None) -> RoomHistory:
        """Return the latest events that were sent to a room, oldest first.

        Kept are events sent to this room by name, not to everyone, without an ack and not volatile. Nothing
        comes between a `socket.join(room)` and this if nothing is awaited in between: what is live follows
        what is returned without a gap and without a repetition, if the answer goes out first, as an ack does.

        Args:
            room: The room.
            since: A position: events behind it are wanted, None wants all that are kept. Each event that a
                client gets carries its position as its last argument.
            limit: The most events to return; None returns all.

        Raises:
            BrokerError: Room history is off.
            ValueError: `since` is no position, or `limit` is below 1.
        """
        if self.journal is None:
            raise BrokerError("room history is off; turn it on by Settings(history=History())")
        return self.journal.history(room, since, limit)

    async def server_side_emit(self, event: str, *args: Any, timeout: float | None = None) -> Answers[Any]:
        """Send an event to the other nodes of the cluster; there `on_server_event` has the handlers.

        Args:
            event: Its name.
            args: JSON values and bytes.
            timeout: Seconds to wait for the answer of each node; None wants no answers.

        Returns:
            The answers; `silent` names the nodes that did not answer in time.

        Raises:
            ValueError: The name is reserved.
            TypeError: An argument has no form on the bus.
        """
        check_event(event)
        link = self.link
        if link is not None and timeout is not None:
            return await link.server_side_emit((event, *args), timeout)
        taken = link is None or link.server_side_send((event, *args))
        await trio.lowlevel.checkpoint()
        return Answers(silent=() if taken else (UNKNOWN_NODE,))

    # Letting sockets in and out; the connection calls these

    async def join(self, socket: Socket) -> None:
        """Run the middlewares, let the socket in, and run the connect handler. Spec: SIO-CON-4.

        A refusal is sent to the client. Never raises anything but cancellation.
        """
        self.connecting += 1
        try:
            for middleware in () if socket.passes_middlewares else self._registry.middlewares:
                result = middleware(socket)
                if isawaitable(result):
                    await result
            entered = socket.leaving is None and socket.let_in()
        except Exception as error:
            socket.refuse(*self._refusal(error))
            return
        finally:
            # Only now: an empty namespace that somebody is about to enter must stay.
            self.connecting -= 1
            self.maybe_remove()
        if entered:
            await self._run_connect(socket)

    def _refusal(self, error: Exception) -> tuple[str, Any]:
        """Return message and data of a CONNECT_ERROR. Spec: SIO-CON-5."""
        known = without_group(error)
        if isinstance(known, ConnectRefused):
            return known.message, known.data
        if isinstance(known, EventError):
            return known.message, {"code": known.code, "data": known.data}
        self.engine.counters.events["middleware failed"] += 1
        logger.error("middleware of %s failed", self.name, exc_info=error)
        return "internal error", None

    async def _run_connect(self, socket: Socket) -> None:
        handler = self._registry.handlers.get("connect")
        if handler is None:
            return
        try:
            result = handler.function(socket)
            if isawaitable(result):
                await result
        except Exception as error:
            known = without_group(error)
            if not isinstance(known, ConnectRefused):
                self._note_failed("connect", error)
                return
            # The client has its CONNECT already: all that is left is to send it away.
            logger.debug("connect handler of %s refused: %s", self.name, known)
            socket.disconnect()

    def _note_failed(self, event: str, error: Exception) -> None:
        self.engine.counters.events["failed"] += 1
        logger.error("%s handler of %s failed", event, self.name, exc_info=error)

    async def say_goodbye(self, socket: Socket, event: str, reason: DisconnectReason) -> None:
        """Run the `disconnecting` or `disconnect` handler in the cleanup window."""
        handler = self._registry.handlers.get(event)
        if handler is None:
            return
        args = (socket, reason)[: 1 + int(min(handler.max_args, 1))]
        window = self.engine.ending_window(self.engine.limits.cleanup_timeout)
        with window, isolated(partial(self._note_failed, event)):
            result = handler.function(*args)
            if isawaitable(result):
                await result
        if window.cancelled_caught:
            self.engine.counters.events["cleanup timeout"] += 1
            logger.warning("%s handler of %s was still running after its window", event, self.name)

    def maybe_remove(self) -> None:
        """Remove a namespace of a family that has become empty, if the settings say so."""
        # While users are online, be it for their grace time, their presence must not be forgotten.
        if self.parent is not None and not self.sockets and not self.connecting and not self._presence:
            self.parent.child_is_empty(self)
