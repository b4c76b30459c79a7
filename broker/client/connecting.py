"""HTTP of httpx2 over connections that the application's own connector opens."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore2
import httpx2
import trio

from .options import Connector


def errors() -> tuple[type[Exception], ...]:
    """Return what a request may fail with."""
    return (
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.TimeoutException,
        httpcore2.UnsupportedProtocol,
    )


class ConnectorTransport(httpx2.AsyncBaseTransport):
    """A pool of connections that a connector opens.

    Args:
        connector: Opens one.
        ssl_context: For `https` URLs; None takes the default.
    """

    def __init__(self, connector: Connector, ssl_context: ssl.SSLContext | None) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(), network_backend=_Backend(connector)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the response with its body unread."""
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        body: AsyncIterator[bytes] = self._stream.__aiter__()
        return body

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            with _deadline(timeout, httpcore2.ConnectTimeout):
                return _Stream(await self._connector(host, port))
        except (OSError, trio.BrokenResourceError) as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            with _deadline(timeout, httpcore2.ReadTimeout):
                return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            with _deadline(timeout, httpcore2.WriteTimeout):
                await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        secured: trio.SSLStream[trio.abc.Stream] = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            with _deadline(timeout, httpcore2.ConnectTimeout):
                await secured.do_handshake()
        except trio.BrokenResourceError as error:
            raise httpcore2.ConnectError(str(error)) from error
        return _Stream(secured)

    def get_extra_info(self, info: str) -> Any:
        return None  # httpcore2 then takes the connection for alive, and asks it


class _deadline:  # noqa: N801 - reads as a function
    """Turns a timeout into the error that httpcore2 has for it."""

    def __init__(self, timeout: float | None, error: type[Exception]) -> None:
        self._scope = trio.CancelScope(
            deadline=float("inf") if timeout is None else trio.current_time() + timeout
        )
        self._error = error

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *info: Any) -> bool | None:
        caught = self._scope.__exit__(*info)
        if self._scope.cancelled_caught:
            raise self._error
        return caught
