"""What a namespace asks of its peers on other nodes, whatever the form of the messages on the bus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar, Final, Generic, TypeVar

import trio
from attrs import frozen

from protocol.bus.options import BroadcastOptions

from .base import Answers, RemoteAcks
from .errors import BusError
from .requests import Request, Requests

NAMES_TIMEOUT: Final = 1.0  # seconds to find out the names of those who are silent

Kind = TypeVar("Kind", bound=IntEnum)


@frozen(kw_only=True)
class Kinds(Generic[Kind]):
    """The message types of one form of bus messages, by what they ask for."""

    broadcast: Kind
    join: Kind
    leave: Kind
    disconnect: Kind
    fetch: Kind
    server_event: Kind


class AskingLink(ABC, Generic[Kind]):
    """The asking half of a `Link`; how messages are written and counted is left to each form.

    Args:
        requests: The questions of this namespace that wait.
        request_timeout: Seconds that other nodes have to tell of their sockets.
    """

    kinds: ClassVar[Kinds[Any]]

    def __init__(self, requests: Requests, request_timeout: float) -> None:
        self._requests = requests
        self._timeout = request_timeout

    @abstractmethod
    def _publish(self, kind: Kind, **fields: Any) -> bool:
        """Send a message to all other nodes; False if it was not taken."""

    @abstractmethod
    async def _peers(self) -> int:
        """Return how many other nodes there are.

        Raises:
            BusError: It cannot be known now.
        """

    @abstractmethod
    async def _silent(self, request: Request) -> tuple[str, ...]:
        """Count and name the nodes that have not answered."""

    def sockets_join(self, options: BroadcastOptions, rooms: Sequence[str]) -> bool:
        """Put sockets of the other nodes into rooms."""
        return self._publish(self.kinds.join, options=options, rooms=tuple(rooms))

    def sockets_leave(self, options: BroadcastOptions, rooms: Sequence[str]) -> bool:
        """Take sockets of the other nodes out of rooms."""
        return self._publish(self.kinds.leave, options=options, rooms=tuple(rooms))

    def disconnect_sockets(self, options: BroadcastOptions, close: bool) -> bool:
        """Make sockets of the other nodes leave."""
        return self._publish(self.kinds.disconnect, options=options, close=close)

    async def broadcast_with_ack(
        self, event: Sequence[Any], options: BroadcastOptions, timeout: float
    ) -> RemoteAcks:
        """Send an event with ack to sockets of the other nodes, and wait until all have answered."""
        request, silent = await self._ask(
            self.kinds.broadcast, timeout, asks_clients=True, event=event, options=options
        )
        return RemoteAcks(request.values, request.clients, silent)

    async def fetch_sockets(self, options: BroadcastOptions) -> Answers[dict[str, Any]]:
        """Ask the other nodes for their sockets."""
        request, silent = await self._ask(self.kinds.fetch, self._timeout, options=options)
        return Answers(request.values, silent)

    def server_side_send(self, event: Sequence[Any]) -> bool:
        """Send an event to the other nodes themselves, and want no answers."""
        return self._publish(self.kinds.server_event, event=event)

    async def server_side_emit(self, event: Sequence[Any], timeout: float) -> Answers[Any]:
        """Send an event to the other nodes themselves, and gather their answers."""
        request, silent = await self._ask(self.kinds.server_event, timeout, event=event)
        return Answers(request.values, silent)

    async def _ask(
        self, kind: Kind, timeout: float, *, asks_clients: bool = False, **fields: Any
    ) -> tuple[Request, tuple[str, ...]]:
        """Send a question and gather what is answered in time; say who kept silent."""
        request_id, request = self._requests.open(asks_clients)
        try:
            with trio.move_on_after(timeout):
                try:
                    peers = await self._peers()
                except BusError:
                    return request, request.silent()
                if peers > 0 and not self._publish(kind, request_id=request_id, **fields):
                    return request, request.silent()
                request.expect(peers)
                await request.done.wait()
        finally:
            self._requests.close(request_id)
        return request, await self._silent(request)
