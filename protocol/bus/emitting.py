"""What a process that is no node tells a cluster, as commands to Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from . import classic
from .channels import ClassicChannels, ClusterChannels, SubscriptionMode
from .classic import EMITTER, ClassicBroadcast, ClassicRequest, RequestType
from .cluster import ClusterMessage, MessageType
from .commands import Part
from .options import EVERYONE, BroadcastOptions
from .sharded import write_packed, write_sharded
from .streams import is_kept, stream_name, write_entry

Command = tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """Whom something is for, and how the nodes of the cluster hear it.

    Attributes:
        mode: `classic`, `sharded` or `streams`.
        key: Prefix of the channels.
        namespace: Name of the namespace.
        options: Whom it is for.
        subscription_mode: Sharded: which rooms have channels of their own.
        stream: Streams: name of the stream.
        stream_count: Streams: how many there are.
        stream_length: Streams: how many entries are kept, about.
    """

    mode: Literal["classic", "sharded", "streams"] = "classic"
    key: str = "socket.io"
    namespace: str = "/"
    options: BroadcastOptions = EVERYONE
    subscription_mode: SubscriptionMode = "dynamic"
    stream: str = "socket.io"
    stream_count: int = 1
    stream_length: int = 10_000

    def of(self, namespace: str) -> Emission:
        """Return the same for another namespace, and everyone in it."""
        name = namespace if namespace.startswith("/") else f"/{namespace}"
        return replace(self, namespace=name, options=EVERYONE)

    def narrowed(
        self, rooms: tuple[str, ...] = (), except_rooms: tuple[str, ...] = (), **flags: Any
    ) -> Emission:
        """Return the same with more rooms, more exceptions, more flags."""
        known = self.options
        options = BroadcastOptions(
            known.rooms + rooms, known.except_rooms + except_rooms, {**known.flags, **flags}
        )
        return replace(self, options=options)

    def emit(self, event: Sequence[Any]) -> Command:
        """Send an event to sockets.

        Raises:
            TypeError: An argument has no form on the bus.
        """
        if self.mode != "classic":
            return self._cluster(MessageType.BROADCAST, event=event)
        message = ClassicBroadcast(EMITTER, self.namespace, event, self.options)
        channels = ClassicChannels(self.key, self.namespace, EMITTER)
        return "PUBLISH", channels.broadcast(self.options.rooms), classic.write_broadcast(message)

    def join(self, rooms: tuple[str, ...]) -> Command:
        """Put sockets into rooms."""
        if self.mode != "classic":
            return self._cluster(MessageType.SOCKETS_JOIN, rooms=rooms)
        return self._request(RequestType.REMOTE_JOIN, rooms=rooms)

    def leave(self, rooms: tuple[str, ...]) -> Command:
        """Take sockets out of rooms."""
        if self.mode != "classic":
            return self._cluster(MessageType.SOCKETS_LEAVE, rooms=rooms)
        return self._request(RequestType.REMOTE_LEAVE, rooms=rooms)

    def disconnect(self, close: bool) -> Command:
        """Make sockets leave the namespace, or close their sessions."""
        if self.mode != "classic":
            return self._cluster(MessageType.DISCONNECT_SOCKETS, close=close)
        return self._request(RequestType.REMOTE_DISCONNECT, close=close)

    def server_side_emit(self, event: Sequence[Any]) -> Command:
        """Send an event to the nodes themselves.

        Raises:
            TypeError: An argument has no form on the bus.
        """
        if self.mode != "classic":
            return self._cluster(MessageType.SERVER_SIDE_EMIT, event=event)
        return self._request(RequestType.SERVER_SIDE_EMIT, uid=EMITTER, event=event)

    def _request(self, kind: RequestType, **fields: Any) -> Command:
        request = ClassicRequest(type=kind, options=self.options, **fields)
        channels = ClassicChannels(self.key, self.namespace, EMITTER)
        return "PUBLISH", channels.request, classic.write_request(request)

    def _cluster(self, kind: MessageType, **fields: Any) -> Command:
        message = ClusterMessage(
            type=kind, uid=EMITTER, namespace=self.namespace, options=self.options, **fields
        )
        if self.mode == "sharded":
            channels = ClusterChannels(self.key, self.namespace, self.subscription_mode)
            is_event = kind is MessageType.BROADCAST
            channel = channels.broadcast(self.options.rooms) if is_event else channels.public
            return "SPUBLISH", channel, write_sharded(message)
        if not is_kept(message):
            return "PUBLISH", ClusterChannels(self.key, self.namespace).public, write_packed(message)
        stream = stream_name(self.stream, self.stream_count, self.namespace)
        return "XADD", stream, "MAXLEN", "~", self.stream_length, "*", *write_entry(message)
