"""What an application registered for the events of a namespace, checked once, at registration."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

from .errors import EventError
from .overflow import Policies
from .typed import TypedArguments, compile_arguments

Function = TypeVar("Function", bound=Callable[..., Any])

LIFECYCLE_EVENTS = frozenset({"connect", "disconnecting", "disconnect"})
_UNEMITTABLE = frozenset({"connect_error", "newListener", "removeListener"})


class Handler:
    """One event handler.

    Attributes:
        event: The event's name.
        function: What to call with the socket and the arguments.
        concurrency: How many may run at once for one socket; with 1 all events of a socket share one lane.
        min_args: Fewest arguments it takes.
        max_args: Most arguments it takes.
        typed: Checks and builds the arguments; None takes them as they are.
    """

    __slots__ = ("concurrency", "event", "function", "max_args", "min_args", "typed")

    def __init__(self, event: str, function: Callable[..., Any], concurrency: int) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ValueError(f"concurrency must be a whole number from 1, not {concurrency!r}")
        self.event = event
        self.function = function
        self.concurrency = concurrency
        self.min_args, self.max_args = _arity(event, function)
        self.typed: TypedArguments | None = None
        if event not in LIFECYCLE_EVENTS:
            self.typed = compile_arguments(event, function, skip=1)

    def check_arity(self, count: int) -> None:
        """Refuse a number of arguments that the handler cannot take.

        Raises:
            EventError: With code `wrong_arity`.
        """
        if self.min_args <= count <= self.max_args:
            return
        if self.min_args == self.max_args:
            wanted = f"{self.min_args}"
        elif self.max_args == inf:
            wanted = f"at least {self.min_args}"
        else:
            wanted = f"{self.min_args} to {self.max_args:g}"
        plural = "" if wanted == "1" else "s"
        raise EventError("wrong_arity", f"event {self.event!r} takes {wanted} argument{plural}, not {count}")


def positional_arity(event: str, function: Callable[..., Any]) -> tuple[int, float]:
    """Return how few and how many positional arguments a handler takes.

    Raises:
        TypeError: It has a keyword-only parameter without a default, which no event could fill.
    """
    fewest = 0
    most: float = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = inf
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            fewest += parameter.default is parameter.empty
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise TypeError(
                f"the handler of {event!r} has a keyword-only parameter {parameter.name!r}; "
                "arguments of events are positional"
            )
    return fewest, most


def _arity(event: str, function: Callable[..., Any]) -> tuple[int, float]:
    """Return how few and how many arguments a handler takes after the socket."""
    fewest, most = positional_arity(event, function)
    if most < 1:
        raise TypeError(f"the handler of {event!r} must take the socket as its first parameter")
    return max(fewest - 1, 0), most - 1


class HandlerRegistry:
    """Handlers, middlewares and catch-all listeners of one namespace, or of a family of them.

    Attributes:
        handlers: By event.
        middlewares: Run in order before a socket is let in.
        incoming: Called with each event that comes in, before its handler.
        outgoing: Called with each event that goes out.
        rooms: Called when rooms and memberships come and go.
        policies: What becomes of events that clients cannot take.
        presence: Called when users come online or go, by `join` or `leave`.
        server: Handlers of the events of other nodes, by event.
        expired: Called with each lost session that is over.
    """

    __slots__ = (
        "expired",
        "handlers",
        "incoming",
        "middlewares",
        "outgoing",
        "policies",
        "presence",
        "rooms",
        "server",
    )

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.middlewares: list[Callable[..., Awaitable[None] | None]] = []
        self.incoming: list[Callable[..., Any]] = []
        self.outgoing: list[Callable[..., Any]] = []
        self.rooms: list[Callable[..., Any]] = []
        self.policies = Policies()
        self.expired: list[Callable[..., Any]] = []
        self.presence: list[tuple[str, Callable[..., Any]]] = []
        self.server: dict[str, Callable[..., Any]] = {}

    def on(self, event: str, concurrency: int) -> Callable[[Function], Function]:
        """Return a decorator that registers a handler.

        Raises:
            ValueError: The name is reserved, or the event has a handler already.
        """
        if event == "connection":
            event = "connect"
        if event in _UNEMITTABLE:
            raise ValueError(f"{event!r} is a reserved event name")

        def register(function: Function) -> Function:
            known = self.handlers.get(event)
            if known is not None:
                name = getattr(known.function, "__qualname__", repr(known.function))
                raise ValueError(f"event {event!r} is handled by {name} already; off({event!r}) removes it")
            self.handlers[event] = Handler(event, function, concurrency)
            return function

        return register

    def off(self, event: str) -> None:
        """Remove the handler of an event, if there is one."""
        self.handlers.pop("connect" if event == "connection" else event, None)
