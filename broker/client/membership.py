"""Where the client is with one namespace: wanted, let in, refused or left; and what a recovery needs."""

from __future__ import annotations

from typing import Any, NoReturn

import trio

from broker.flow.errors import Disconnected
from protocol import ClientReason

from .errors import ConnectError
from .offsets import OffsetTracker


class Membership:
    """The state of one namespace.

    Attributes:
        id: The socket's id; None while it is not connected.
        wanted: Whether it is to be connected.
        recovered: Whether the last connection took up the session before.
        recovery_refused: The server's word for why it did not, if the client asked and the server says so.
        pid: The server's private id of the session, if it can be recovered.
        offsets: How far its events have come.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.id: str | None = None
        self.wanted = True
        self.recovered = False
        self.recovery_refused: str | None = None
        self.pid: str | None = None
        self.offsets = OffsetTracker()
        self._refusal: ConnectError | None = None
        self._reason = ClientReason.CLIENT_DISCONNECT
        self._changed = trio.Event()

    async def wait(self) -> None:
        """Wait for any change."""
        await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def want(self) -> None:
        """Begin anew."""
        self.wanted = True
        self._refusal = None
        self._change()

    def enter(self, socket_id: str, pid: Any, refused: Any) -> None:
        """Note that the server has let it in. Spec: SIO-REC-7."""
        self.recovery_refused = refused if isinstance(refused, str) else None
        known = pid if isinstance(pid, str) else None
        self.recovered = known is not None and known == self.pid
        if not self.recovered:
            # An offset of another session would bring back events from before this one.
            self.offsets.forget()
        self.pid = known
        self.id = socket_id
        self._change()

    def refuse(self, error: ConnectError) -> None:
        """Note that it will not be let in."""
        self.id = None
        self.wanted = False
        self._refusal = error
        self._change()

    def lose(self, reason: ClientReason, final: bool) -> None:
        """Note that it is no longer connected, and whether it stays so."""
        self.id = None
        self._reason = reason
        self.wanted = not final
        if not reason.retryable:
            # The server keeps no session of a socket that was ended on purpose.
            self.pid = None
            self.offsets.forget()
        self._change()

    def recovery(self) -> dict[str, str]:
        """Return what a CONNECT carries to take up the session before."""
        if self.pid is None:
            return {}
        offset = self.offsets.offset
        return {"pid": self.pid} if offset is None else {"pid": self.pid, "offset": offset}

    def disconnected(self) -> Disconnected:
        """Return why nothing can be sent."""
        return Disconnected(self._reason)

    def ended(self) -> ConnectError | Disconnected:
        """Return why it is not connected and will not be."""
        refusal = self._refusal
        if refusal is None:
            return self.disconnected()
        return ConnectError(
            refusal.message, refusal.data, retryable=refusal.retryable, namespace=refusal.namespace
        )

    def stop_iteration(self) -> NoReturn:
        """End an iteration: with an error if it was refused."""
        error = self.ended()
        if isinstance(error, ConnectError):
            raise error
        raise StopAsyncIteration
