"""Requests and answers between the nodes of a cluster, as cluster messages, whatever carries them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, Protocol

import trio

from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.options import BroadcastOptions

from .asking import NAMES_TIMEOUT, AskingLink, Kinds
from .base import BusHost, LocalNamespace
from .errors import BusError
from .requests import Request, Requests

REQUEST_TIMEOUT: Final = 5.0  # seconds, as in the reference


def new_uid() -> str:
    """Return a new id for a node or a request, in the form of the reference."""
    return secrets.token_hex(8)


class Carrier(Protocol):
    """Takes the messages of one namespace to the other nodes, in order.

    What returns a bool says whether the message was taken: False means that it is lost.
    """

    def publish(self, message: ClusterMessage) -> bool:
        """Send a message to all other nodes. Never waits."""

    def respond(self, uid: str, message: ClusterMessage) -> bool:
        """Send a message to one node. Never waits."""

    async def peers(self) -> int:
        """Return how many other nodes there are.

        Raises:
            BusError: It cannot be known now.
        """

    async def names(self) -> Collection[str]:
        """Return the ids of the other nodes, as far as they can be known; asked for only in trouble."""

    def room_created(self, room: str) -> None:
        """Take note that a room, or the socket of that id, is here now."""

    def room_deleted(self, room: str) -> None:
        """Take note that nobody is in a room any more."""

    def close(self) -> None:
        """Take note that the namespace is no more."""


class ClusterLink(AskingLink[MessageType]):
    """Connects one namespace to its peers on other nodes; a `Link`.

    Whoever carries the messages hands those that come in to `receive`, and tells `node_left` of a node that
    it knows to be gone.

    Args:
        uid: The id of this node.
        local: The namespace.
        host: The broker's side.
        carrier: Takes messages away.
        request_timeout: Seconds that other nodes have to tell of their sockets.
    """

    kinds = Kinds(
        broadcast=MessageType.BROADCAST,
        join=MessageType.SOCKETS_JOIN,
        leave=MessageType.SOCKETS_LEAVE,
        disconnect=MessageType.DISCONNECT_SOCKETS,
        fetch=MessageType.FETCH_SOCKETS,
        server_event=MessageType.SERVER_SIDE_EMIT,
    )

    def __init__(
        self,
        uid: str,
        local: LocalNamespace,
        host: BusHost,
        carrier: Carrier,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        super().__init__(Requests(host.limits.bus_requests, new_uid), request_timeout)
        self.uid = uid
        self._local = local
        self._host = host
        self._carrier = carrier

    def _message(self, kind: MessageType, **fields: Any) -> ClusterMessage:
        return ClusterMessage(type=kind, uid=self.uid, namespace=self._local.name, **fields)

    # What the namespace asks for

    def broadcast(self, event: Sequence[Any], options: BroadcastOptions) -> bool:
        """Send an event to sockets of the other nodes."""
        return self._publish(self.kinds.broadcast, event=event, options=options)

    def _publish(self, kind: MessageType, **fields: Any) -> bool:
        return self._carrier.publish(self._message(kind, **fields))

    async def _peers(self) -> int:
        return await self._carrier.peers()

    async def _silent(self, request: Request) -> tuple[str, ...]:
        silent = request.silent()
        if not silent:
            return ()
        self._host.events["silent node"] += len(silent)
        names: Collection[str] = ()
        with trio.move_on_after(NAMES_TIMEOUT):
            try:
                names = await self._carrier.names()
            except BusError:
                pass
        return request.silent(names)

    def room_created(self, room: str) -> None:
        """Take note of a room."""
        self._carrier.room_created(room)

    def room_deleted(self, room: str) -> None:
        """Take note that a room is empty."""
        self._carrier.room_deleted(room)

    def close(self) -> None:
        """Take note that the namespace is no more."""
        self._carrier.close()

    # What comes from the other nodes

    def node_left(self, uid: str) -> None:
        """Wait no longer for the answers of a node."""
        self._requests.node_left(uid)

    def receive(self, message: ClusterMessage) -> None:
        """Take a message; those of this node and of other namespaces are passed over."""
        if message.uid == self.uid or message.namespace != self._local.name:
            return
        handle = _HANDLERS.get(message.type)
        if handle is not None:
            handle(self, message)

    def _on_broadcast(self, message: ClusterMessage) -> None:
        if message.request_id is None:
            self._local.deliver(message.event, message.options)
            return
        limits = self._host.limits
        timeout = message.options.timeout(limits.ack_timeout, limits.bus_ack_timeout)
        answered = partial(self._answer, message, MessageType.BROADCAST_ACK)
        count = self._local.ask(message.event, message.options, timeout, answered)
        self._respond(message, MessageType.BROADCAST_CLIENT_COUNT, count=count)

    def _on_join(self, message: ClusterMessage) -> None:
        self._local.sockets_join(message.options, message.rooms)

    def _on_leave(self, message: ClusterMessage) -> None:
        self._local.sockets_leave(message.options, message.rooms)

    def _on_disconnect(self, message: ClusterMessage) -> None:
        self._local.disconnect_sockets(message.options, message.close)

    def _on_fetch(self, message: ClusterMessage) -> None:
        sockets = self._local.describe(message.options)
        try:
            self._respond(message, MessageType.FETCH_SOCKETS_RESPONSE, sockets=sockets)
        except TypeError:
            # What an application keeps in `socket.data` may have no form on the bus: then without it.
            self._host.events["unsendable data"] += 1
            bare = [{**one, "data": {}} for one in sockets]
            self._respond(message, MessageType.FETCH_SOCKETS_RESPONSE, sockets=bare)

    def _on_server_event(self, message: ClusterMessage) -> None:
        answer = None
        if message.request_id is not None:
            answer = partial(self._answer, message, MessageType.SERVER_SIDE_EMIT_RESPONSE)
        self._local.server_event(message.event, answer)

    def _answer(self, message: ClusterMessage, kind: MessageType, value: Any) -> None:
        try:
            self._respond(message, kind, answer=value)
        except TypeError:
            self._host.events["unsendable data"] += 1
            self._respond(message, kind)

    def _respond(self, message: ClusterMessage, kind: MessageType, **fields: Any) -> None:
        self._carrier.respond(message.uid, self._message(kind, request_id=message.request_id, **fields))

    def _on_sockets(self, message: ClusterMessage) -> None:
        self._take(message, message.sockets)

    def _on_server_answer(self, message: ClusterMessage) -> None:
        self._take(message, (message.answer,))

    def _on_count(self, message: ClusterMessage) -> None:
        self._take(message, (), message.count)

    def _take(self, message: ClusterMessage, values: Sequence[Any], clients: int = 0) -> None:
        request = self._requests.get(message.request_id)
        if request is None or not request.node_answered(message.uid, values, clients):
            self._host.events["late answer"] += 1

    def _on_ack(self, message: ClusterMessage) -> None:
        request = self._requests.get(message.request_id)
        if request is None:
            self._host.events["late answer"] += 1
        else:
            request.client_answered(message.answer)


_HANDLERS: Final[dict[MessageType, Callable[[ClusterLink, ClusterMessage], None]]] = {
    MessageType.BROADCAST: ClusterLink._on_broadcast,
    MessageType.SOCKETS_JOIN: ClusterLink._on_join,
    MessageType.SOCKETS_LEAVE: ClusterLink._on_leave,
    MessageType.DISCONNECT_SOCKETS: ClusterLink._on_disconnect,
    MessageType.FETCH_SOCKETS: ClusterLink._on_fetch,
    MessageType.FETCH_SOCKETS_RESPONSE: ClusterLink._on_sockets,
    MessageType.SERVER_SIDE_EMIT: ClusterLink._on_server_event,
    MessageType.SERVER_SIDE_EMIT_RESPONSE: ClusterLink._on_server_answer,
    MessageType.BROADCAST_CLIENT_COUNT: ClusterLink._on_count,
    MessageType.BROADCAST_ACK: ClusterLink._on_ack,
}
