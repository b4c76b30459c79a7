"""One Engine.IO session as one nursery: reader, handlers, writer; any exit becomes one disconnect reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Outbox
from broker.flow.request import Opening
from broker.transports.base import PEER_GONE, Transport
from broker.transports.socket_websocket import SocketWebSocket
from protocol import DisconnectReason, Violation
from protocol.engineio.transitions import (
    SESSION,
    SessionInput,
    SessionState,
)
from protocol.websocket import Received

from .reading import Reading

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)


class Session(Reading):
    """One Engine.IO session.

    Attributes:
        id: The secret session id; it authorises posting, so it is never shown to others.
        handler, transport, reason: See `Reading`.
        opening: The request that opened it.
        outbox: What the peer has still to be sent.
        transport: What it is on.
    """

    __slots__ = (
        "_close_code",
        "_close_text",
        "ended",
        "id",
        "opening",
        "probe_scope",
    )

    def __init__(self, session_id: str, engine: Engine, opening: Opening, transport: Transport) -> None:
        super().__init__(engine)
        self.id = session_id
        self.transport = transport
        self.opening = opening
        self.outbox = Outbox(engine.limits, engine.counters, self, engine.budget)
        self.ended: trio.Event | None = None
        self.probe_scope: trio.CancelScope | None = None
        self._close_code: int | None = None
        self._close_text = ""

    # Its life

    async def run(
        self,
        first: Iterable[EncodedMessage] = (),
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the session until it ends; leaves nothing behind.

        Args:
            first: Messages to send before any other: the OPEN packet.
            task_status: Told when the transport is attached.

        Cancellation ends it with the reason `server shutting down`.
        """
        engine = self._engine
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._attach(self.transport)
                if self.reason is not None:  # closed before it ran
                    nursery.cancel_scope.cancel()
                for message in first:
                    self.outbox.offer(message)
                engine.timers.open(self)
                engine.joining.start(self)
                engine.notify("connection", self)
                task_status.started()
                await self._read()
        except Exception:
            # Peer input and application code never raise up to here.
            logger.exception("session failed")
            self.close(DisconnectReason.FORCED_CLOSE)
        finally:
            await self._finish()  # noqa: ASYNC102 - its windows are shielded and have deadlines

    async def _finish(self) -> None:
        """Order of an ending: handlers are gone; then acks, rooms, disconnect handler; then the transport."""
        reason = self.reason or DisconnectReason.SERVER_SHUTTING_DOWN
        self._nursery = None
        self.close(reason)
        limits = self._engine.limits
        self._engine.timers.close(self)
        try:
            with self._engine.ending_window(limits.cleanup_timeout):
                await self.handler.finish(reason)
            self.outbox.close()
            code = reason.close_code if self._close_code is None else self._close_code
            with self._engine.ending_window(limits.close_timeout):
                await self.transport.finish(reason, code, self._close_text or reason)
        finally:
            self.transport.abort()
            self.outbox.discard()
            self._move(SessionInput.ENDED)
            self._engine.forget(self)
            self._engine.notify("close", self, reason)
            if self.ended is not None:
                self.ended.set()

    def _attach(self, transport: Transport) -> None:
        assert self._nursery is not None
        self.transport = transport
        if isinstance(transport, SocketWebSocket):
            self.socket = transport
        transport.attach(self.outbox, self._nursery.start_soon)

    def close(self, reason: DisconnectReason, code: int | None = None, text: str = "") -> None:
        """End the session; the first reason stays. Does not wait.

        Args:
            reason: Why.
            code: WebSocket close code; None takes the one of the reason.
            text: WebSocket close reason; empty takes the reason's own text.
        """
        if self.reason is not None:
            return
        self.reason = reason
        self._close_code = code
        self._close_text = text
        self._move(SessionInput.CLOSE)
        self._engine.timers.close(self)
        reader = self._shared_reader()
        if reader is not None:
            reader.remove(self)
        self.handler.cancel_all()
        if self.probe_scope is not None:
            self.probe_scope.cancel()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _move(self, what: SessionInput) -> None:
        self.state = SESSION[self.state, what]

    def violate(self, violation: Violation, detail: str | None = None, code: int | None = None) -> None:
        """End the session because of what its peer did. Spec: SIO-ERR-1."""
        self._engine.counters.violations[violation.name] += 1
        logger.debug("session ends: %s", detail or violation.text)
        self.close(violation.reason, violation.close_code if code is None else code, violation.text)

    # The upgrade

    def begin_probe(self) -> None:
        """A WebSocket has probed. Spec: EIO-UPG-3."""
        if self.state is SessionState.OPEN:
            self._move(SessionInput.PROBE)

    def probe_failed(self) -> None:
        """That WebSocket is gone; the session goes on as it was. Spec: EIO-UPG-9."""
        if self.state is not SessionState.OPEN:
            self._move(SessionInput.PROBE_FAILED)

    def switch(self, transport: Transport, rest: Iterator[Received]) -> Transport:
        """Go on over this transport; what came behind the UPGRADE packet is read first. Spec: EIO-UPG-7.

        Returns:
            The transport that was left.
        """
        old = self.transport
        self._move(SessionInput.UPGRADE)
        self._pushed_back = rest
        self._attach(transport)
        self._engine.timers.alive(self)
        self._engine.notify("upgrade", self)
        return old

    # For the outbox

    def on_overflow(self) -> None:
        """End as a slow consumer."""
        self.close(DisconnectReason.SLOW_CONSUMER)

    def on_evicted(self) -> None:
        """End, because all outboxes together hold too much and this one the most."""
        self.close(DisconnectReason.EVICTED)

    def on_broken(self) -> None:
        """End: a direct write failed."""
        self.close(DisconnectReason.TRANSPORT_ERROR)

    def on_backlog(self) -> None:
        """Have what is queued written."""
        if self._nursery is not None:
            self.transport.wake()

    def is_writable(self) -> bool:
        """Tell whether a message would leave at once."""
        return self.transport.is_writable

    @property
    def is_reachable(self) -> bool:
        """Whether requests may name it: while it is open, and until a polling client was told the end."""
        return self.reason is None or (self.state is not SessionState.CLOSED and self.reason not in PEER_GONE)

    async def wait_ended(self) -> None:
        """Wait until nothing of the session is left."""
        if self.state is not SessionState.CLOSED:
            if self.ended is None:
                self.ended = trio.Event()
            await self.ended.wait()

    # For the layer above

    @property
    def engine(self) -> Engine:
        """What all sessions share."""
        return self._engine

    def start_soon(self, function: Callable[..., Any], *args: Any) -> bool:
        """Run something in the session's nursery; False if the session has ended."""
        if self._nursery is None or self.reason is not None:
            return False
        self._nursery.start_soon(function, *args)
        return True
