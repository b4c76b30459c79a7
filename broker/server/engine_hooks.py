"""The engine level of the public API: middlewares and hooks for each HTTP request."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Literal

from attrs import frozen

from broker.flow.request import HttpRequest
from broker.sessions.engine import Engine
from broker.transports.polling import Flight
from protocol import Refusal, Refused
from protocol.http_head import Header

logger = logging.getLogger(__name__)

HookName = Literal["initial_headers", "headers", "connection_error", "connection", "upgrade", "close"]


@frozen
class HttpResponse:
    """A whole answer.

    Attributes:
        status: HTTP status.
        body: Content.
        headers: Names and values.
        flight: The messages in it, if it answers a poll; told how far it gets.
    """

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()
    flight: Flight | None = None


EngineMiddleware = Callable[[HttpRequest], Awaitable[HttpResponse | None] | HttpResponse | None]


class EngineHooks:
    """What an application may do with each request to the engine: `broker.engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._middlewares: list[EngineMiddleware] = []

    @property
    def clients_count(self) -> int:
        """How many engine sessions are open."""
        return self._engine.clients_count

    def use(self, middleware: EngineMiddleware) -> EngineMiddleware:
        """Run this for each request, polling and WebSocket, in order of registration.

        It may add to `request.response_headers`, return an `HttpResponse` to end the request, or raise, which
        answers 400 with code 3.
        """
        self._middlewares.append(middleware)
        return middleware

    def on(self, name: HookName) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a hook.

        `initial_headers(headers, request)` may change the headers of the first response of a session, and
        `headers(headers, request)` those of each response; both get a list of (name, value) pairs.
        `connection_error(request, refused)` is told of each refused request; `connection(session)`,
        `upgrade(session)` and `close(session, reason)` of the life of each engine session, which has an `id`,
        an `opening.request` and a `transport.name`. Hooks are plain functions; what they raise is logged.

        Raises:
            ValueError: There is no such hook.
        """
        hooks = self._engine.hooks
        if name not in hooks:
            raise ValueError(f"no hook {name!r}; there are: {', '.join(hooks)}")

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            hooks[name].append(function)
            return function

        return register

    async def run_middlewares(self, request: HttpRequest) -> HttpResponse | Refused | None:
        """Run the middlewares until one answers."""
        for middleware in self._middlewares:
            try:
                result = middleware(request)
                response = await result if isawaitable(result) else result
            except Exception:
                logger.exception("engine middleware failed")
                return Refused(Refusal.BAD_REQUEST, rule="MIDDLEWARE_FAILURE")
            if response is not None:
                return response
        return None

    def response_headers(self, request: HttpRequest, initial: bool) -> tuple[Header, ...]:
        """Return what middlewares and hooks add to an answer."""
        headers = list(request.response_headers)
        if initial:
            self._engine.notify("initial_headers", headers, request)
        self._engine.notify("headers", headers, request)
        return tuple(headers)

    def refused(self, request: HttpRequest, refused: Refused) -> None:
        """Count a refusal and tell who listens."""
        rule = refused.rule or refused.refusal.name
        self._engine.counters.refusals[rule] += 1
        logger.debug("refused %s %s: %s", request.method, request.path, refused.detail or rule)
        self._engine.notify("connection_error", request, refused)
