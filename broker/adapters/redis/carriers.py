"""Carry the cluster messages of one namespace over Redis: by sharded channels, or by a stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

from broker.adapters.base import BusHost, LocalNamespace
from protocol.bus.channels import ClusterChannels
from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.sharded import read_published, write_packed, write_sharded
from protocol.bus.streams import is_kept, write_entry

from .classic import glob_escaped
from .client import RedisClient
from .routes import RoomChannels, Routes

Receive = Callable[[ClusterMessage], None]
_UID: Final = re.compile(r"[0-9a-f]{16}")


class ShardedCarrier:
    """Publishes to sharded channels, as `createShardedAdapter` of the reference does."""

    publish_verb = "SPUBLISH"
    count_verb = "SHARDNUMSUB"
    list_verb = "SHARDCHANNELS"

    def __init__(
        self,
        uid: str,
        local: LocalNamespace,
        host: BusHost,
        client: RedisClient,
        routes: Routes,
        channels: ClusterChannels,
    ) -> None:
        self._uid = uid
        self._host = host
        self._client = client
        self._routes = routes
        self._channels = channels
        self._rooms = RoomChannels(routes, self._channel_of, local.has, self._on_message)
        self.receive: Receive = _nowhere

    def _channel_of(self, room: str) -> str | None:
        return self._channels.room(room) if self._channels.has_own(room) else None

    def open(self, receive: Receive) -> None:
        """Hand what comes in to somebody from now on."""
        self.receive = receive
        for channel in (self._channels.public, self._channels.private(self._uid)):
            self._routes.add(channel, self._on_message)

    def _on_message(self, data: bytes) -> None:
        message = read_published(data, self._host.depth)
        if message is None:
            self._host.events["malformed bus message"] += 1
        else:
            self.receive(message)

    def publish(self, message: ClusterMessage) -> bool:
        """Send a message to all other nodes, or to those that have its only room."""
        channel = self._channels.public
        if message.type is MessageType.BROADCAST and message.request_id is None:
            channel = self._channels.broadcast(message.options.rooms)
        return self._client.send(self.publish_verb, channel, self.write(message))

    def write(self, message: ClusterMessage) -> bytes:
        """Return a message as it is published."""
        return write_sharded(message)

    def respond(self, uid: str, message: ClusterMessage) -> bool:
        """Send a message to one node."""
        return self._client.send(self.publish_verb, self._channels.private(uid), self.write(message))

    async def peers(self) -> int:
        """Return how many other nodes there are."""
        reply = await self._client.ask("PUBSUB", self.count_verb, self._channels.public)
        return int(reply[1]) - 1

    async def names(self) -> Collection[str]:
        """Return the ids of the other nodes: each has a channel of its own."""
        prefix = self._channels.public
        found = await self._client.ask("PUBSUB", self.list_verb, f"{glob_escaped(prefix)}{'?' * 16}#")
        names = [one.decode()[len(prefix) : -1] for one in found]
        return [name for name in names if name != self._uid and _UID.fullmatch(name)]

    def room_created(self, room: str) -> None:
        """Hear a room, if it has a channel."""
        self._rooms.created(room)

    def room_deleted(self, room: str) -> None:
        """Hear a room no longer."""
        self._rooms.deleted(room)

    def close(self) -> None:
        """Take note that the namespace is no more."""
        self._rooms.close()
        for channel in (self._channels.public, self._channels.private(self._uid)):
            self._routes.remove(channel, self._on_message)


def _nowhere(message: ClusterMessage) -> None:
    """Take what comes before anybody wants it."""


class StreamsCarrier(ShardedCarrier):
    """Adds to a stream what is to be kept, and publishes the rest, as the streams adapter 0.3 does."""

    publish_verb = "PUBLISH"
    count_verb = "NUMSUB"
    list_verb = "CHANNELS"

    def __init__(
        self,
        uid: str,
        local: LocalNamespace,
        host: BusHost,
        client: RedisClient,
        routes: Routes,
        channels: ClusterChannels,
        stream: str,
        max_length: int,
    ) -> None:
        super().__init__(uid, local, host, client, routes, channels)
        self._stream = stream
        self._max_length = max_length
        self.closed: Callable[[], object] = lambda: None

    def publish(self, message: ClusterMessage) -> bool:
        """Send a message to all other nodes."""
        if not is_kept(message):
            return super().publish(message)
        fields = write_entry(message)
        return self._client.send("XADD", self._stream, "MAXLEN", "~", self._max_length, "*", *fields)

    def write(self, message: ClusterMessage) -> bytes:
        """Return a message as it is published."""
        return write_packed(message)

    def close(self) -> None:
        """Take note that the namespace is no more."""
        super().close()
        self.closed()
