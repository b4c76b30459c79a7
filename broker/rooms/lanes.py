"""Events of one socket in order: at most so many handlers at once, the others wait in a bounded inbox."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from broker.flow.driving import Suspended
from broker.flow.handlers import Handler

if TYPE_CHECKING:
    from .connection import Connection
    from .inbound import Inbound


logger = logging.getLogger(__name__)


class Waiting(NamedTuple):
    """An event that waits for its handler."""

    handler: Handler | None
    args: list[Any]
    ack_id: int | None


class Lane:
    """Handlers of one socket that count together: those of all serial events, or of one concurrent one.

    Attributes:
        limit: How many may run at once.
        running: How many run.
    """

    __slots__ = ("_receive", "_send", "limit", "running", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting = 0
        self._send: trio.MemorySendChannel[Waiting] | None = None
        self._receive: trio.MemoryReceiveChannel[Waiting] | None = None

    def put(self, waiting: Waiting, inbox_messages: int) -> bool:
        """Let an event wait; tells whether the inbox is full now."""
        if self._send is None:
            self._send, self._receive = trio.open_memory_channel[Waiting](inbox_messages)
        self._send.send_nowait(waiting)
        self.waiting += 1
        return self.waiting >= inbox_messages

    def next(self) -> Waiting | None:
        """Take the event that has waited longest."""
        if self.waiting == 0:
            return None
        assert self._receive is not None
        self.waiting -= 1
        return self._receive.receive_nowait()

    def clear(self) -> int:
        """Forget what waits; tells how much it was."""
        waiting, self.waiting = self.waiting, 0
        if self._send is not None and self._receive is not None:
            self._send.close()
            self._receive.close()
            self._send = self._receive = None
        return waiting


class Invocation:
    """A handler that has suspended: it owns the task that drove it, and goes on with what waits behind it.

    Without one (`suspended` is None) it begins with what waits.
    """

    __slots__ = ("_ack_id", "_event", "_lane", "_scope", "_socket", "_suspended")

    def __init__(
        self, socket: Inbound, lane: Lane, event: str, ack_id: int | None, suspended: Suspended | None
    ) -> None:
        self._socket = socket
        self._lane = lane
        self._event = event
        self._ack_id = ack_id
        self._suspended = suspended
        self._scope: trio.CancelScope | None = None

    def adopt(self, scope: trio.CancelScope) -> None:
        """Let the socket cancel this handler through `scope`."""
        self._scope = scope
        self._lane.running += 1
        self._socket.enter(scope)

    async def finish(self) -> None:
        """Go on to the end; then take the events that wait in the lane, one by one."""
        socket = self._socket
        lane = self._lane
        try:
            if self._suspended is not None:
                await socket.complete(self._event, self._ack_id, self._suspended)
            while not socket.leaving and (waiting := lane.next()) is not None:
                socket.taken(lane)
                await trio.lowlevel.checkpoint()
                await socket.run_waiting(waiting)
        except Exception:
            # What handlers raise is caught where they run: this is our own fault, and stays with one session.
            logger.exception("event handling failed")
            socket.end_session()
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Undo `adopt`."""
        assert self._scope is not None
        self._lane.running -= 1
        self._socket.exit(self._scope)


def start_waiting(socket: Inbound, lane: Lane, connection: Connection) -> None:
    """Start what has waited in a lane that has room, in tasks of its own; those behind follow."""
    for _ in range(min(lane.limit - lane.running, lane.waiting)):
        if lane.running and socket.active >= connection.limits.handlers_per_socket:
            return
        scope = trio.CancelScope()
        invocation = Invocation(socket, lane, "", None, None)
        invocation.adopt(scope)
        if not connection.session.start_soon(_finish, invocation, scope):
            invocation.let_go()


async def _finish(invocation: Invocation, scope: trio.CancelScope) -> None:
    with scope:
        await invocation.finish()
