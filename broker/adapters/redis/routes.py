"""Hands what comes from Redis to whom it is for, by channel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from broker.adapters.base import BusHost

from .client import RedisClient, is_message

logger = logging.getLogger(__name__)

Take = Callable[[bytes], None]


class Routes:
    """Who hears which channel. Several may: the room `a` of `/` has the name that `/#a` has for everyone.

    Args:
        host: The broker's side.
        verb: SUBSCRIBE, or SSUBSCRIBE for sharded channels.

    Attributes:
        client: The connection, once it is made.
    """

    def __init__(self, host: BusHost, verb: str) -> None:
        self._host = host
        self._verb = verb
        self._takers: dict[bytes, tuple[Take, ...]] = {}
        self.client: RedisClient | None = None

    def add(self, channel: str, take: Take) -> None:
        """Hear a channel."""
        name = channel.encode()
        self._takers[name] = (*self._takers.get(name, ()), take)
        assert self.client is not None
        self.client.subscribe(self._verb, channel)

    def remove(self, channel: str, take: Take) -> None:
        """Have somebody hear a channel no longer, who may hear it under another name still."""
        name = channel.encode()
        takers = list(self._takers.get(name, ()))
        if take not in takers:
            return
        takers.remove(take)
        self._takers[name] = tuple(takers)
        if not takers:
            del self._takers[name]
            assert self.client is not None
            self.client.unsubscribe(self._verb, channel)

    def on_push(self, push: list[Any]) -> None:
        """Hand a message on. Nothing that a message does ends the connection."""
        if not is_message(push):
            return
        takers = self._takers.get(push[1])
        if takers is None:
            return  # it was on its way when the channel was left
        if len(push[2]) > self._host.limits.bus_message_bytes:
            self._host.events["oversized bus message"] += 1
            return
        for take in takers if len(takers) == 1 else dict.fromkeys(takers):
            try:
                take(push[2])
            except Exception:
                self._host.events["failed"] += 1
                logger.exception("a message on the bus could not be handled")


class RoomChannels:
    """The channels of the rooms of one namespace that have members here.

    Args:
        routes: Where they are heard.
        name: Gives the channel of a room; None if it has none of its own.
        has: Tells whether a room, or a socket of that id, is here.
        take: Takes what comes.
    """

    def __init__(
        self, routes: Routes, name: Callable[[str], str | None], has: Callable[[str], bool], take: Take
    ) -> None:
        self._routes = routes
        self._name = name
        self._has = has
        self._take = take
        self.rooms: set[str] = set()

    def created(self, room: str) -> None:
        """Hear a room."""
        channel = self._name(room)
        if channel is not None and room not in self.rooms:
            self.rooms.add(room)
            self._routes.add(channel, self._take)

    def deleted(self, room: str) -> None:
        """Hear it no longer, unless there is a socket of that id, or a room, still."""
        channel = self._name(room)
        if channel is not None and room in self.rooms and not self._has(room):
            self.rooms.discard(room)
            self._routes.remove(channel, self._take)

    def close(self) -> None:
        """Hear none."""
        for room in self.rooms:
            channel = self._name(room)
            if channel is not None:
                self._routes.remove(channel, self._take)
        self.rooms.clear()
