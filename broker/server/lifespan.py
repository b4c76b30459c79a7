"""ASGI's lifespan from both sides: told to the application beside the broker, and heard by the broker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from broker.flow.errors import BrokerError
from broker.flow.scopes import outliving

logger = logging.getLogger(__name__)

_TIMEOUT = 10.0  # seconds an application may take to start, and to stop

ASGIApp = Callable[..., Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Opened = Callable[[], AbstractAsyncContextManager[None]]


class LifespanFailed(BrokerError):
    """The application served beside the broker failed to start."""


class _Teller:
    """Tells one application of start and end."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._to_app, self._from_host = trio.open_memory_channel[dict[str, Any]](2)
        self._started = trio.Event()
        self._ended = trio.Event()
        self._complete = False
        self._running = False
        self._failure: str | None = None

    async def run(self) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        scope = {"type": "lifespan", "asgi": asgi, "state": self._state}
        try:
            await self._app(scope, self._from_host.receive, self._send)
        except Exception as error:
            if self._complete:
                logger.exception("the application's lifespan failed; its requests are served all the same")
            else:
                # An application that knows no lifespan raises; that is how ASGI tells.
                logger.debug("application without lifespan: %r", error)
        finally:
            self._started.set()
            self._ended.set()

    async def _send(self, message: dict[str, Any]) -> None:
        self._complete = self._complete or message["type"] == "lifespan.startup.complete"
        if message["type"] == "lifespan.startup.failed":
            self._failure = message.get("message") or "the application failed to start"
        if message["type"].startswith("lifespan.startup"):
            self._started.set()
        else:
            self._ended.set()
        await trio.lowlevel.checkpoint()

    async def start(self) -> str | None:
        """Tell it to start; return why it did not."""
        self._to_app.send_nowait({"type": "lifespan.startup"})
        with trio.move_on_after(_TIMEOUT):
            await self._started.wait()
        if not self._started.is_set():
            return f"the application did not start within {_TIMEOUT:g} s"
        self._running = self._failure is None
        return self._failure

    async def stop(self) -> None:
        """Tell it to stop, if it has started."""
        if self._running:
            self._to_app.send_nowait({"type": "lifespan.shutdown"})
            await self._ended.wait()


@asynccontextmanager
async def told_lifespan(app: ASGIApp | None, state: dict[str, Any]) -> AsyncIterator[None]:
    """Tell an application of its start, and of its end when the block ends.

    Args:
        app: The application.
        state: Takes what it leaves for its requests.

    Raises:
        LifespanFailed: It failed to start.
    """
    if app is None:
        yield
        return
    teller = _Teller(app, state)
    async with outliving(teller.run, teller.stop, _TIMEOUT):
        failure = await teller.start()
        if failure is None:
            yield
    if failure is not None:  # outside of the nursery, so that it comes in no group
        raise LifespanFailed(failure)


@asynccontextmanager
async def _opened_or_told(send: Send, opened: Opened) -> AsyncIterator[None]:
    """Open the broker for the block; tell the server if that fails, or it would go on without."""
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(opened())
        except Exception as error:
            failure = error
        else:
            yield
    if failure is not None:
        await send({"type": "lifespan.startup.failed", "message": f"the broker cannot be opened: {failure}"})
        raise failure


async def hear_lifespan(receive: Receive, send: Send, opened: Opened) -> None:
    """Keep the broker open between the start and the end that an ASGI server tells of.

    Args:
        receive: ASGI's receive.
        send: ASGI's send.
        opened: Returns the async context manager that opens the broker.
    """
    await receive()  # lifespan.startup
    async with _opened_or_told(send, opened):
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
    await send({"type": "lifespan.shutdown.complete"})


class _Listening:
    """Passes the lifespan on to an application, and notes what has been said.

    Args:
        receive: ASGI's receive.
        send: ASGI's send.
        goodbye: Ends the sessions, before the application stops.
    """

    def __init__(self, receive: Receive, send: Send, goodbye: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._goodbye = goodbye
        self.heard: set[str] = set()
        self.answered: set[str] = set()
        self._last: dict[str, Any] = {"type": "lifespan.shutdown.complete"}

    async def receive(self) -> dict[str, Any]:
        message = await self._receive()
        self.heard.add(message["type"])
        if message["type"] == "lifespan.shutdown":
            await self._goodbye()
        return message

    async def send(self, message: dict[str, Any]) -> None:
        self.answered.add(message["type"])
        if message["type"].startswith("lifespan.shutdown"):
            self._last = message  # the broker closes first
            await trio.lowlevel.checkpoint()
        else:
            await self._send(message)

    async def hear(self, what: str) -> None:
        if what not in self.heard:
            await self.receive()

    async def finish(self) -> None:
        await self._send(self._last)


async def share_lifespan(
    app: ASGIApp,
    scope: dict[str, Any],
    receive: Receive,
    send: Send,
    opened: Opened,
    goodbye: Callable[[], Awaitable[None]],
) -> None:
    """Keep the broker open around the lifespan of the application beside it, if that knows one.

    Args:
        app: The application.
        scope: ASGI's lifespan scope.
        receive: ASGI's receive.
        send: ASGI's send.
        opened: Returns the async context manager that opens the broker.
        goodbye: Ends the sessions, before the application stops.
    """
    told = _Listening(receive, send, goodbye)
    async with _opened_or_told(send, opened):
        try:
            await app(scope, told.receive, told.send)
        except Exception as error:
            if told.answered:
                raise
            # An application that knows no lifespan raises; that is how ASGI tells.
            logger.debug("application without lifespan: %r", error)
        if "lifespan.startup.failed" in told.answered:
            return
        if "lifespan.startup.complete" not in told.answered:
            await told.hear("lifespan.startup")
            await told.send({"type": "lifespan.startup.complete"})
        await told.hear("lifespan.shutdown")
    await told.finish()
