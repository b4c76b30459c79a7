"""An echo endpoint on the broker's own transports: each message goes back as it came, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from broker.flow.counters import Counters
from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Outbox
from broker.transports.base import TransportEnded, WebSocketTransport
from broker.transports.framed import answer_control
from broker.transports.socket_websocket import SocketWebSocket
from broker.transports.stream_websocket import StreamWebSocket
from protocol import Limits, Refused, Violation
from protocol.http_head import accept_websocket
from protocol.jsontext import is_utf8
from protocol.websocket import BINARY, TEXT, BinaryMessage, Received, build_frame
from tests.peers import Door

MAX_PAYLOAD_BYTES = 16 << 20
LIMITS = Limits(fragments_per_message=1 << 20, outbox_hard_bytes=64 << 20, outbox_soft_bytes=64 << 20)


class EchoPeer:
    """One connection; stands where a session stands."""

    def __init__(self, transport: WebSocketTransport, limits: Limits) -> None:
        self._transport = transport
        self.outbox = Outbox(limits, Counters(), self)

    async def run(self) -> None:
        """Echo until the end, then close as a session does."""
        end: TransportEnded | None = None
        async with trio.open_nursery() as nursery:
            self._transport.attach(self.outbox, nursery.start_soon)
            try:
                while True:
                    for message in await self._transport.receive():
                        self._take(message)
            except TransportEnded as ended:
                end = ended
            nursery.cancel_scope.cancel()
        assert end is not None
        code = end.reason.close_code if end.violation is None else end.code
        assert code is not None
        self.outbox.close()
        with trio.move_on_after(2):
            await self._transport.finish(end.reason, code, end.detail or end.reason)

    def _take(self, message: Received) -> None:
        if not isinstance(message, bytes):
            answer_control(message, self.outbox)
            return
        binary = isinstance(message, BinaryMessage)
        # The codec leaves this check to whoever parses the text: here nobody else does.
        if not binary and not is_utf8(message):
            violation = Violation.BAD_TEXT
            raise TransportEnded(violation.reason, violation, violation.text, violation.close_code)
        echo = EncodedMessage(b"")
        echo.frame = build_frame(BINARY if binary else TEXT, message)
        self.outbox.offer(echo)

    def on_overflow(self) -> None:
        raise AssertionError("an echo does not overflow")

    def on_evicted(self) -> None:
        raise AssertionError("an echo has no budget with others")

    def on_broken(self) -> None:
        """The peer is gone; reading tells."""

    def on_backlog(self) -> None:
        self._transport.wake()

    def is_writable(self) -> bool:
        return self._transport.is_writable


@asynccontextmanager
async def echoing(carrier: str, limits: Limits = LIMITS) -> AsyncIterator[Door]:
    """Serve echoes on a free port for the block.

    Args:
        carrier: `socket` or `stream`: which of the transports.
        limits: Bounds in force.
    """
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        at = head.index(b"\r\n\r\n") + 4
        answer = accept_websocket(head[:at], ())
        assert not isinstance(answer, Refused)
        await stream.send_all(answer)
        if carrier == "stream":
            transport: WebSocketTransport = StreamWebSocket(
                stream, head[at:], MAX_PAYLOAD_BYTES, limits, base64=False
            )
        else:
            duplicate = stream.socket._sock.dup()
            duplicate.setblocking(False)
            stream.socket.close()
            transport = SocketWebSocket(duplicate, head[at:], MAX_PAYLOAD_BYTES, limits, base64=False)
        try:
            await transport.serve(EchoPeer(transport, limits).run)
        finally:
            transport.abort()
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        yield Door(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
