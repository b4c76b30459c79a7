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

TOO_SLOW = frozenset({DisconnectReason.SLOW_CONSUMER, DisconnectReason.EVICTED})
"""Reasons for which what waits is dropped, since the peer does not take it in time."""


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

    def expect_pong(self) -> None:  # noqa: B027 - most transports have nothing to note
        """Note that a PING is about to be offered."""

    def delays_ping(self) -> bool:
        """Tell whether what was sent before keeps the PING from the peer, and is moving. Spec: EIO-HB-9."""
        return False

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
        write_timeout: Seconds that a piece of a write may take.

    Attributes:
        written: How many messages of the current `write` are on their way.
    """

    def __init__(self, write_timeout: float) -> None:
        self._write_timeout = write_timeout
        self._outbox: Outbox | None = None
        self._wanted = trio.Event()
        self._finishing = False
        self._finished = trio.Event()
        self._writing: trio.CancelScope | None = None
        self.written = 0

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

    def delays_ping(self) -> bool:
        """Tell whether a write is under way: as long as it moves, its own deadline holds."""
        return self._writing is not None

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
            self._finished.set()

    async def _write_queued(self) -> None:
        outbox = self._outbox
        while outbox is not None and (batch := outbox.take(_BATCH_BYTES)):
            self.written = 0
            try:
                with trio.move_on_after(self._write_timeout) as self._writing:
                    await self.write(batch)
                    self.written = len(batch)
            except TransportEnded:
                outbox.fail()
                return
            finally:
                self._writing = None
                outbox.sent(batch[: self.written])
                outbox.lost(batch[self.written :])
            if self.written < len(batch):
                outbox.stall()
                return

    def moved(self, next_bytes: int = 0) -> None:
        """Note that a piece has been written; the next has the full time, a large one more. Spec: LIM-4."""
        if self._writing is not None:
            pieces = 1 + next_bytes // _BATCH_BYTES
            self._writing.deadline = trio.current_time() + self._write_timeout * pieces

    async def finish(self, reason: DisconnectReason, code: CloseCode | int, text: str) -> None:
        """Let the writer write what is queued, then close."""
        outbox = self._outbox
        if outbox is not None and reason in TOO_SLOW:
            outbox.drop_waiting()
        self._finishing = True
        self._wanted.set()
        try:
            await self._finished.wait()
            if outbox is None or not outbox.stalled:
                await self.close(code, text)
        finally:
            self.abort()


_BATCH_BYTES = 65_536
