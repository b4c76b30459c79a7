"""WebSocket over a plain non-blocking socket: the fast path, with writes that go straight to the kernel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Outbox
from protocol import CloseCode, DisconnectReason, Limits
from protocol.websocket import FrameReader, Received, build_close

from .base import TOO_SLOW, TransportEnded, WebSocketTransport
from .framed import build_frames, frame_base64, frame_plain, stream_ended
from .shared_writer import SharedWriter
from .tcp_progress import PingDelivery, acknowledged

_RECEIVE_BYTES = 65_536
_BATCH_BYTES = 262_144


class SocketWebSocket(WebSocketTransport):
    """A WebSocket whose handshake is done, over a socket that nobody else uses.

    What the kernel does not take is written by the shared writer; where there is none, by a task that is
    started, through `start_soon`, for as long as something waits.

    Args:
        sock: A connected, non-blocking stream socket; this closes it.
        rest: Bytes that came behind the handshake.
        max_payload_bytes: Bound on one message.
        limits: Bounds on fragments and writes.
        base64: Whether the peer asked for text frames only.
        writer: Writes for all such connections of a broker.

    Attributes:
        has_rest: Whether there is input to read that no system call would tell of.
    """

    def __init__(
        self,
        sock: socket.socket,
        rest: bytes,
        max_payload_bytes: int,
        limits: Limits,
        base64: bool,
        writer: SharedWriter | None = None,
    ) -> None:
        self._sock = sock
        self._receive_some = sock.recv
        self._reader = FrameReader(max_payload_bytes, limits, rest)
        self.has_rest = bool(rest)
        self._limits = limits
        self._base64 = base64
        self._outbox: Outbox | None = None
        self._writer = writer
        self._writing = False
        self._progress: int | None = None
        self._ping = PingDelivery(sock)
        self._start_soon: Callable[..., None] | None = None
        self.send_now: Callable[[bytes], int] | None = None if base64 else sock.send

    @property
    def fileno(self) -> int:
        """The file descriptor; -1 once closed."""
        return self._sock.fileno()

    @property
    def mid_message(self) -> bool:  # type: ignore[override]  # the others need no more than a constant
        """Whether a frame or a fragmented message has begun and is not complete."""
        return self._reader.mid_frame

    async def receive(self) -> Sequence[Received]:
        """Wait for input; return what it completes, maybe nothing."""
        if self.has_rest:
            await trio.lowlevel.checkpoint()
            return self.receive_now()
        # Waiting first and reading once beats trio's read, which tries, fails and waits.
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise TransportEnded(DisconnectReason.TRANSPORT_ERROR, detail=str(error)) from None
        return self.receive_now()

    def receive_now(self) -> Sequence[Received]:
        """Read once, without waiting; return what is complete, maybe nothing.

        Raises:
            TransportEnded: There will be no more.
        """
        data = b""
        if not self.has_rest:
            try:
                data = self._receive_some(_RECEIVE_BYTES)
            except BlockingIOError:
                return ()
            except OSError as error:
                raise TransportEnded(DisconnectReason.TRANSPORT_ERROR, detail=str(error)) from None
            if not data:
                raise stream_ended(self._reader)
        reader = self._reader
        received = reader.feed(data)
        self.has_rest = reader.unread != b""
        return received

    def attach(self, outbox: Outbox, start_soon: Callable[..., None]) -> None:
        """Send what this outbox holds."""
        self._outbox = outbox
        self._start_soon = start_soon
        outbox.connect(self.send_now)
        if outbox.queued_bytes:
            self.wake()

    def wake(self) -> None:
        """Have what is queued written, if nobody is at it."""
        if self._writing or self._start_soon is None:
            return
        self._writing = True
        if self._writer is None or not self._writer.add(self):
            self._start_soon(self._write_backlog)

    @property
    def is_writable(self) -> bool:
        """Whether nothing waits for the kernel."""
        return not self._writing

    def expect_pong(self) -> None:
        """Note how far the peer has got, and how far it must get before it sees the PING."""
        self._ping.begin(0 if self._outbox is None else self._outbox.begun_bytes)

    def delays_ping(self) -> bool:
        """Tell whether the PING waits to be written, or the peer still takes what was sent before it."""
        if self._outbox is not None and self._outbox.has_urgent:
            return True  # the deadline of the write holds
        return self._ping.is_moving()

    async def _write_backlog(self) -> None:
        try:
            await self._flush()
        finally:
            self._writing = False
        # What was offered after the last look and before the flag fell.
        if self._outbox is not None and self._outbox.queued_bytes and not self._outbox.closed:
            self.wake()

    async def _flush(self) -> None:
        """Write until nothing is queued. Cancellation cuts no frame: what is begun stays in the outbox."""
        while not self._write_now():
            if not await self._wait_writable():
                self.give_up()
                return

    async def _wait_writable(self) -> bool:
        """Wait until the kernel takes more; False if the peer has taken nothing for `write_timeout`."""
        self.has_moved()
        while True:
            with trio.move_on_after(self._limits.write_timeout):
                await trio.lowlevel.wait_writable(self._sock)
                return True
            if not self.has_moved():
                return False

    # For the shared writer

    def write_on(self) -> bool:
        """Write what the kernel takes; tells whether nothing is left."""
        self._writing = not self._write_now()
        return not self._writing

    def _write_now(self) -> bool:
        outbox = self._outbox
        assert outbox is not None
        frame_of = frame_base64 if self._base64 else frame_plain
        while buffers := outbox.front(_BATCH_BYTES, frame_of):
            try:
                sent = self._sock.send(buffers[0]) if len(buffers) == 1 else self._sock.sendmsg(buffers)
            except BlockingIOError:
                return False
            except OSError:
                outbox.fail()
                return True
            if not outbox.advance(buffers, sent):
                return False
        outbox.resume_direct()
        return True

    def has_moved(self) -> bool:
        """Tell whether the peer has taken anything since this was asked before. Spec: LIM-4."""
        before, self._progress = self._progress, acknowledged(self._sock)
        return self._progress is not None and self._progress != before

    def give_up(self) -> None:
        """End as a slow consumer."""
        if self._outbox is not None:
            self._outbox.stall()

    def fail(self) -> None:
        """End, since nothing more can be written."""
        if self._outbox is not None:
            self._outbox.fail()

    async def write(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages before an outbox is attached: the answers to a probe.

        Raises:
            TransportEnded: The peer is gone.
        """
        await self._send_all(build_frames(messages, self._base64))

    async def _send_all(self, data: bytes) -> None:
        try:
            while data := data[self._try_send(data) :]:
                await trio.lowlevel.wait_writable(self._sock)
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise TransportEnded(DisconnectReason.TRANSPORT_ERROR, detail=str(error)) from None

    def _try_send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    async def finish(self, reason: DisconnectReason, code: CloseCode | int, text: str) -> None:
        """Flush, send a close frame, wait for the peer to close, and close."""
        outbox = self._outbox
        self._leave_writer()
        try:
            if self._sock.fileno() < 0 or (outbox is not None and outbox.stalled):
                return
            if outbox is not None:
                if reason in TOO_SLOW:
                    outbox.drop_waiting()
                await self._flush()
            if outbox is None or not outbox.queued_bytes:
                await self.close(code, text)
        finally:
            self.abort()

    async def close(self, code: int, text: str) -> None:
        """Send a close frame, stop sending, and read on until the peer has closed too. Spec: EIO-CLOSE-4."""
        try:
            await self._send_all(build_close(code, text))
            self._sock.shutdown(socket.SHUT_WR)
            # Closing with unread input would reset the connection and could destroy the close frame. Behind
            # the peer's own close frame nothing comes, and it is for the server to close the connection.
            while not self._reader.closed:
                await self.receive()
        except (OSError, TransportEnded):
            return

    def _leave_writer(self) -> None:
        if self._writer is not None:
            self._writer.remove(self)

    def abort(self) -> None:
        """Close the socket."""
        self._leave_writer()
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
