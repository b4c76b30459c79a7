"""The broker as an ASGI application: long-polling, WebSocket, client files, the user's own application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from broker.flow.errors import NotRunning
from broker.flow.request import HttpRequest, Opening
from broker.sessions.engine import Engine
from broker.sessions.session import Session
from broker.transports.message_websocket import ASGIWebSocket
from broker.transports.polling import Flight
from protocol import Refused
from protocol.http_head import Header, choose_subprotocol
from protocol.jsontext import dump

from .admission import Admission, refusal_headers
from .carriers import run_websocket
from .engine_hooks import HttpResponse
from .forwarding import forward_http
from .forwarding_websocket import forward_websocket
from .health import answer_health
from .neighbours import Neighbours
from .peers import HOP, Elsewhere
from .polling_http import PollingHttp
from .routing import client_file, is_engine_path, wants_base64
from .static_client import StaticClient

_PIECE_BYTES = 65_536  # of a body; a client that takes one is alive

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[Scope, Receive, Send, ASGIApp | None], Awaitable[None]]


class BrokerASGI:
    """The ASGI application of a broker.

    Args:
        engine: The broker's engine.
        admission: Decides on each request.
        client: The browser client; None serves none.
        app: Takes every request that is not the engine's; None answers 404.
        lifespan: Serves the lifespan scope.
        neighbours: The other processes of the same server, if there are any.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        client: StaticClient | None,
        app: ASGIApp | None,
        lifespan: Lifespan,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._client = client
        self._app = app
        self._lifespan = lifespan
        self._polling = PollingHttp(engine, admission)
        self._neighbours = neighbours
        self._open_requests = 0
        self._answered = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send, self._app)
        elif not is_engine_path(self._engine.settings, _path(scope)):
            await self._other(scope, receive, send)
        elif scope["type"] == "websocket":
            if not await self._forward_websocket(scope, receive, send):
                await self._websocket(scope, receive, send)
        else:
            self._open_requests += 1
            try:
                if not await self._forward_http(scope, receive, send):
                    await self._http(_request(scope, self), receive, send)
            finally:
                self._open_requests -= 1
                self._answered.set()

    async def wait_answered(self) -> None:
        """Wait until every request to the engine has its answer."""
        while self._open_requests:
            self._answered = trio.Event()
            await self._answered.wait()

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await _respond(send, HttpResponse(404, b"Not found\n", (("Content-Type", "text/plain"),)))

    async def _forward_http(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Have the process answer that holds the session; return whether that is another, and is there."""
        owner = self._owner_elsewhere(scope)
        answer = None if owner is None else await forward_http(self._engine, owner, scope, receive)
        if isinstance(answer, Refused):
            request = _request(scope, self)
            self._admission.hooks.refused(request, answer)
            await _respond(send, refusal_response(answer), self._admission.answer_headers(request))
        elif answer is not None:
            await _respond(send, answer)
        return answer is not None

    async def _forward_websocket(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Have the process serve that holds the session; return whether that is another, and is there."""
        owner = self._owner_elsewhere(scope)
        return owner is not None and await forward_websocket(self._engine, owner, scope, receive, send)

    def _owner_elsewhere(self, scope: Scope) -> Elsewhere | None:
        if self._neighbours is None:
            return None
        hopped = any(name == HOP.encode() for name, _ in scope["headers"])
        return self._neighbours.owner_elsewhere(scope["query_string"].decode("latin-1"), hopped=hopped)

    async def _http(self, request: HttpRequest, receive: Receive, send: Send) -> None:
        name = client_file(self._engine.settings, request.path)
        response = await answer_health(self._engine, request, name) or self._static(request, name)
        initial = False
        if response is None:
            target = await self._admission.admit(request)
            initial = isinstance(target, Opening)
            response = target if isinstance(target, HttpResponse) else None
            if isinstance(target, Refused):
                response = refusal_response(target)
            elif isinstance(target, (Session, Opening)):
                response = await self._serve_polling(request, target, receive)
        assert response is not None
        await _respond(send, response, self._admission.answer_headers(request, initial=initial))

    def _static(self, request: HttpRequest, name: str | None) -> HttpResponse | None:
        return None if self._client is None or name is None else self._client.answer(request, name)

    async def _serve_polling(
        self, request: HttpRequest, target: Session | Opening, receive: Receive
    ) -> HttpResponse:
        try:
            outcome = await self._polling.answer(request, target, receive)
        except NotRunning:
            return HttpResponse(503, b"The broker is not running.\n", (("Content-Type", "text/plain"),))
        if isinstance(outcome, Refused):
            self._admission.hooks.refused(request, outcome)
            return refusal_response(outcome)
        return outcome

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request(scope, self)
        await receive()  # websocket.connect
        target, session_id = await self._admission.admit_websocket(request)
        headers = self._admission.answer_headers(request, initial=isinstance(target, Opening))
        if isinstance(target, Refused):
            target = refusal_response(target)
        if isinstance(target, HttpResponse):
            await _deny(send, target, headers)
            return
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": choose_subprotocol(scope.get("subprotocols", ())),
                "headers": _encode_headers(headers),
            }
        )
        transport = ASGIWebSocket(
            receive,
            send,
            self._engine.settings.max_payload_bytes,
            self._engine.limits,
            wants_base64(request),
        )
        await run_websocket(self._engine, target, session_id, transport)


