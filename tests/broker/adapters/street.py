"""Processes of one server in one process: lines between them over bounded pipes that a test can hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from broker.adapters.mesh import Mesh, MeshBus
from broker.testing.pipes import stream_pair

Serve = Callable[[int, trio.abc.Stream], Awaitable[None]]


class Street:
    """All of them.

    Attributes:
        houses: By number.
        opened: The newest line between two of them, by the numbers of its sender and its receiver.
    """

    def __init__(self, count: int, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.houses = [House(self, number, count) for number in range(count)]
        self.opened: dict[tuple[int, int], Any] = {}


class House:
    """One of them, as it sees the others.

    Attributes:
        is_there: Whether others can open lines to it.
    """

    def __init__(self, street: Street, own: int, count: int) -> None:
        self.own = own
        self.count = count
        self.is_there = True
        self._street = street
        self._serve: Serve | None = None
        self.bus: MeshBus | None = None

    @property
    def adapter(self) -> Any:
        """Return the adapter, which remembers its bus."""
        house = self

        class Remembering(Mesh):
            def bus(self, host: Any) -> Any:
                house.bus = MeshBus(house, host)
                return house.bus

        return Remembering(self)

    def on_line(self, serve: Serve) -> None:
        self._serve = serve

    async def open_line(self, number: int) -> trio.abc.Stream | None:
        await trio.lowlevel.checkpoint()
        other = self._street.houses[number]
        if not other.is_there or other._serve is None:
            return None
        ours, theirs = stream_pair()
        self._street.opened[self.own, number] = ours
        self._street.nursery.start_soon(other.take, self.own, theirs)
        return ours

    async def take(self, number: int, stream: trio.abc.Stream) -> None:
        assert self._serve is not None
        async with stream:
            await self._serve(number, stream)
