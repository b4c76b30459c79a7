"""The names of the channels on which the nodes of one namespace hear each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SubscriptionMode = Literal["dynamic", "static", "dynamic-private"]
SOCKET_ID_LENGTH = 20  # the reference takes every room with a name of this length for a socket


@dataclass(frozen=True, slots=True)
class ClassicChannels:
    """Channels of the classic adapter.

    Attributes:
        key: The prefix of all channels.
        namespace: Name of the namespace.
        uid: The node.
    """

    key: str
    namespace: str
    uid: str

    @property
    def everyone(self) -> str:
        """Broadcasts to all, or to several rooms."""
        return f"{self.key}#{self.namespace}#"

    def room(self, room: str) -> str:
        """Broadcasts to one room."""
        return f"{self.key}#{self.namespace}#{room}#"

    def broadcast(self, rooms: tuple[str, ...]) -> str:
        """Return where a broadcast to rooms goes."""
        return self.room(rooms[0]) if len(rooms) == 1 else self.everyone

    @property
    def request(self) -> str:
        """Requests; whoever is subscribed to it is a member of the cluster."""
        return f"{self.key}-request#{self.namespace}#"

    @property
    def response(self) -> str:
        """Answers to everybody's requests."""
        return f"{self.key}-response#{self.namespace}#"

    @property
    def own_response(self) -> str:
        """Answers to this node's requests."""
        return f"{self.key}-response#{self.namespace}#{self.uid}#"


@dataclass(frozen=True, slots=True)
class ClusterChannels:
    """Channels of the sharded adapter, and of the streams adapter for what is not kept.

    Attributes:
        prefix: The prefix of all channels.
        namespace: Name of the namespace.
        mode: Which rooms have channels of their own; the same on all nodes.
    """

    prefix: str
    namespace: str
    mode: SubscriptionMode = "static"

    @property
    def public(self) -> str:
        """For all; whoever is subscribed to it is a member of the cluster."""
        return f"{self.prefix}#{self.namespace}#"

    def private(self, uid: str) -> str:
        """For one node."""
        return f"{self.prefix}#{self.namespace}#{uid}#"

    def room(self, room: str) -> str:
        """For the nodes that have a room."""
        return f"{self.prefix}#{self.namespace}#{room}#"

    def has_own(self, room: str) -> bool:
        """Tell whether a room has a channel of its own."""
        if self.mode == "dynamic":
            return len(room) != SOCKET_ID_LENGTH
        return self.mode == "dynamic-private"

    def broadcast(self, rooms: tuple[str, ...]) -> str:
        """Return where a broadcast to rooms goes."""
        return self.room(rooms[0]) if len(rooms) == 1 and self.has_own(rooms[0]) else self.public