def refusal_response(refused: Refused) -> HttpResponse:
    """Turn a refusal into an answer. Spec: EIO-ERR-2."""
    return HttpResponse(refused.refusal.status, dump(refused.body), refusal_headers(refused))


def _path(scope: Scope) -> str:
    """Return the path, without scheme and host if a proxy sent them. Spec: EIO-HTTP-1."""
    path: str = scope["path"]
    if path.startswith("/"):
        return path
    return "/" + path.partition("://")[2].partition("/")[2]


def _request(scope: Scope, door: BrokerASGI) -> HttpRequest:
    client = scope.get("client")
    return HttpRequest(
        method=scope.get("method", "GET"),
        path=_path(scope),
        query_string=scope["query_string"].decode("latin-1"),
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
        address=client[0] if client else "",
        secure=scope.get("scheme") in ("https", "wss"),
        websocket=scope["type"] == "websocket",
        door=door,
    )


def _encode_headers(headers: tuple[Header, ...]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _respond(send: Send, response: HttpResponse, more: tuple[Header, ...] = ()) -> None:
    headers = (*response.headers, *more)
    if response.status != 304:
        headers += (("Content-Length", str(len(response.body))),)
    try:
        await send(
            {"type": "http.response.start", "status": response.status, "headers": _encode_headers(headers)}
        )
        await _send_body(send, response.body, response.flight)
    finally:
        if response.flight is not None:
            response.flight.fail()


async def _send_body(send: Send, body: bytes, flight: Flight | None) -> None:
    """Send a body in pieces, so that a long one shows whether the client takes it. Spec: EIO-HB-9."""
    start = 0
    while len(body) - start > _PIECE_BYTES:
        await send(
            {"type": "http.response.body", "body": body[start : start + _PIECE_BYTES], "more_body": True}
        )
        start += _PIECE_BYTES
        if flight is not None:
            flight.move()
    await send({"type": "http.response.body", "body": body[start:] if start else body})
    if flight is not None:
        flight.land()


async def _deny(send: Send, response: HttpResponse, more: tuple[Header, ...]) -> None:
    """Refuse a WebSocket with an HTTP answer. Spec: EIO-ERR-3."""
    headers = (*response.headers, *more, ("Content-Length", str(len(response.body))))
    await send(
        {
            "type": "websocket.http.response.start",
            "status": response.status,
            "headers": _encode_headers(headers),
        }
    )
    await send({"type": "websocket.http.response.body", "body": response.body})
