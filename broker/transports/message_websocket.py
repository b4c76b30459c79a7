"""WebSockets that somebody else frames: an ASGI server, or trio-websocket."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from broker.flow.encoded import EncodedMessage
from protocol import CloseCode, DisconnectReason, Limits, Violation
from protocol.engineio.packet import encode_binary
from protocol.websocket import BinaryMessage, Received

from .base import PushTransport, TransportEnded

ASGIReceive = Callable[[], Awaitable[dict[str, Any]]]
ASGISend = Callable[[dict[str, Any]], Awaitable[None]]


class MessageWebSocket(PushTransport):
    """A WebSocket that gives and takes whole messages.

    Args:
        max_payload_bytes: Bound on one message.
        limits: Bounds on writes.
        base64: Whether the peer asked for text only.
    """

    def __init__(self, max_payload_bytes: int, limits: Limits, base64: bool) -> None:
        super().__init__(limits.write_timeout)
        self._max_bytes = max_payload_bytes
        self._base64 = base64
        self._taken_by = -inf
        self._delayed = False

    def expect_pong(self) -> None:
        """Note that a PING is about to be offered."""
        self._delayed = False

    def delays_ping(self) -> bool:
        """Tell whether a write is under way, or the peer may be at its end still, or was just now.

        Nobody here can ask the kernel, which holds megabytes. So the peer has as long for what is left of
        a write as the write took, and then one timeout to answer.
        """
        before = self._delayed
        self._delayed = super().delays_ping() or trio.current_time() < self._taken_by
        return before or self._delayed

    @abstractmethod
    async def receive_message(self) -> str | bytes:
        """Wait for one message.

        Raises:
            TransportEnded: There will be no more.
        """

    @abstractmethod
    async def send_message(self, message: str | bytes) -> None:
        """Send one message.

        Raises:
            TransportEnded: The peer is gone.
        """

    async def receive(self) -> Sequence[Received]:
        """Wait for a message."""
        message = await self.receive_message()
        received = message.encode() if isinstance(message, str) else BinaryMessage(message)
        if len(received) > self._max_bytes:
            violation = Violation.MESSAGE_TOO_BIG
            raise TransportEnded(violation.reason, violation, code=CloseCode.TOO_BIG)
        return [received]

    async def write(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages one by one."""
        began = trio.current_time()
        for message in messages:
            self.moved(message.size)
            if message.text:
                await self.send_message(message.text.decode())
            for attachment in message.attachments:
                await self.send_message(encode_binary(attachment).decode() if self._base64 else attachment)
            self.written += 1
        ended = trio.current_time()
        self._taken_by = max(self._taken_by, ended + (ended - began))

    def abort(self) -> None:
        """Do nothing: whoever serves the WebSocket closes it."""


class ASGIWebSocket(MessageWebSocket):
    """The WebSocket of an ASGI server, accepted already.

    Args:
        receive: ASGI's receive.
        send: ASGI's send.
        max_payload_bytes: Bound on one message.
        limits: Bounds on writes.
        base64: Whether the peer asked for text only.
    """

    def __init__(
        self, receive: ASGIReceive, send: ASGISend, max_payload_bytes: int, limits: Limits, base64: bool
    ) -> None:
        super().__init__(max_payload_bytes, limits, base64)
        self._receive = receive
        self._send = send
        self._gone = False

    async def receive_message(self) -> str | bytes:
        """Wait for one message."""
        event = await self._receive()
        if event["type"] != "websocket.receive":
            self._gone = True
            raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE, code=event.get("code"))
        text: str | None = event.get("text")
        if text is not None:
            return text
        return bytes(event["bytes"])

    async def send_message(self, message: str | bytes) -> None:
        """Send one message."""
        key = "text" if isinstance(message, str) else "bytes"
        if self._gone:
            raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE)
        await self._send({"type": "websocket.send", key: message})

    async def close(self, code: int, text: str) -> None:
        """Ask the server to close."""
        if not self._gone:
            self._gone = True
            await self._send({"type": "websocket.close", "code": code, "reason": text})


class TrioWebSocket(MessageWebSocket):
    """A connection of trio-websocket.

    Args:
        connection: The connection; whoever made it closes its stream.
        max_payload_bytes: Bound on one message.
        limits: Bounds on writes.
        base64: Whether the peer asked for text only.
    """

    def __init__(
        self, connection: WebSocketConnection, max_payload_bytes: int, limits: Limits, base64: bool
    ) -> None:
        super().__init__(max_payload_bytes, limits, base64)
        self._connection = connection

    async def receive_message(self) -> str | bytes:
        """Wait for one message."""
        try:
            message: str | bytes = await self._connection.get_message()
        except ConnectionClosed:
            raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE) from None
        return message

    async def send_message(self, message: str | bytes) -> None:
        """Send one message."""
        try:
            await self._connection.send_message(message)
        except ConnectionClosed:
            raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE) from None

    async def close(self, code: int, text: str) -> None:
        """Close with a close frame."""
        try:
            await self._connection.aclose(code=code, reason=text)
        except ConnectionClosed:
            return
