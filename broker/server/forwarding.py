"""Forwards one request to the process that holds its session, when the connection is hypercorn's already.

A connection that stays open carries requests of whoever is behind it, such as all clients of a proxy: it
cannot be passed on as a whole. The owner serves the request as if it had come to itself, and decides on
everything.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import h11
import trio

from broker.sessions.engine import Engine
from protocol import Refusal, Refused

from .engine_hooks import HttpResponse
from .peers import Elsewhere

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
RawHeaders = list[tuple[bytes, bytes]]

_RECEIVE_BYTES = 65_536
# What belongs to one connection, not to the request; `date` is written anew.
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"expect"})
_NOT_RETURNED = _HOP_BY_HOP | {b"transfer-encoding", b"content-length", b"date"}


def target_of(scope: Scope) -> bytes:
    """Return path and query of a request as they came."""
    path: bytes = scope.get("raw_path") or scope["path"].encode("latin-1")
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def address_of(scope: Scope) -> str:
    """Return the address of the client; empty if it has none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def forward_http(
    engine: Engine, owner: Elsewhere, scope: Scope, receive: Receive
) -> HttpResponse | Refused | None:
    """Have the owner of a session answer a request.

    Args:
        engine: The engine of this process.
        owner: The process that holds the session.
        scope: ASGI's scope of the request.
        receive: ASGI's receive.

    Returns:
        Its answer; a refusal if it does not come; None if the owner is not there, nor its sessions then.

    Cancellation gives the request up, which the owner notices.
    """
    stream = await owner.open_stream(address_of(scope), secure=scope.get("scheme") == "https")
    if stream is None:
        return None
    async with stream:
        exchange = _Exchange(stream, scope, receive, owner.headers)
        # A poll is answered with a ping at the latest.
        settings = engine.settings
        patience = settings.ping_interval + settings.ping_timeout + engine.limits.body_timeout
        with trio.move_on_after(patience):
            return await exchange.run()
        return Refused(
            Refusal.OWNER_SILENT, f"process or node {owner.number} holds the session and does not answer"
        )


class _Exchange:
    """One request and its answer, over a stream to the owner."""

    def __init__(
        self, stream: trio.abc.Stream, scope: Scope, receive: Receive, more: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self._stream = stream
        self._receive = receive
        self._connection = h11.Connection(h11.CLIENT)
        headers = [*_request_headers(scope["headers"]), *more]
        self._request = h11.Request(method=scope["method"], target=target_of(scope), headers=headers)

    async def run(self) -> HttpResponse | Refused:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            answer = await self._read_answer()
            nursery.cancel_scope.cancel()
        return answer

    async def _send(self) -> None:
        """Send head and body; then tell the owner if the client leaves, by closing."""
        try:
            await self._send_event(self._request)
            more = True
            while more:
                event = await self._receive()
                if event["type"] != "http.request":
                    await trio.aclose_forcefully(self._stream)
                    return
                more = event.get("more_body", False)
                await self._send_event(h11.Data(data=event.get("body", b"")))
            await self._send_event(h11.EndOfMessage())
            while (await self._receive())["type"] != "http.disconnect":
                pass
            await trio.aclose_forcefully(self._stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError) as error:
            # An owner that has answered before the body was over; the answer is read all the same.
            logger.debug("a body was not forwarded: %r", error)

    async def _send_event(self, event: h11.Event) -> None:
        data = self._connection.send(event)
        if data:
            await self._stream.send_all(data)

    async def _read_answer(self) -> HttpResponse | Refused:
        head: h11.Response | None = None
        body = bytearray()
        try:
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    self._connection.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    assert head is not None
                    return HttpResponse(head.status_code, bytes(body), _answer_headers(head.headers))
                elif not isinstance(event, h11.InformationalResponse):
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError) as error:
            logger.debug("the owner of a session ended: %r", error)
        return Refused(Refusal.SESSION_UNKNOWN)


def _request_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    kept = [(name, value) for name, value in headers if name not in _HOP_BY_HOP]
    if not any(name == b"host" for name, _ in kept):
        kept.append((b"host", b""))  # HTTP/1.0 may leave it out
    return [*kept, (b"connection", b"close")]


def _answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in _NOT_RETURNED
    )
