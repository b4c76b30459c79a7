"""A stream that gives back the bytes read so far before the rest, in the shape hypercorn expects."""

from __future__ import annotations

import socket

import trio


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
    read cannot hold up the end of the server.

    Args:
        stream: The stream itself.
        read: The bytes read from it so far.
        write_timeout: Seconds one write may take.

    Attributes:
        socket: What hypercorn asks for addresses.
    """

    def __init__(self, stream: trio.abc.Stream, read: bytes, write_timeout: float) -> None:
        self._stream = stream
        self._read = read
        self._write_timeout = write_timeout
        self.socket = getattr(stream, "socket", None) or _Addressless()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what was read so far, then what comes."""
        if self._read:
            await trio.lowlevel.checkpoint()
            size = len(self._read) if max_bytes is None else max_bytes
            data, self._read = self._read[:size], self._read[size:]
            return data
        return bytes(await self._stream.receive_some(max_bytes))

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
        """Close the stream."""
        await self._stream.aclose()


class TLSReplayStream(ReplayStream):
    """The same over TLS, whose handshake is done already, here or in the process that passes its bytes on."""

    def __init__(
        self, stream: trio.abc.Stream, read: bytes, write_timeout: float, protocol: str | None = None
    ) -> None:
        inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        super().__init__(stream, read, write_timeout)
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


def replay(stream: trio.abc.Stream, read: bytes, write_timeout: float, *, secure: bool) -> ReplayStream:
    """Wrap a stream the way hypercorn tells TLS from plain."""
    if not secure:
        return ReplayStream(stream, read, write_timeout)
    chosen = stream.selected_alpn_protocol() if isinstance(stream, trio.SSLStream) else None
    return TLSReplayStream(stream, read, write_timeout, chosen)
