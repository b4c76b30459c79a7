"""How the events of one socket come to its handlers: in order, driven in place, isolated, answered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio

from broker.flow.driving import Suspended
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import NO_ACK, EventError, error_answer, without_group
from broker.flow.handlers import Handler
from broker.flow.isolation import isolated
from broker.flow.outbox import Outbox, Verdict
from protocol import DisconnectReason
from protocol.socketio.packet import RESERVED_EVENTS

from .lanes import Invocation, Lane, Waiting, start_waiting

if TYPE_CHECKING:
    from .connection import Connection
    from .namespace import Namespace

logger = logging.getLogger(__name__)

EventMiddleware = Callable[[str, list[Any]], Awaitable[None] | None]


class Inbound:
    """The receiving half of a socket.

    Attributes:
        active: How many handlers and tasks run.
        namespace: Where it is.
        outbox: The way out of its session.
        connected: Whether it has been let in and has not left.
        leaving: Why it is leaving or has left; None while it is here.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_handlers",
        "_idle",
        "_incoming",
        "_intercepted",
        "_joining",
        "_lanes",
        "_middlewares",
        "_paused",
        "_scopes",
        "_serial",
        "active",
        "connected",
        "leaving",
        "namespace",
        "outbox",
    )

    def __init__(self, namespace: Namespace, connection: Connection) -> None:
        self.namespace = namespace
        self.outbox: Outbox = connection.session.outbox
        self.connected = False
        self.leaving: DisconnectReason | None = None
        self._connection = connection
        self._handlers = namespace.registry.handlers
        self._incoming: list[Callable[..., Any]] | None = None
        self._middlewares: list[EventMiddleware] | None = None
        self._intercepted = bool(namespace.registry.incoming)
        self._serial: Lane | None = None
        self._lanes: dict[Handler, Lane] | None = None
        self._scopes: set[trio.CancelScope] | None = None
        self.active = 0
        self._idle: trio.Event | None = None
        self._paused = False
        self._joining = False

    def offer(self, message: EncodedMessage) -> Verdict:
        """Queue an encoded message, if the socket is in the namespace. Spec: SIO-CON-4, SIO-DIS-4."""
        if not self.connected:
            return Verdict.CLOSED
        fan_out = self.namespace.fan_out
        if fan_out.jobs:
            fan_out.catch_up(self)
        return self.outbox.offer(message)

    def offer_volatile(self, message: EncodedMessage) -> Verdict:
        """Queue an encoded message if nothing else waits."""
        if not self.connected:
            return Verdict.CLOSED
        fan_out = self.namespace.fan_out
        if fan_out.jobs:
            fan_out.catch_up(self)
        return self.outbox.offer_volatile(message)

    def catch_up(self) -> None:
        """Take the broadcasts that are under way: what was sent before its end is not lost with it."""
        fan_out = self.namespace.fan_out
        if fan_out.jobs:
            fan_out.catch_up(self)

    # Listening

    def use(self, middleware: EventMiddleware) -> EventMiddleware:
        """Run this before the handler of each event: `middleware(event, args)`; raising refuses the event."""
        self._middlewares = [*(self._middlewares or ()), middleware]
        self._intercepted = True
        return middleware

    def on_any(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call this with each event that comes in, before its handler: `listener(event, *args)`."""
        self._incoming = [*(self._incoming or ()), listener]
        self.intercept()
        return listener

    def intercept(self) -> None:
        """Let listeners see each event from now on, also those of the namespace."""
        self._intercepted = True

    # Events that come in

    def on_event(self, args: list[Any], ack_id: int | None) -> Invocation | None:
        """Begin the handler of an event, or let the event wait. Never raises, never blocks."""
        handler = self._handlers.get(args[0])
        if handler is None or self._intercepted:
            return self._on_rare(args, ack_id)
        if handler.concurrency > 1:
            return self._on_concurrent(handler, Waiting(handler, args, ack_id))
        serial = self._serial
        if serial is not None and serial.running:
            self._wait(serial, Waiting(handler, args, ack_id))
            return None
        suspended = self._begin(handler, args, ack_id)
        if suspended is None:
            return None
        return Invocation(self, self.serial_lane(), handler.event, ack_id, suspended)

    def serial_lane(self) -> Lane:
        """Return the lane that all events with concurrency 1 share."""
        if self._serial is None:
            self._serial = Lane(1)
        return self._serial

    def _on_concurrent(self, handler: Handler, waiting: Waiting) -> Invocation | None:
        if self._lanes is None:
            self._lanes = {}
        lane = self._lanes.get(handler)
        if lane is None:
            # Before the connect handler has ended nothing else starts: see `_join`.
            lane = self._lanes[handler] = Lane(0 if self._joining else handler.concurrency)
        # Its own lane must make progress by itself, so at least one runs whatever the others do.
        crowded = self.active >= self._connection.limits.handlers_per_socket and lane.running > 0
        if lane.running >= lane.limit or lane.waiting or crowded:
            self._wait(lane, waiting)
            return None
        return self._start(lane, waiting)

    def _start(self, lane: Lane, waiting: Waiting) -> Invocation | None:
        event = str(waiting.args[0])
        suspended = self._begin_waiting(waiting)
        return None if suspended is None else Invocation(self, lane, event, waiting.ack_id, suspended)

    def _on_rare(self, args: list[Any], ack_id: int | None) -> Invocation | None:
        """Take an event that others see first, that has a number for its name, or that has no handler."""
        name = args[0]
        event = args[0] = name if isinstance(name, str) else str(name)
        handler = self._handlers.get(event)
        if event in RESERVED_EVENTS:
            handler = None
        if not self._intercepted:
            if handler is not None:
                return self.on_event(args, ack_id)
            self._unhandled(event)
            return None
        waiting = Waiting(None, args, ack_id)
        if handler is not None and handler.concurrency > 1:
            return self._on_concurrent(handler, waiting)
        lane = self.serial_lane()
        if lane.running:
            self._wait(lane, waiting)
            return None
        return self._start(lane, waiting)

    async def _intercept(self, handler: Handler | None, args: list[Any]) -> Any:
        event = str(args[0])
        for listener in (*self.namespace.registry.incoming, *(self._incoming or ())):
            await _await_if_needed(listener(event, *args[1:]))
        rest = args[1:]
        for middleware in self._middlewares or ():
            await _await_if_needed(middleware(event, rest))
        if handler is None:
            self._unhandled(event)
            return NO_ACK
        return await _await_if_needed(self._call(handler, [event, *rest]))

    def _unhandled(self, event: str) -> None:
        self.namespace.engine.counters.events["unhandled"] += 1
        logger.debug("no handler in %s for event %r", self.namespace.name, event[:64])

    def _wait(self, lane: Lane, waiting: Waiting) -> None:
        full = lane.put(waiting, self._connection.limits.inbox_messages)
        if full and not self._paused:
            self._paused = True
            self._connection.session.pause()

    def taken(self, lane: Lane) -> None:
        """Note that an event has left the inbox."""
        half = self._connection.limits.inbox_messages // 2
        if self._paused and lane.waiting <= half and all(one.waiting <= half for one in self._all_lanes()):
            self._paused = False
            self._connection.session.resume()

    def _all_lanes(self) -> list[Lane]:
        lanes = list((self._lanes or {}).values())
        return lanes if self._serial is None else [self._serial, *lanes]

    # Running handlers

    def _call(self, handler: Handler, args: list[Any]) -> Any:
        """Call a handler with checked arguments; returns its coroutine or its result.

        Raises:
            EventError: The arguments do not fit.
        """
        count = len(args) - 1
        if not handler.min_args <= count <= handler.max_args:
            handler.check_arity(count)
        if handler.typed is not None:
            return handler.function(self, *handler.typed.build(args[1:]))
        args[0] = self
        return handler.function(*args)

    def _begin(self, handler: Handler, args: list[Any], ack_id: int | None) -> Suspended | None:
        """Call a handler and drive it to its end or its first suspension."""
        # A copy of the context for each event, so that what one sets the next does not see.
        context = copy_context()
        try:
            result = context.run(self._call, handler, args)
        except Exception as error:
            self._fail(handler.event, ack_id, error)
            return None
        if type(result) is CoroutineType:
            return self._drive(result, handler.event, ack_id, context)
        if isawaitable(result):
            return self._drive(_await_if_needed(result), handler.event, ack_id, context)
        if ack_id is not None:
            self._answer(handler.event, ack_id, result)
        return None

    def _drive(
        self, steps: CoroutineType[Any, Any, Any] | Any, event: str, ack_id: int | None, context: Context
    ) -> Suspended | None:
        try:
            trap = context.run(steps.send, None)
        except StopIteration as stop:
            if ack_id is not None:
                self._answer(event, ack_id, stop.value)
            return None
        except Exception as error:
            self._fail(event, ack_id, error)
            return None
        return Suspended(steps, trap, context)

    async def complete(self, event: str, ack_id: int | None, suspended: Suspended) -> None:
        """Go on with a handler to its end, and answer. A cancelled one answers nothing."""
        with isolated(partial(self._fail, event, ack_id)):
            result = await suspended.finish()
            if ack_id is not None:
                self._answer(event, ack_id, result)

    async def run_waiting(self, waiting: Waiting) -> None:
        """Run the handler of an event that has waited."""
        event = str(waiting.args[0])
        suspended = self._begin_waiting(waiting)
        if suspended is not None:
            await self.complete(event, waiting.ack_id, suspended)

    def _begin_waiting(self, waiting: Waiting) -> Suspended | None:
        handler, args, ack_id = waiting
        if handler is not None:
            return self._begin(handler, args, ack_id)
        event = str(args[0])
        return self._drive(self._intercept(self._handlers.get(event), args), event, ack_id, copy_context())

    def _answer(self, event: str, ack_id: int, result: Any) -> None:
        if result is NO_ACK:
            return
        if result is None:
            values: tuple[Any, ...] | list[Any] = ()
        else:
            values = result if type(result) is tuple else (result,)
        try:
            namespace = self.namespace
            message = namespace.encode_ack(namespace.name, ack_id, values)
        except TypeError as error:
            self._fail(event, ack_id, error)
            return
        self.offer(message)

    def _fail(self, event: str, ack_id: int | None, error: Exception) -> None:
        """Log and count what a handler raised, and tell the caller a code. Spec: SIO-ANS-1."""
        counters = self.namespace.engine.counters
        known = without_group(error)
        if isinstance(known, EventError):
            counters.events["refused"] += 1
            answer = known.answer
        else:
            counters.events["failed"] += 1
            logger.error("handler of %r in %s failed", event, self.namespace.name, exc_info=error)
            answer = error_answer("internal", "internal error")
        ending = self._connection.session.reason is not None  # who is cancelled answers nothing
        if ending or not self.namespace.engine.settings.error_acks:
            return
        try:
            self.offer(self._encode_error(ack_id, answer))
        except TypeError:
            logger.exception("an EventError cannot be sent as it is")
            told = answer["error"]
            plain = error_answer(str(told["code"]), str(told["message"]))
            self.offer(self._encode_error(ack_id, plain))

    def warn(self, answer: dict[str, Any]) -> None:
        """Send an error that answers no event in particular."""
        if self.namespace.engine.settings.error_acks:
            self.offer(self._encode_error(None, answer))

    def _encode_error(self, ack_id: int | None, answer: dict[str, Any]) -> EncodedMessage:
        namespace = self.namespace
        if ack_id is not None:
            return namespace.encode_ack(namespace.name, ack_id, (answer,))
        return namespace.encode_event(namespace.name, "error", (answer,))

    # For the connection

    def drive_join(self, steps: Any) -> Invocation | None:
        """Drive the coroutine that lets this socket in; events wait until it is done."""
        suspended = self._drive(self._join(steps), "connect", None, copy_context())
        return None if suspended is None else Invocation(self, self.serial_lane(), "connect", None, suspended)

    async def _join(self, steps: Any) -> None:
        self._joining = True
        try:
            await steps
        finally:
            self._joining = False
            for handler, lane in (self._lanes or {}).items():
                lane.limit = handler.concurrency
                start_waiting(self, lane, self._connection)

    def enter(self, scope: trio.CancelScope) -> None:
        """Cancel this scope when the socket leaves."""
        self.active += 1
        if self._scopes is None:
            self._scopes = set()
        self._scopes.add(scope)
        if self.leaving is not None or self._connection.session.reason is not None:
            scope.cancel()

    def exit(self, scope: trio.CancelScope) -> None:
        """Undo `enter`."""
        self.active -= 1
        if self._scopes is not None:
            self._scopes.discard(scope)
        if self.active == 0 and self._idle is not None:
            self._idle.set()
        if self._lanes is not None and self.leaving is None:
            for lane in self._lanes.values():
                start_waiting(self, lane, self._connection)

    def cancel_all(self) -> None:
        """Cancel what runs and forget what waits."""
        for scope in self._scopes or ():
            scope.cancel()
        for lane in self._all_lanes():
            lane.clear()
        if self._paused:
            self._paused = False
            self._connection.session.resume()

    def end_session(self) -> None:
        """End the session after a fault of the broker's own."""
        self._connection.session.close(DisconnectReason.FORCED_CLOSE)

    async def wait_idle(self) -> None:
        """Wait until none of its handlers and tasks runs."""
        if self.active:
            self._idle = trio.Event()
            await self._idle.wait()


async def _await_if_needed(result: Any) -> Any:
    return await result if isawaitable(result) else result
