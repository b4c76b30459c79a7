"""A bus in memory: brokers of one process as the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import trio

from broker.adapters.base import BusHost, LocalNamespace
from broker.adapters.cluster import ClusterLink, new_uid
from broker.adapters.errors import BusRefused, BusUnavailable
from protocol.bus.cluster import ClusterMessage, read_message


class Hub:
    """An adapter whose nodes hear each other at once.

    Attributes:
        away: While set, nothing is taken and nobody can be counted.
        drops: Told of each message; returns whether it is lost on the way.
    """

    def __init__(self, request_timeout: float = 5.0) -> None:
        self.nodes: list[HubBus] = []
        self.away = False
        self.refuses = False
        self.drops: Callable[[ClusterMessage], bool] = lambda message: False
        self.request_timeout = request_timeout
        self.seen: list[ClusterMessage] = []

    def bus(self, host: BusHost) -> HubBus:
        self.nodes.append(HubBus(self, host))
        return self.nodes[-1]


class HubBus:
    trouble = None

    def __init__(self, hub: Hub, host: BusHost) -> None:
        self.hub = hub
        self.host = host
        self.uid = new_uid()
        self.links: dict[str, ClusterLink] = {}
        self.carriers: dict[str, HubCarrier] = {}

    def link(self, local: LocalNamespace) -> ClusterLink:
        carrier = self.carriers[local.name] = HubCarrier(self, local.name)
        link = ClusterLink(self.uid, local, self.host, carrier, self.hub.request_timeout)
        self.links[local.name] = link
        return link

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self.hub.refuses:
            raise BusRefused("no")
        task_status.started()
        await trio.sleep_forever()


class HubCarrier:
    def __init__(self, bus: HubBus, name: str) -> None:
        self.bus = bus
        self.name = name
        self.rooms: set[str] = set()

    def publish(self, message: ClusterMessage) -> bool:
        return self._send(message, self.bus.hub.nodes)

    def respond(self, uid: str, message: ClusterMessage) -> bool:
        return self._send(message, [node for node in self.bus.hub.nodes if node.uid == uid])

    def _send(self, message: ClusterMessage, nodes: list[HubBus]) -> bool:
        hub = self.bus.hub
        hub.seen.append(message)
        if hub.away:
            return False
        wire: Any = message.to_wire()
        if b"unsendable" in str(wire).encode():
            raise TypeError("unsendable")
        if not hub.drops(message):
            for node in nodes:
                found = read_message(wire)
                assert found is not None
                if self.name in node.links:
                    node.links[self.name].receive(found)
        return True

    async def peers(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.bus.hub.away:
            raise BusUnavailable("away")
        return len(self.bus.hub.nodes) - 1

    async def names(self) -> Collection[str]:
        await trio.lowlevel.checkpoint()
        if self.bus.hub.away:
            raise BusUnavailable("away")
        return [node.uid for node in self.bus.hub.nodes if node is not self.bus]

    def room_created(self, room: str) -> None:
        self.rooms.add(room)

    def room_deleted(self, room: str) -> None:
        self.rooms.discard(room)

    def close(self) -> None:
        del self.bus.links[self.name]
