"""One task that hands what came in to the handlers, one after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any, NamedTuple

import trio

from broker.flow.errors import NO_ACK, EventError, error_answer, without_group

from .handlers import ClientHandler, Listening
from .inbox import Inbox
from .options import HandlerErrorPolicy

logger = logging.getLogger(__name__)

Answer = Callable[[Sequence[Any]], object]
_TURN = 64  # handlers that do not suspend, between two turns of other tasks


class Call(NamedTuple):
    """One handler to be called.

    Attributes:
        handler: The handler.
        args: Its arguments.
        answer: Sends the ack; None if none is asked for.
        lifecycle: Whether the client itself brought it forth.
    """

    handler: ClientHandler
    args: Sequence[Any]
    answer: Answer | None
    lifecycle: bool = False


class Dispatcher(Listening):
    """Handlers and their queue.

    Args:
        lifecycle: The events that the client itself brings forth.
        others: Whether there are others, of the server.
        limit: How many events may wait before reading stops.
        policy: What an exception of a handler does.
        fail: Ends the client with an exception.
    """

    def __init__(
        self,
        lifecycle: frozenset[str],
        others: bool,
        limit: int,
        policy: HandlerErrorPolicy,
        fail: Callable[[Exception], None],
    ) -> None:
        super().__init__(lifecycle, others)
        self._inbox: Inbox[Call] = Inbox(limit)
        self._policy = policy
        self._fail = fail
        self._scope = trio.CancelScope()

    def announce(self, event: str, *args: Any) -> None:
        """Queue a lifecycle event."""
        handler = self._handlers.get(event)
        if handler is not None:
            self._inbox.put(Call(handler, args, None, lifecycle=True))

    def _taken(self) -> None:
        """Note that an event has left the queue."""

    async def dispatch(self) -> None:
        """Call handlers until cancelled, or told to finish."""
        with self._scope:
            await self._dispatch()

    async def finish(self) -> None:
        """Cancel the handler that runs, and tell what is left of the client's own events."""
        self._scope.cancel()
        while self._inbox:
            call = self._inbox.pop()
            if call.lifecycle:
                await self._run(call)

    async def _dispatch(self) -> None:
        done = 0
        while True:
            while not self._inbox:  # `finish` may have emptied it since
                await self._inbox.wait()
            call = self._inbox.pop()
            self._taken()
            await self._run(call)
            done += 1
            if done % _TURN == 0:
                await trio.lowlevel.checkpoint()

    async def _run(self, call: Call) -> None:
        try:
            _acknowledge(call, await _result(call))
        except Exception as error:
            if self._policy is HandlerErrorPolicy.RAISE:
                self._fail(error)
                return
            logger.exception("a handler failed")
            _acknowledge(call, error_answer("internal", "the handler failed"))


async def _result(call: Call) -> Any:
    try:
        result = call.handler.call(call.args)
        return await result if isawaitable(result) else result
    except Exception as error:
        known = without_group(error)
        if not isinstance(known, EventError):
            raise
        logger.info("a handler answered an event with %s", known)
        return known.answer


def _acknowledge(call: Call, result: Any) -> None:
    if call.answer is not None and result is not NO_ACK:
        call.answer(values_of(result))


def values_of(result: Any) -> Sequence[Any]:
    """Return the values that a handler's result is acked with. Spec: SIO-ACK-2."""
    if result is None:
        return ()
    return result if isinstance(result, tuple) else (result,)
