"""The sockets of this node, as a bus to other nodes reaches them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Collection, Iterable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import trio

from broker.adapters.base import Answered
from broker.flow.acks import Outcome
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import NO_ACK, EventError, error_answer, without_group
from broker.flow.isolation import isolated
from broker.flow.overflow import read_policy
from protocol import DisconnectReason
from protocol.bus.options import BroadcastOptions
from protocol.recovery import Offset
from protocol.socketio.packet import RESERVED_EVENTS

from .collecting import Collector
from .remote import describe
from .shared_presence import PRESENCE_EVENT

if TYPE_CHECKING:
    from .namespace import Namespace
    from .socket import Socket

logger = logging.getLogger(__name__)


def join_all(sockets: Iterable[Socket], rooms: Sequence[str]) -> list[ValueError]:
    """Put each of some sockets into rooms, whoever else cannot be; return why those cannot."""
    refused: list[ValueError] = []
    for socket in list(sockets):
        try:
            socket.join(*rooms)
        except ValueError as error:
            refused.append(error)
    return refused


class LocalSide:
    """One namespace of this node; a `broker.adapters.base.LocalNamespace`.

    What the bus brings is checked as what a peer sends: what cannot be done is counted and passed over.
    """

    def __init__(self, namespace: Namespace) -> None:
        self.name = namespace.name
        self._namespace = namespace
        self._running = 0

    def _select(self, options: BroadcastOptions) -> Collection[Socket]:
        return self._namespace.select(options.rooms, options.except_rooms)

    def _count_event(self, cause: str) -> None:
        self._namespace.engine.counters.events[cause] += 1

    # Events for sockets

    def deliver(self, event: Sequence[Any], options: BroadcastOptions, offset: Offset | None = None) -> None:
        """Send an event to sockets of this node."""
        namespace = self._namespace
        sockets = self._select(options)
        if not sockets and namespace.journal is None:
            return
        message = self._encode(event, options, offset=offset)
        if message is not None:
            namespace.fan_out.deliver(message, sockets, options.volatile)

    def _encode(
        self,
        event: Sequence[Any],
        options: BroadcastOptions,
        ack_id: int | None = None,
        *,
        offset: Offset | None = None,
    ) -> EncodedMessage | None:
        """Encode an event under its own policy, else that of this node; None if it cannot be sent."""
        namespace = self._namespace
        name = event[0]
        try:
            if name in RESERVED_EVENTS:
                raise TypeError(name)
            message = namespace.encode_for(name, event[1:], options, ack_id, offset)
        except TypeError:
            self._count_event("malformed bus message")
            return None
        policy = read_policy(options.flags.get("overflow"))
        namespace.apply_policy(message, name, policy, options.rooms, asks=ack_id is not None)
        return message

    def ask(self, event: Sequence[Any], options: BroadcastOptions, timeout: float, answered: Answered) -> int:
        """Send an event with ack to sockets of this node; return how many were asked."""
        namespace = self._namespace
        sockets = self._select(options)
        if not sockets or not self._may_run():
            return 0

        def settled(socket_id: str, outcome: Outcome) -> None:
            if not isinstance(outcome, DisconnectReason):
                answered(outcome[0] if outcome else None)

        collector = Collector(namespace.next_ack_id(), settled)
        message = self._encode(event, options, collector.ack_id)
        if message is None:
            return 0
        collector.ask(sockets, message)
        asked = len(collector.waiting)
        if asked:
            self._start(self._expire(collector, timeout))
        return asked

    async def _expire(self, collector: Collector, timeout: float) -> None:
        with trio.move_on_after(timeout):
            await collector.done.wait()
        collector.stop()

    def restart_log(self, offset: Offset) -> None:
        """Take note that events before this position may be missing here."""
        if self._namespace.journal is not None:
            self._namespace.journal.restart(offset)

    # Rooms

    def sockets_join(self, options: BroadcastOptions, rooms: Sequence[str]) -> None:
        """Put sockets of this node into rooms."""
        for _ in join_all(self._select(options), rooms):
            self._count_event("refused bus message")

    def sockets_leave(self, options: BroadcastOptions, rooms: Sequence[str]) -> None:
        """Take sockets of this node out of rooms."""
        for socket in list(self._select(options)):
            socket.leave(*rooms)

    def disconnect_sockets(self, options: BroadcastOptions, close: bool) -> None:
        """Make sockets of this node leave the namespace, or close their sessions."""
        for socket in list(self._select(options)):
            socket.disconnect(close)

    def describe(self, options: BroadcastOptions) -> list[dict[str, Any]]:
        """Tell of sockets of this node."""
        return [describe(socket) for socket in self._select(options)]

    def has(self, room: str) -> bool:
        """Tell whether a room, or the socket of that id, is here."""
        return room in self._namespace.index.rooms or room in self._namespace.sockets

    def all_rooms(self) -> list[str]:
        """Return every room that is here, ids of sockets among them."""
        return [*self._namespace.sockets, *self._namespace.index.rooms]

    # Events for the node itself

    def server_event(self, event: Sequence[Any], answer: Answered | None) -> None:
        """Run the handler of an event of another node."""
        if event[0] == PRESENCE_EVENT:
            self._presence(tuple(event[1:]))
            return
        handler = self._namespace.registry.server.get(event[0])
        if handler is None or not self._may_run():
            self._count_event("unhandled server event")
            if answer is not None:
                answer(None)
            return
        try:
            result = handler(*event[1:])
        except Exception as error:
            self._reply(answer, self._failure(event[0], error))
            return
        if isawaitable(result):
            self._start(self._finish(event[0], result, answer))
        else:
            self._reply(answer, result)

    def _presence(self, told: tuple[Any, ...]) -> None:
        _ = self._namespace.presence  # from now on it is shared here, too
        shared = self._namespace.shared_presence
        if shared is None or not shared.receive(told):
            self._count_event("malformed bus message")

    async def _finish(self, event: str, work: Awaitable[Any], answer: Answered | None) -> None:
        with isolated(lambda error: self._reply(answer, self._failure(event, error))):
            self._reply(answer, await work)

    def _failure(self, event: str, error: Exception) -> Any:
        known = without_group(error)
        if isinstance(known, EventError):
            return known.answer
        self._count_event("failed")
        logger.error("handler of server-side event %r in %s failed", event, self.name, exc_info=error)
        return error_answer("internal", "internal error")

    def _reply(self, answer: Answered | None, result: Any) -> None:
        if answer is None or result is NO_ACK:
            return
        # The bus carries one value.
        answer(result[0] if isinstance(result, tuple) and result else result)

    # Tasks in the server scope, no more than the limit

    def _may_run(self) -> bool:
        engine = self._namespace.engine
        if not engine.is_open:
            return False  # the bus sends its last when all else has ended
        if self._running < engine.limits.bus_tasks:
            return True
        self._count_event("too many bus tasks")
        return False

    def _start(self, work: Awaitable[None]) -> None:
        self._running += 1
        self._namespace.engine.start_soon(self._run, work)

    async def _run(self, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            self._running -= 1
