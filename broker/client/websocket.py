"""A session's WebSocket, over trio-websocket."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import h11
import trio
from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from broker.flow.encoded import EncodedMessage
from protocol import ClientReason, Violation
from protocol.engineio.packet import Packet, PacketType, decode_packet

from .errors import TransportFailed, explain, parse_retry_after
from .framing import masked_frames
from .options import ClientOptions
from .tunnel import open_tunnel

_QUEUED_MESSAGES = 64
_RECEIVE_BYTES = 65_536
_MESSAGE = "4"
# Of h11 comes what cannot be sent, as a header, and what trio-websocket makes of an answer that is no HTTP.
_HANDSHAKE_ERRORS = (ConnectionRejected, HandshakeError, ConnectionClosed, OSError, h11.ProtocolError)


class _WatchedStream(trio.abc.Stream):
    """The connection, shared by trio-websocket and by our own frames.

    It tells when the peer has ended it: the handshake of trio-websocket would wait on.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._sending = trio.StrictFIFOLock()
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                self.ended.set()
                raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self.ended.set()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class WebSocketTransport:
    """Packets over one WebSocket."""

    name = "websocket"

    def __init__(self, options: ClientOptions, cookies: str) -> None:
        self._options = options
        self._cookies = cookies
        self._stream: _WatchedStream | None = None
        self._connection: WebSocketConnection | None = None
        self._failure: TransportFailed | None = None
        self._started = False
        self._scope = trio.CancelScope()

    @classmethod
    async def open(
        cls, nursery: trio.Nursery, options: ClientOptions, session_id: str | None = None, cookies: str = ""
    ) -> WebSocketTransport:
        """Connect and shake hands; the connection lives in `nursery`.

        Raises:
            TransportFailed: It cannot be had.
        """
        transport = cls(options, cookies)
        await nursery.start(transport._carry, session_id)
        if transport._failure is not None:
            raise transport._failure
        return transport

    async def _carry(  # noqa: ASYNC128 - `_hold` calls it
        self, session_id: str | None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Hold the connection; whatever goes wrong is noted for those who use it, never raised."""
        with self._scope:
            await self._hold(session_id, task_status)

    async def _hold(self, session_id: str | None, task_status: trio.TaskStatus[None]) -> None:
        try:
            stream = await open_stream(self._options)
        except (OSError, ssl.SSLError, trio.BrokenResourceError, h11.ProtocolError, UnicodeError) as error:
            self._fail(f"websocket error: {explain(error)}")
            task_status.started()
            return
        try:
            await self._shake_hands(_WatchedStream(stream), session_id, task_status)
        except BaseExceptionGroup as group:
            expected, rest = group.split(_HANDSHAKE_ERRORS)
            if rest is not None:
                raise
            assert expected is not None
            self._note(expected)
            if not self._started:
                task_status.started()
        finally:
            await trio.aclose_forcefully(stream)

    async def _shake_hands(
        self, stream: _WatchedStream, session_id: str | None, task_status: trio.TaskStatus[None]
    ) -> None:
        self._stream = stream
        waiting = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_ended, stream, waiting)
            with waiting:
                self._connection = await wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type] # any stream will do
                    self._options.netloc,
                    self._options.resource("websocket", session_id),
                    extra_headers=self._headers(),
                    message_queue_size=_QUEUED_MESSAGES,
                    max_message_size=self._options.max_message_bytes,
                    receive_buffer_size=_RECEIVE_BYTES,
                )
            if self._connection is None:
                self._fail("websocket error: the server ended the connection during the handshake")
            self._started = True
            task_status.started()
            await stream.ended.wait()

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(name.encode(), value.encode()) for name, value in self._options.headers.items()]
        if self._cookies:
            headers.append((b"Cookie", self._cookies.encode()))
        return headers

    def _fail(self, message: str, retry_after: float = 0.0) -> None:
        self._failure = TransportFailed(ClientReason.TRANSPORT_ERROR, message, retry_after)

    def _note(self, group: BaseExceptionGroup[Any]) -> None:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, h11.LocalProtocolError):
            while error.__context__ is not None:  # why trio-websocket would refuse the answer, and cannot
                error = error.__context__
        if not isinstance(error, ConnectionRejected):
            self._fail(f"websocket error: {explain(error)}")
            return
        headers = {bytes(name).lower(): bytes(value) for name, value in error.headers or ()}
        body = (error.body or b"").decode("utf-8", "replace")[:200]
        self._fail(
            f"websocket error: status {error.status_code} {body}".rstrip(),
            parse_retry_after(headers.get(b"retry-after")),
        )

    async def receive(self) -> list[Packet]:
        """Wait for the next packet.

        Raises:
            TransportFailed: The connection has ended, or the packet is none.
        """
        assert self._connection is not None
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as error:
            raise _closed(error.reason) from error
        if isinstance(message, bytes):
            return [Packet(PacketType.MESSAGE, message, binary=True)]
        if message.startswith(_MESSAGE):
            return [Packet(PacketType.MESSAGE, message[1:].encode())]
        packet = decode_packet(message.encode())
        if isinstance(packet, Violation):
            raise TransportFailed(ClientReason.TRANSPORT_ERROR, "server error: " + packet.text)
        return [packet]

    async def send(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages in order.

        Raises:
            TransportFailed: The connection has ended.
        """
        assert self._connection is not None
        assert self._stream is not None
        if self._connection.closed is not None:
            raise _closed(self._connection.closed)
        try:
            await self._stream.send_all(masked_frames(messages))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _closed(self._connection.closed) from error

    async def goodbye(self) -> None:
        """Close with a close frame and wait for the answer."""
        assert self._connection is not None
        await self._connection.aclose()

    def cut(self) -> None:
        """Close the connection at once."""
        self._scope.cancel()


def _closed(reason: CloseReason | None) -> TransportFailed:
    said = "" if reason is None else f" with {reason.code} {reason.reason or ''}".rstrip()
    return TransportFailed(ClientReason.TRANSPORT_CLOSE, f"the connection was closed{said}")


async def _cancel_when_ended(stream: _WatchedStream, waiting: trio.CancelScope) -> None:
    await stream.ended.wait()
    waiting.cancel()


async def open_stream(options: ClientOptions) -> trio.abc.Stream:
    """Open what a WebSocket runs on: by the connector or the proxy if there is one, with TLS if asked for.

    Raises:
        OSError: Nobody answers, or the proxy refuses.
        trio.BrokenResourceError: The TLS handshake failed.
    """
    stream: trio.abc.Stream
    if options.connector is not None:
        stream = await options.connector(options.host, options.port)
    elif options.proxy is None:
        stream = await trio.open_tcp_stream(options.host, options.port)
    else:
        stream = await open_tunnel(options.proxy, options.host, options.port)
    if not options.secure:
        return stream
    context = options.ssl_context or ssl.create_default_context()
    secured: trio.SSLStream[Any] = trio.SSLStream(
        stream, context, server_hostname=options.host, https_compatible=True
    )
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured
