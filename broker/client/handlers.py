"""The client's event handlers: registering them, and calling them with what came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from broker.flow.errors import EventError
from broker.flow.handlers import positional_arity
from broker.flow.typed import compile_arguments
from protocol.socketio.packet import RESERVED_EVENTS

Function = TypeVar("Function", bound=Callable[..., Any])

SOCKET_LIFECYCLE = frozenset({"connect", "connect_error", "disconnect"})
MANAGER_LIFECYCLE = frozenset(
    {
        "open",
        "close",
        "error",
        "ping",
        "upgrade",
        "reconnect_attempt",
        "reconnect",
        "reconnect_error",
        "reconnect_failed",
    }
)


class ClientHandler:
    """One handler: `function(*arguments)`."""

    __slots__ = ("_event", "_fewest", "_function", "_most", "_typed")

    def __init__(self, event: str, function: Callable[..., Any], lifecycle: bool) -> None:
        self._event = event
        self._function = function
        self._fewest, self._most = positional_arity(event, function)
        self._typed = None if lifecycle else compile_arguments(event, function, skip=0)

    def call(self, args: Sequence[Any]) -> Any:
        """Call it; returns what it returns, be it a coroutine. Surplus arguments are left out.

        Raises:
            EventError: There are too few arguments, or they do not fit the annotations.
        """
        if len(args) > self._most:
            args = args[: int(self._most)]
        elif len(args) < self._fewest:
            raise EventError(
                "wrong_arity",
                f"event {self._event!r} takes at least {self._fewest} arguments, not {len(args)}",
            )
        if self._typed is not None:
            args = self._typed.build(args)
        return self._function(*args)


class Listening:
    """Registering handlers.

    Args:
        lifecycle: The events that the client itself brings forth.
        others: Whether there are others, of the server.
    """

    def __init__(self, lifecycle: frozenset[str], others: bool) -> None:
        self._lifecycle = lifecycle
        self._others = others
        self._handlers: dict[str, ClientHandler] = {}

    def on(self, event: str) -> Callable[[Function], Function]:
        """Return a decorator that registers the handler of an event: `handler(*arguments)`, sync or async.

        Handlers of one namespace run one after another, in the order of the events. What one returns is the
        ack, if the server asked for one: None acks without arguments, a tuple with several, `NO_ACK` not at
        all; raising `EventError` answers with its code.

        Raises:
            ValueError: The name is reserved, or the event has a handler.
        """
        if event not in self._lifecycle and (not self._others or event in RESERVED_EVENTS):
            raise ValueError(f"there is no event {event!r} to handle")

        def register(function: Function) -> Function:
            if event in self._handlers:
                raise ValueError(f"event {event!r} has a handler already; off({event!r}) removes it")
            self._handlers[event] = ClientHandler(event, function, event in self._lifecycle)
            return function

        return register

    def off(self, event: str) -> None:
        """Remove the handler of an event, if there is one."""
        self._handlers.pop(event, None)
