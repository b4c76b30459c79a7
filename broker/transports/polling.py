"""Long-polling: pairs the GETs and POSTs of one session; speaks no HTTP itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Outbox
from protocol import CloseCode, DisconnectReason
from protocol.engineio.handshake import TransportName
from protocol.engineio.packet import CLOSE, NOOP
from protocol.engineio.payload import encode_payload
from protocol.jsontext import dump
from protocol.reasons import describe_end
from protocol.websocket import Received

from .base import PEER_GONE, Transport, TransportEnded

_NOOP_INTERVAL = 0.1  # how long a GET may stay parked while an upgrade is under way; the reference's


class Overlap(Exception):
    """A second request of the same kind came while one was still open."""


class Flight:
    """The messages of one response, on their way to the client.

    Args:
        outbox: Where they come from.
        messages: The messages.
    """

    def __init__(self, outbox: Outbox, messages: list[EncodedMessage]) -> None:
        self._outbox = outbox
        self._messages = messages
        self._moved = bool(messages)  # a GET that is parked takes nothing
        self._is_long = False

    def move(self) -> None:
        """Note that the client has taken a piece of the response, and not the last."""
        self._moved = self._is_long = True

    def expect_pong(self) -> None:
        """Note that a PING is due: what has landed does not keep it from the client."""
        if not self._messages:
            self._moved = False

    def has_moved(self) -> bool:
        """Tell whether it has moved since this was asked; a long one has by its end, too."""
        moved, self._moved = self._moved, False
        return moved

    def land(self) -> None:
        """Note that the whole response has been written."""
        messages, self._messages = self._messages, []
        self._moved = self._is_long
        self._outbox.sent(messages)

    def fail(self) -> None:
        """Note that the response will not be written; does nothing once it has landed."""
        messages, self._messages = self._messages, []
        if messages:
            self._moved = False
        self._outbox.lost(messages)


class Polling(Transport):
    """The polling transport of one session. Spec: EIO-POLL-1 to EIO-POLL-12.

    Args:
        max_packets: How many packets one answer may hold; a message with more goes alone.

    Attributes:
        upgrading: Whether a probe is under way.
        flight: The messages of the last response.
    """

    name: TransportName = "polling"

    def __init__(self, max_packets: int) -> None:
        self._max_packets = max_packets
        self._outbox: Outbox | None = None
        self.flight: Flight | None = None
        self._wanted = trio.Event()
        self._parked = False
        self._post_scope: trio.CancelScope | None = None
        self._release: bytes | None = None
        self._closing = False
        self._last = CLOSE
        self._told = trio.Event()
        self._to_session, self._from_client = trio.open_memory_channel[Sequence[Received]](0)
        self.upgrading = False

    # The session's side

    async def receive(self) -> Sequence[Received]:
        """Wait for the packets of a POST; it is answered once they are here."""
        try:
            return await self._from_client.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE) from None

    def attach(self, outbox: Outbox, start_soon: Callable[..., None]) -> None:
        """Answer GETs with what this outbox holds."""
        self._outbox = outbox
        outbox.connect(None)

    def wake(self) -> None:
        """Answer the parked GET, if there is one."""
        self._wanted.set()

    @property
    def is_writable(self) -> bool:
        """Whether a GET is parked."""
        return self._parked and not self._wanted.is_set()

    def expect_pong(self) -> None:
        """Note that a PING is about to be offered."""
        if self.flight is not None:
            self.flight.expect_pong()

    def delays_ping(self) -> bool:
        """Tell whether a response is being written, and the client takes it, or has just taken its end."""
        return self.flight is not None and self.flight.has_moved()

    def begin_upgrade(self) -> None:
        """Let no GET stay parked from now on, so that the client can finish its cycle. Spec: EIO-UPG-4."""
        self.upgrading = True
        self.wake()

    def end_upgrade(self) -> None:
        """Go on as before: the upgrade failed."""
        self.upgrading = False

    def hand_over(self) -> None:
        """End, because the session goes on over a WebSocket; a parked GET gets a NOOP."""
        self._outbox = None
        self._end(NOOP)

    def _end(self, release: bytes) -> None:
        self._release = release
        self.wake()
        self._to_session.close()
        self._from_client.close()
        self._drop_post()

    def _drop_post(self) -> None:
        """Wait no longer for the rest of a POST: nobody would take it."""
        if self._post_scope is not None:
            self._post_scope.cancel()

    async def finish(self, reason: DisconnectReason, code: CloseCode | int, text: str) -> None:
        """Answer the parked GET with CLOSE; without one, wait for the next GET and answer that."""
        self._closing = True
        self._last = CLOSE + dump(describe_end(reason, text))
        parked = self._parked
        if reason is DisconnectReason.TRANSPORT_CLOSE:
            self._end(NOOP)
        elif parked or reason in PEER_GONE:
            self._end(CLOSE)
        else:
            self._to_session.close()
            self._from_client.close()
            self._drop_post()
            await self._told.wait()
        if parked:
            await self._told.wait()

    def abort(self) -> None:
        """Release what is parked and take nothing more."""
        self._end(CLOSE)
        self._told.set()

    # The HTTP side

    async def poll(self) -> bytes:
        """Wait until there is something for the client; return the payload of the response.

        Raises:
            Overlap: A GET is parked already; it has been released, and the session must end.
        """
        if self._parked:
            self._end(CLOSE)
            raise Overlap
        self._parked = True
        try:
            # Before the payload is taken: until `poll` returns, `finish` must be able to add the end to it.
            await trio.lowlevel.checkpoint()
            return await self._wait_payload()
        finally:
            self._parked = False
            if self._closing:
                self._told.set()

    async def _wait_payload(self) -> bytes:
        while True:
            self._wanted = trio.Event()
            payload = self._take_payload()
            if payload is not None:
                return payload
            with trio.move_on_after(_NOOP_INTERVAL if self.upgrading else inf):
                await self._wanted.wait()
            if self.upgrading:
                return self._take_payload() or NOOP

    def _take_payload(self) -> bytes | None:
        ending = self._closing or self._release is not None
        packets: list[bytes] = []
        if self._outbox is not None:
            messages = self._outbox.take(max_packets=sys.maxsize if ending else self._max_packets)
            for message in messages:
                packets += message.base64_packets()
            self.flight = Flight(self._outbox, messages)
        # The end stands behind what waits, or the client would never be told. Spec: EIO-CLOSE-3.
        if self._release == CLOSE:
            packets.append(self._last)
        elif self._release is not None:
            packets = packets or [self._release]
        elif self._closing:
            packets += (NOOP, self._last)
        return encode_payload(packets) if packets else None

    @property
    def is_posting(self) -> bool:
        """Whether a POST is open: another one must end the session."""
        return self._post_scope is not None

    @contextmanager
    def open_post(self, scope: trio.CancelScope) -> Iterator[None]:
        """Note that a POST is open, for the block.

        Args:
            scope: Cancelled when nobody would take its packets any more.
        """
        self._post_scope = scope
        try:
            yield
        finally:
            self._post_scope = None

    async def post(self, received: Sequence[Received]) -> None:
        """Hand the packets of a POST to the session; returns when it has taken them.

        Raises:
            TransportEnded: The session is over.
        """
        try:
            await self._to_session.send(received)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE) from None
