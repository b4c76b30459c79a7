"""How a session reads: packets to the layer above, one leader at a time, paused while an inbox is full."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import trio

from broker.flow.encoded import ControlMessage
from broker.flow.outbox import Outbox
from broker.flow.rates import Pace
from broker.transports.base import Transport, TransportEnded
from broker.transports.framed import answer_control
from broker.transports.socket_websocket import SocketWebSocket
from protocol import DisconnectReason, Violation
from protocol.engineio.packet import PING, decode_packet
from protocol.engineio.transitions import PACKETS, PacketAction, SessionState
from protocol.websocket import BinaryMessage, Received

from .handler import Driven, SessionHandler
from .shared_reader import SharedReader

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

_MESSAGE_DIGIT = ord("4")
_PING_MESSAGE = ControlMessage(PING)


class Reading(ABC):
    """The reading half of a session.

    Attributes:
        handler: The layer above.
        transport: What the session is on.
        outbox: What the peer has still to be sent.
        state: Where it is in its life.
        socket: The transport again, once it is one that the shared reader can read.
        reason: Why it ended; None while it is open.
        held: What was received and waits, while reading is paused on a shared reader.
        mid_message: Whether a begun message is held to its deadline.
        ponged: Whether a PONG has come since the last PING.
    """

    __slots__ = (
        "__weakref__",
        "_engine",
        "_nursery",
        "_paused",
        "_pauses",
        "_pinged",
        "_pushed_back",
        "handler",
        "held",
        "mid_message",
        "outbox",
        "ponged",
        "reason",
        "socket",
        "state",
        "transport",
    )

    handler: SessionHandler
    outbox: Outbox
    transport: Transport
    socket: SocketWebSocket

    def __init__(self, engine: Engine) -> None:
        self.state = SessionState.OPEN
        self.reason: DisconnectReason | None = None
        self.held: Iterator[Received] | None = None
        self.mid_message = False
        self._engine = engine
        self._nursery: trio.Nursery | None = None
        self._pinged = self.ponged = False
        self._paused: trio.Event | None = None
        self._pauses = 0
        self._pushed_back: Iterator[Received] | None = None

    @abstractmethod
    def close(self, reason: DisconnectReason, code: int | None = None, text: str = "") -> None:
        """End the session; the first reason stays. Does not wait."""

    @abstractmethod
    def violate(self, violation: Violation, detail: str | None = None, code: int | None = None) -> None:
        """End the session because of what its peer did."""

    # Reading: one leader; when a handler suspends, a follower takes over

    async def _read(self) -> None:
        """Read in this task, or have the shared reader read, until the session ends."""
        reader = self._shared_reader()
        if reader is None:
            await self._lead(iter(()))
        else:
            reader.add(self)
        await trio.sleep_forever()  # until `close` cancels

    def _shared_reader(self) -> SharedReader | None:
        return self._engine.reader if isinstance(self.transport, SocketWebSocket) else None

    async def _lead(self, received: Iterator[Received]) -> None:
        """Read, and drive handlers in this task, until one suspends: then a follower reads on."""
        nursery = self._nursery
        assert nursery is not None
        with trio.CancelScope() as scope:
            while True:
                driven = self._take_corked(received)
                if driven is not None:
                    # The scope is this handler's from here on; the follower brings its own.
                    driven.adopt(scope)
                    nursery.start_soon(self._lead, received)
                    await driven.finish()
                    return
                if self._paused is not None:
                    await self._paused.wait()
                    continue
                if self._pushed_back is not None:
                    received, self._pushed_back = self._pushed_back, None
                    continue
                reader = self._shared_reader()
                if reader is not None:  # after an upgrade
                    reader.add(self)
                    return
                received = await self._receive()

    def _take_corked(self, received: Iterator[Received]) -> Driven | None:
        if self.reason is not None:  # a pause that the end has lifted
            return None
        self.outbox.cork()
        try:
            return self.take(received)
        finally:
            self.outbox.uncork()

    def take(self, received: Iterator[Received]) -> Driven | None:
        """Handle messages until there are no more, a handler suspends, or reading is paused."""
        handler = self.handler
        if self._pinged:
            self._pinged = False
            self._engine.timers.alive(self)
        for message in received:
            if self.reason is not None:
                break
            if type(message) is bytes:
                if message and message[0] == _MESSAGE_DIGIT:
                    driven = handler.on_text(message)
                else:
                    driven = self._on_packet(message)
            elif type(message) is BinaryMessage:
                driven = handler.on_binary(message)
            else:
                self._on_control(message)
                driven = None
            if driven is not None or self._paused is not None:
                return driven
        return None

    async def _receive(self) -> Iterator[Received]:
        transport = self.transport
        try:
            received = await transport.receive()
            if self.mid_message or not received or type(received[-1]) is not bytes:
                self.watch(received)
            if self._engine.rates is not None:
                self.meter(len(received))
            return iter(received)
        except TransportEnded as ended:
            if transport is self.transport:
                self.on_ended(ended)
                await trio.sleep_forever()  # until the cancellation that `close` has asked for
        return iter(())  # it was left for another: what came behind the UPGRADE packet is next

    def meter(self, count: int) -> None:
        """Count packets against the rates, if there are any; warn, or end the session. Spec: LIM-9."""
        rates = self._engine.rates
        if rates is None or not count or self.reason is not None:
            return
        pace = rates.take(self, count)
        if pace is Pace.CUT:
            self.violate(Violation.RATE_EXCEEDED)
        elif pace is Pace.WARN:
            self._engine.counters.events["rate warning"] += 1
            logger.warning("a client sends more packets than its rate; if it goes on, its session ends")
            self.handler.warn("rate_limited", "too many packets a second: send less, or the session ends")

    def watch(self, received: Sequence[Received]) -> None:
        """Hold a begun message to its deadline; need not be called while each input ends with a text message.

        Args:
            received: What the last input has completed.

        Spec: LIM-8.
        """
        if not self.transport.mid_message or self.reason is not None:
            self.mid_message = False
            self._engine.receiving.stop(self)
        elif not self.mid_message or any(isinstance(one, bytes) for one in received):
            # Control frames between two fragments give the message no more time.
            self.mid_message = True
            self._engine.receiving.start(self)

    def on_ended(self, ended: TransportEnded) -> None:
        """End the session because its transport has ended."""
        if ended.violation is not None:
            self.violate(ended.violation, ended.detail, ended.code)
        else:
            self.close(ended.reason)

    def _on_control(self, message: Received) -> None:
        try:
            answer_control(message, self.outbox)
        except TransportEnded as ended:
            self.on_ended(ended)

    def _on_packet(self, text: bytes) -> Driven | None:
        """Take any packet but a text message. Spec: EIO-STATE-2."""
        packet = decode_packet(text)
        if isinstance(packet, Violation):
            self.violate(packet)
            return None
        action = PACKETS[self.state][packet.type]
        if action is PacketAction.HEARTBEAT:
            self.ponged = True
            if self._paused is None:
                self._engine.timers.pong(self)
        elif action is PacketAction.DELIVER:
            return self.handler.on_binary(packet.data)
        elif action is PacketAction.PEER_CLOSED:
            self.close(DisconnectReason.TRANSPORT_CLOSE)
        elif action is PacketAction.WRONG_HEARTBEAT:
            self.violate(Violation.WRONG_HEARTBEAT)
        return None

    # Pausing: a full inbox stops the reading, and the pong deadline for just as long

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused."""
        return self._paused is not None

    def pause(self) -> None:
        """Stop reading until `resume` was called as often."""
        self._pauses += 1
        if self._paused is None:
            self._paused = trio.Event()
            self._engine.timers.suspend(self)
            self._engine.stalling.start(self)
            self._engine.receiving.stop(self)
            self.mid_message = False

    def resume(self) -> None:
        """Undo one `pause`."""
        self._pauses -= 1
        if self._pauses or self._paused is None:
            return
        self._paused.set()
        self._paused = None
        self._engine.stalling.stop(self)
        held, self.held = self.held, None
        if self.reason is not None:
            return
        self._engine.timers.open(self)
        reader = self._shared_reader()
        if reader is not None and held is not None:
            reader.add(self, held)

    # Heartbeat

    def ping(self) -> None:
        """Send a PING, ahead of what waits. Spec: EIO-HB-1, EIO-HB-9."""
        self._pinged = True
        self.ponged = False
        self.transport.expect_pong()
        self.outbox.offer_urgent(_PING_MESSAGE)

    def expire(self) -> bool:
        """End the session, silent since the PING, unless the PING cannot have come there yet.

        Returns:
            Whether it is to be given the same time once more. Spec: EIO-HB-3, EIO-HB-9.
        """
        if self.transport.delays_ping():
            return True
        self.close(DisconnectReason.PING_TIMEOUT)
        return False
