"""What a session asks of a transport, and the writer that most transports share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Outbox
from protocol import CloseCode, DisconnectReason, Violation
from protocol.engineio.handshake import TransportName
from protocol.websocket import Received

PEER_GONE = frozenset(
    {
        DisconnectReason.TRANSPORT_CLOSE,
        DisconnectReason.TRANSPORT_ERROR,
        DisconnectReason.PARSE_ERROR,
        DisconnectReason.PING_TIMEOUT,
        DisconnectReason.SERVER_SHUTTING_DOWN,
    }
)
"""Reasons after which no further GET of a polling client is waited for."""


class TransportEnded(Exception):
    """The transport will deliver nothing more.

    Attributes:
        reason: Why, as the session would end with it.
        violation: What the peer did wrong, if that is why.
        detail: More about it, for the log and the close frame.
        code: WebSocket close code that belongs to it.
    """

    def __init__(
        self,
        reason: DisconnectReason,
        violation: Violation | None = None,
        detail: str | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.violation = violation
        self.detail = detail
        self.code = code


class Transport(ABC):
    """One way to move packets; carries one session at a time.

    Attributes:
        name: `polling` or `websocket`, as the wire calls it.
        mid_message: Whether the peer has begun a message and not completed it, as far as is known.
        send_now: Writes bytes without blocking, returns how many the kernel took; None if it cannot.
    """

    name: TransportName
    mid_message = False
    send_now: Callable[[bytes], int] | None = None

    @abstractmethod
    async def receive(self) -> Sequence[Received]:
        """Wait for input of the peer; return the messages it completes, in order, maybe none.

        Raises:
            TransportEnded: There will be no more.

        Cancellation loses nothing.
        """

    @abstractmethod
    def attach(self, outbox: Outbox, start_soon: Callable[..., None]) -> None:
        """Send what this outbox holds from now on.

        Args:
            outbox: The session's outbox.
            start_soon: Starts a task in the session's nursery.
        """

    @abstractmethod
    def wake(self) -> None:
        """Note that the outbox is no longer empty."""

    @property
    @abstractmethod
    def is_writable(self) -> bool:
        """Whether a message offered now would leave at once."""

    @abstractmethod
    async def finish(self, reason: DisconnectReason, code: CloseCode | int, text: str) -> None:
        """Send what is queued, tell the peer the end, and close.

        Cancellation closes at once.
        """

    @abstractmethod
    def abort(self) -> None:
        """Close at once, without a word."""


class WebSocketTransport(Transport):
    """A WebSocket of any kind: the broker may send when it wants to."""

    name: TransportName = "websocket"

    @abstractmethod
    async def write(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages whole.

        Raises:
            TransportEnded: The peer is gone.
        """

    @abstractmethod
    async def close(self, code: int, text: str) -> None:
        """Say goodbye with a close frame and close. May be called after a failure."""

    async def serve(self, body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` with all that the transport needs beside it."""
        await body()


class PushTransport(WebSocketTransport):
    """A WebSocket with a writer task, for carriers that have no non-blocking write.

    Args:
        write_timeout: Seconds one write may take.
    """

    def __init__(self, write_timeout: float) -> None:
        self._write_timeout = write_timeout
        self._outbox: Outbox | None = None
        self._wanted = trio.Event()
        self._finishing = False
        self._written = trio.Event()

    def attach(self, outbox: Outbox, start_soon: Callable[..., None]) -> None:
        """Send what this outbox holds; `serve` must be running."""
        self._outbox = outbox
        outbox.connect(self.send_now)
        self.wake()

    def wake(self) -> None:
        """Wake the writer."""
        self._wanted.set()

    @property
    def is_writable(self) -> bool:
        """Whether the writer has nothing to do."""
        return not self._wanted.is_set()

    async def serve(self, body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` beside the writer."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_writer)
            await body()
            nursery.cancel_scope.cancel()

    async def _run_writer(self) -> None:
        """Write what is queued until `finish` ends it; ends the session if the peer takes too long."""
        try:
            while not self._finishing:
                await self._wanted.wait()
                await self._write_queued()
                self._wanted = trio.Event()
        finally:
            self._written.set()

    async def _write_queued(self) -> None:
        outbox = self._outbox
        while outbox is not None and (messages := outbox.take(_BATCH_BYTES)):
            try:
                with trio.fail_after(self._write_timeout):
                    await self.write(messages)
            except trio.TooSlowError:
                outbox.stall()
                return
            except TransportEnded:
                outbox.fail()
                return

    async def finish(self, reason: DisconnectReason, code: CloseCode | int, text: str) -> None:
        """Let the writer write what is queued, then close."""
        self._finishing = True
        self._wanted.set()
        try:
            await self._written.wait()
            await self.close(code, text)
        finally:
            self.abort()


_BATCH_BYTES = 65_536
