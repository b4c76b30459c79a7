"""A stream that gives back the bytes read so far before the rest, in the shape hypercorn expects."""

from __future__ import annotations

import socket

import trio

from broker.transports.tcp_progress import bound_unsent, under_tls
from protocol import Limits

_UNSENT_BYTES = 65_536  # that the kernel holds; on a slow line more would outlast the deadline of a PONG


class _Addressless:
    """Stands in for the socket of a stream that has none: a pipe, or a stream made in memory."""

    family = socket.AddressFamily.AF_UNSPEC

    def getpeername(self) -> str:
        return ""

    def getsockname(self) -> str:
        return ""


class ReplayStream(trio.abc.HalfCloseableStream):
    """A byte stream with bytes in front.

    hypercorn sends under a shield without a deadline; here every write has one, so that a peer that does not
    read cannot hold up the end of the server. It closes as soon as it has answered; here what the peer still
    sends is read for a while first: closing with unread input resets the connection, which can destroy the
    answer on its way, such as the 413 for a body that is too long.

    Args:
        stream: The stream itself.
        read: The bytes read from it so far.
        write_timeout: Seconds one write may take.
        close_timeout: Seconds that the peer has to close, before the stream is closed.

    Attributes:
        socket: What hypercorn asks for addresses.
    """

    def __init__(
        self, stream: trio.abc.Stream, read: bytes, write_timeout: float, close_timeout: float
    ) -> None:
        self._stream = stream
        self._read = read
        self._write_timeout = write_timeout
        self._close_timeout = close_timeout
        self._closing = False
        self._reading: trio.Event | None = None
        self._ended = False
        self.socket = getattr(stream, "socket", None) or _Addressless()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what was read so far, then what comes."""
        if self._read:
            await trio.lowlevel.checkpoint()
            size = len(self._read) if max_bytes is None else max_bytes
            data, self._read = self._read[:size], self._read[size:]
            return data
        self._reading = trio.Event()
        try:
            data = await self._receive(max_bytes)
            while data and self._closing:
                data = await self._receive(max_bytes)
        finally:
            self._reading.set()
            self._reading = None
        if self._closing:
            raise trio.ClosedResourceError("the connection is being closed")
        return data

    async def _receive(self, max_bytes: int | None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        self._ended = not data
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send within the write timeout.

        Raises:
            BrokenResourceError: The peer is gone or takes too long.
            ClosedResourceError: The connection is being closed.
        """
        try:
            with trio.fail_after(self._write_timeout):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the peer does not read") from None
        except trio.BusyResourceError:
            # hypercorn closes from one task while another still answers: the answer has come too late.
            raise trio.ClosedResourceError("the connection is being closed") from None

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a write might go through."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send the end of the stream, if it can be said."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the stream, once the peer has, or has had its time to."""
        try:
            if not (self._closing or self._ended):
                self._closing = True
                with trio.move_on_after(self._close_timeout):
                    await self._read_on()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it is closed all the same
        finally:
            await self._stream.aclose()

    async def _read_on(self) -> None:
        if self._reading is not None:
            await self._reading.wait()  # the one who reads reads on
        while not self._ended:
            await self._receive(None)


class TLSReplayStream(ReplayStream):
    """The same over TLS, whose handshake is done already, here or in the process that passes its bytes on."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        read: bytes,
        write_timeout: float,
        close_timeout: float,
        protocol: str | None = None,
    ) -> None:
        inner = under_tls(stream)
        super().__init__(stream, read, write_timeout, close_timeout)
        self.socket = getattr(inner, "socket", None) or _Addressless()
        self._protocol = protocol

    @property
    def transport_stream(self) -> TLSReplayStream:
        """What hypercorn asks for the socket."""
        return self

    async def do_handshake(self) -> None:
        """Do nothing: it is done."""
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        """Return what ALPN has chosen."""
        return self._protocol


def replay(stream: trio.abc.Stream, read: bytes, limits: Limits, *, secure: bool) -> ReplayStream:
    """Wrap a stream the way hypercorn tells TLS from plain.

    Hypercorn writes what the kernel takes, which is megabytes: a large response would be written long before
    a slow client has it, and the client be given up meanwhile. Spec: EIO-HB-9.
    """
    tcp = under_tls(stream)
    if isinstance(tcp, trio.SocketStream):
        bound_unsent(tcp.socket, _UNSENT_BYTES)
    if not secure:
        return ReplayStream(stream, read, limits.write_timeout, limits.close_timeout)
    chosen = stream.selected_alpn_protocol() if isinstance(stream, trio.SSLStream) else None
    return TLSReplayStream(stream, read, limits.write_timeout, limits.close_timeout, chosen)
