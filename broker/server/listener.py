"""Accepts connections, reads the request head, keeps our WebSockets and hands the rest to hypercorn."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from broker.flow.errors import NotRunning
from broker.flow.isolation import without_failure
from broker.flow.request import HttpRequest, Opening
from broker.sessions.engine import Engine
from broker.transports.socket_websocket import SocketWebSocket
from broker.transports.stream_websocket import StreamWebSocket
from broker.transports.tcp_progress import under_tls
from protocol import Refusal, Refused
from protocol.http_head import (
    HEAD_END,
    Header,
    RequestHead,
    accept_websocket,
    build_refusal,
    build_response,
    parse_head,
)

from .addresses import OUT_OF_FILES, PAUSE_WITHOUT_FILES
from .admission import Admission, refusal_headers
from .carriers import run_websocket
from .engine_hooks import HttpResponse
from .hosting import HttpHost
from .neighbours import Neighbours
from .peers import HOP, Elsewhere
from .replay import replay
from .routing import is_engine_path, wants_base64

logger = logging.getLogger(__name__)

_ACCEPT_BATCH = 64
_RECEIVE_BYTES = 65_536


class Listener:
    """Serves the connections of one broker.

    Args:
        engine: The broker's engine.
        admission: Decides on WebSocket handshakes.
        host: Serves everything that is no WebSocket of ours.
        door: What the requests that it takes itself are marked with; see `HttpRequest.door`.
        ssl_context: For TLS; None serves plain connections.
        neighbours: The other processes of the same server, if there are any.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        host: HttpHost,
        ssl_context: ssl.SSLContext | None,
        door: object = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._host = host
        self._ssl_context = ssl_context
        self._door = door
        self._neighbours = neighbours

    async def accept_all(self, listening: Sequence[socket.socket]) -> None:
        """Accept on all of these until cancelled, and take over what neighbours pass on."""
        async with trio.open_nursery() as nursery:
            if self._neighbours is not None:
                await nursery.start(self._neighbours.accept, self)
            for one in listening:
                nursery.start_soon(self.accept, one)

    async def accept(self, listening: socket.socket) -> None:
        """Accept until cancelled; each connection is a task of this one's nursery."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listening)
                try:
                    for _ in range(_ACCEPT_BATCH):
                        accepted, address = listening.accept()
                        nursery.start_soon(self._serve_accepted, accepted, address)
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno in OUT_OF_FILES:
                        logger.warning("cannot accept: %s; sessions that are there go on", error)
                        await trio.sleep(PAUSE_WITHOUT_FILES)

    async def _serve_accepted(self, accepted: socket.socket, address: object) -> None:
        if accepted.family != getattr(socket, "AF_UNIX", None):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.serve_socket(accepted, str(address[0]) if isinstance(address, tuple) and address else "")

    async def serve_socket(self, accepted: socket.socket, peer: str, data: bytes = b"") -> None:
        """Serve one connection until it closes; it is closed then.

        Args:
            accepted: Its socket.
            peer: Address of the client.
            data: What a neighbour had read of it before it was passed on, always without TLS; empty if
                it has just been accepted.
        """
        accepted.setblocking(False)
        # One connection must not take the others with it. `isolated` would weigh half a KiB in each of them.
        try:
            if data or self._ssl_context is None:
                await self._serve_plain(accepted, peer, data)
            else:
                await self._serve_tls(accepted, peer, self._ssl_context)
        except Exception as error:
            _note_failed(error)
        except BaseExceptionGroup as group:
            raise without_failure(group, _note_failed) from None
        finally:
            if accepted.fileno() >= 0:
                trio.lowlevel.notify_closing(accepted)
                accepted.close()

    # Plain sockets

    async def _serve_plain(self, accepted: socket.socket, peer: str, data: bytes) -> None:
        reader = _SocketReader(accepted)
        data, head = await self._read_head(reader, data)
        if isinstance(head, Refused):
            await self._refuse_head(reader, head)
            return
        owner = self._owner_elsewhere(head)
        if owner is not None and await owner.take_socket(accepted, data, peer):
            return
        if head is not None and self._is_ours(head):
            await self._serve_head(head, data, reader, peer)
        elif head is not None:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
            await self._host.serve(replay(stream, data, self._engine.limits, secure=False))

    # Streams

    async def _serve_tls(self, accepted: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        crowded = self._check_crowd()
        if crowded is not None:
            self._count(crowded)  # before the handshake of TLS there is no way to say so
            return
        stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(accepted)),
            context,
            server_side=True,
            https_compatible=True,
        )
        try:
            with self._half_open(), trio.fail_after(self._engine.limits.header_timeout):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            logger.debug("TLS handshake failed: %r", error)
            await trio.aclose_forcefully(stream)
            return
        await self._serve_any(stream, peer, secure=True)

    async def serve_stream(
        self, stream: trio.abc.Stream, peer: str = "", *, secure: bool | None = None
    ) -> None:
        """Serve one connection until it closes; it is closed then.

        Args:
            stream: A stream of the application's own, or one that a neighbour passes on.
            peer: Address of the client.
            secure: Whether the client came over TLS; None looks at the stream.
        """
        secure = isinstance(stream, trio.SSLStream) if secure is None else secure
        try:
            await self._serve_any(stream, peer, secure=secure)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            logger.debug("connection ended: %r", error)

    async def _serve_any(self, stream: trio.abc.Stream, peer: str, *, secure: bool) -> None:
        reader = _StreamReader(stream, secure=secure)
        try:
            data, head = await self._read_head(reader)
            if isinstance(head, Refused):
                await self._refuse_head(reader, head)
                return
            owner = self._owner_elsewhere(head)
            if owner is not None and await owner.take_stream(stream, data, peer, secure=secure):
                return
            if head is not None and self._is_ours(head):
                await self._serve_head(head, data, reader, peer)
            elif head is not None:
                await self._host.serve(replay(stream, data, self._engine.limits, secure=secure))
        finally:
            await trio.aclose_forcefully(stream)

    # Neighbours

    def _owner_elsewhere(self, head: RequestHead | None) -> Elsewhere | None:
        """Return who holds the session of a request, if it is another that can be asked."""
        if self._neighbours is None or head is None or not is_engine_path(self._engine.settings, head.path):
            return None
        return self._neighbours.owner_elsewhere(head.query, hopped=head.header(HOP) is not None)

    # Both

    async def _read_head(
        self, reader: _Reader, before: bytes = b""
    ) -> tuple[bytes, RequestHead | Refused | None]:
        """Read up to the end of the request head, within its bounds. Spec: LIM-2, EIO-HTTP-5.

        Returns:
            All that was read, with the head, why it is refused, or None if the peer sent nothing whole.
        """
        limits = self._engine.limits
        crowded = self._check_crowd()
        if crowded is not None:
            return b"", crowded
        data = bytearray(before)
        with self._half_open(), trio.move_on_after(limits.header_timeout):
            while (end := data.find(HEAD_END)) < 0 and len(data) <= limits.header_bytes:
                more = await reader.receive()
                if not more:
                    return b"", None
                data += more
            if not 0 <= end <= limits.header_bytes:
                too_large = f"a head is {limits.header_bytes} bytes at most"
                return b"", Refused(Refusal.HEAD_TOO_LARGE, too_large)
            return bytes(data), parse_head(bytes(data[: end + len(HEAD_END)]), limits)
        if not data:
            return b"", None
        return b"", Refused(Refusal.REQUEST_TIMEOUT, "the request head did not arrive in time")

    def _check_crowd(self) -> Refused | None:
        if self._engine.handshakes < self._engine.limits.handshakes:
            return None
        return Refused(Refusal.OVERLOADED, "too many handshakes at once", rule="TOO_MANY_HANDSHAKES")

    @contextmanager
    def _half_open(self) -> Iterator[None]:
        self._engine.handshakes += 1
        try:
            yield
        finally:
            self._engine.handshakes -= 1

    async def _refuse_head(self, reader: _Reader, refused: Refused) -> None:
        self._count(refused)
        await self._refuse(reader, refused, ())

    def _count(self, refused: Refused) -> None:
        self._engine.counters.refusals[refused.rule or refused.refusal.name] += 1

    def _is_ours(self, head: RequestHead) -> bool:
        """Tell whether it asks for a WebSocket on our path."""
        return head.wants_websocket and is_engine_path(self._engine.settings, head.path)

    async def _answer(self, reader: _Reader, answer: bytes) -> None:
        """Send the last answer of a connection, so that unread input does not destroy it on its way."""
        with trio.move_on_after(self._engine.limits.close_timeout):
            await reader.send(answer)
            await reader.linger()

    async def _serve_head(self, head: RequestHead, data: bytes, reader: _Reader, peer: str) -> None:
        request = HttpRequest(
            method=head.method,
            path=head.path,
            query_string=head.query,
            headers=head.headers,
            address=peer,
            secure=reader.secure,
            websocket=True,
            door=self._door,
        )
        target, session_id = await self._admission.admit_websocket(request)
        headers = self._admission.answer_headers(request, initial=isinstance(target, Opening))
        if isinstance(target, HttpResponse):
            whole = build_response(target.status, target.body, (*target.headers, *headers))
            await self._answer(reader, whole)
            return
        end = data.find(HEAD_END) + len(HEAD_END)
        if isinstance(target, Refused):
            await self._refuse(reader, target, headers)
            return
        answer = accept_websocket(data[:end], headers)
        if isinstance(answer, Refused):
            self._admission.hooks.refused(request, answer)
            await self._refuse(reader, answer, headers)
            return
        await reader.send(answer)
        transport = reader.websocket(data[end:], self._engine, base64=wants_base64(request))
        try:
            await run_websocket(self._engine, target, session_id, transport)
        except NotRunning as error:
            logger.error("%s", error)

    async def _refuse(self, reader: _Reader, refused: Refused, headers: tuple[Header, ...]) -> None:
        more = tuple(header for header in refusal_headers(refused) if header[0] == "Retry-After")
        await self._answer(reader, build_refusal(refused, (*more, *headers)))


def _note_failed(error: Exception) -> None:
    if isinstance(error, (OSError, trio.BrokenResourceError, trio.ClosedResourceError)):
        logger.debug("connection ended: %r", error)
    else:
        logger.error("connection failed", exc_info=error)


class _SocketReader:
    """Reads and answers a handshake on a plain socket."""

    secure = False

    def __init__(self, accepted: socket.socket) -> None:
        self._socket = accepted

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                continue

    async def send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def linger(self) -> None:
        """Stop sending, and read on until the peer has closed."""
        self._socket.shutdown(socket.SHUT_WR)
        while await self.receive():
            pass

    def websocket(self, rest: bytes, engine: Engine, *, base64: bool) -> SocketWebSocket:
        bound = engine.settings.max_payload_bytes
        return SocketWebSocket(self._socket, rest, bound, engine.limits, base64, engine.writer)


class _StreamReader:
    """Reads and answers a handshake on a stream."""

    def __init__(self, stream: trio.abc.Stream, *, secure: bool) -> None:
        self._stream = stream
        self.secure = secure

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_RECEIVE_BYTES))

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def linger(self) -> None:
        """Stop sending, and read on until the peer has closed; on a stream that can be half closed."""
        stream = under_tls(self._stream)
        if not isinstance(stream, trio.abc.HalfCloseableStream):
            return
        await stream.send_eof()
        while await stream.receive_some(_RECEIVE_BYTES):
            pass

    def websocket(self, rest: bytes, engine: Engine, *, base64: bool) -> StreamWebSocket:
        return StreamWebSocket(self._stream, rest, engine.settings.max_payload_bytes, engine.limits, base64)


_Reader = _SocketReader | _StreamReader
