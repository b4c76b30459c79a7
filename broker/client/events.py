"""An event as iteration yields it, and the verbs that send one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio
from attrs import field, frozen

from broker.flow.outbox import Verdict

if TYPE_CHECKING:
    from .socket import ClientSocket


@frozen
class Event:
    """An event that came in.

    Attributes:
        name: Its name.
        args: Its arguments.
        namespace: Where it came in.
    """

    name: str
    args: tuple[Any, ...]
    namespace: str
    _answer: Callable[..., bool] | None = field(default=None, repr=False, eq=False)

    @property
    def wants_ack(self) -> bool:
        """Whether the server asked for an ack."""
        return self._answer is not None

    async def ack(self, *values: Any) -> bool:
        """Send the ack.

        Returns:
            False if none was asked for, or the connection that the event came by is gone.
        """
        await trio.lowlevel.checkpoint()
        return self._answer is not None and self._answer(values)


@frozen
class Emitter:
    """The verbs of a namespace with flags; see `ClientSocket`.

    Attributes:
        socket: The namespace.
        is_volatile: Whether events may be dropped.
        call_timeout: Seconds that `call` waits; None takes the client's.
    """

    _socket: ClientSocket
    is_volatile: bool = False
    call_timeout: float | None = None

    @property
    def volatile(self) -> Emitter:
        """The same verbs, for events that may be dropped."""
        return Emitter(self._socket, True, self.call_timeout)

    def timeout(self, seconds: float) -> Emitter:
        """Return the same verbs with a timeout for `call`, in seconds."""
        return Emitter(self._socket, self.is_volatile, seconds)

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event; see `ClientSocket.emit`."""
        return self._socket.emit_event(event, args, volatile=self.is_volatile)

    def call(self, event: str, *args: Any, timeout: float | None = None) -> Awaitable[Any]:
        """Send an event and wait for its ack; see `ClientSocket.call`."""
        seconds = self.call_timeout if timeout is None else timeout
        return self._socket.call_event(event, args, timeout=seconds, volatile=self.is_volatile)
