"""WebSocket over any Trio stream: TLS, or a stream of the application's own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import trio

from broker.flow.encoded import EncodedMessage
from protocol import DisconnectReason, Limits
from protocol.websocket import FrameReader, Received, build_close

from .base import PushTransport, TransportEnded
from .framed import frame_base64, frame_plain, stream_ended
from .tcp_progress import PingDelivery, under_tls

_PIECE_BYTES = 16_384  # what has `write_timeout` to be taken; the size of a record of TLS


class StreamWebSocket(PushTransport):
    """A WebSocket whose handshake is done, over a stream that nobody else uses.

    Args:
        stream: The stream; this closes it.
        rest: Bytes that came behind the handshake.
        max_payload_bytes: Bound on one message.
        limits: Bounds on fragments and writes.
        base64: Whether the peer asked for text frames only.
    """

    def __init__(
        self, stream: trio.abc.Stream, rest: bytes, max_payload_bytes: int, limits: Limits, base64: bool
    ) -> None:
        super().__init__(limits.write_timeout)
        self._stream = stream
        self._reader = FrameReader(max_payload_bytes, limits, rest)
        self._base64 = base64
        self._broken = False
        tcp = under_tls(stream)
        self._ping = PingDelivery(tcp.socket) if isinstance(tcp, trio.SocketStream) else None

    @property
    def mid_message(self) -> bool:  # type: ignore[override]  # the others need no more than a constant
        """Whether a frame or a fragmented message has begun and is not complete."""
        return self._reader.mid_frame

    def expect_pong(self) -> None:
        """Note how far the peer has got."""
        if self._ping is not None:
            self._ping.begin(0)

    def delays_ping(self) -> bool:
        """Tell whether a write is under way, or the peer still takes what was sent before the PING."""
        return super().delays_ping() or (self._ping is not None and self._ping.is_moving())

    async def receive(self) -> Sequence[Received]:
        """Wait for input; return what it completes, maybe nothing."""
        if self._reader.unread:
            await trio.lowlevel.checkpoint()
            return self._reader.feed()
        try:
            data = bytes(await self._stream.receive_some())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportEnded(DisconnectReason.TRANSPORT_ERROR, detail=str(error)) from None
        if not data:
            raise stream_ended(self._reader)
        return self._reader.feed(data)

    async def write(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages piece by piece; a stream whose write was cut short is never used again."""
        frames = list(map(frame_base64 if self._base64 else frame_plain, messages))
        ends = list(accumulate(map(len, frames)))
        data = b"".join(frames)
        for start in range(0, len(data), _PIECE_BYTES):
            self.moved()
            await self._send(data[start : start + _PIECE_BYTES])
            self.written = bisect_right(ends, start + _PIECE_BYTES)

    async def _send(self, data: bytes) -> None:
        sent = False
        try:
            await self._stream.send_all(data)
            sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportEnded(DisconnectReason.TRANSPORT_ERROR, detail=str(error)) from None
        finally:
            self._broken = self._broken or not sent

    async def close(self, code: int, text: str) -> None:
        """Send a close frame and wait for the peer's. Spec: EIO-CLOSE-4."""
        if self._broken:
            return
        try:
            await self._send(build_close(code, text))
            while not self._reader.closed:
                await self.receive()
        except TransportEnded:
            return

    def abort(self) -> None:
        """Use the stream no more; whoever serves it closes it."""
        self._broken = True
