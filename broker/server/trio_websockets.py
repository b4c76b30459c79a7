"""Serves what a trio-websocket server hands over: a request, or a connection that it has accepted itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest

from broker.flow.request import HttpRequest, Opening
from broker.sessions.engine import Engine
from broker.transports.message_websocket import TrioWebSocket
from protocol import CloseCode, Refused
from protocol.http_head import Header, choose_subprotocol

from .admission import Admission
from .asgi import refusal_response
from .carriers import run_websocket
from .engine_hooks import HttpResponse
from .routing import wants_base64

logger = logging.getLogger(__name__)

_REASON_BYTES = 123  # what fits a close frame


async def serve_trio_websocket(
    engine: Engine, admission: Admission, websocket: WebSocketConnection | WebSocketRequest
) -> None:
    """Admit and serve one WebSocket; see `Broker.handle_websocket`."""
    if isinstance(websocket, WebSocketRequest):
        request = _describe(websocket, websocket.headers)
    else:
        request = _describe(websocket, websocket.handshake_headers)
    target, session_id = await admission.admit_websocket(request)
    headers = admission.answer_headers(request, initial=isinstance(target, Opening))
    try:
        if isinstance(target, (Refused, HttpResponse)):
            with trio.move_on_after(engine.limits.close_timeout):
                await _refuse(websocket, target, headers)
            return
        if isinstance(websocket, WebSocketRequest):
            subprotocol = choose_subprotocol(websocket.proposed_subprotocols)
            websocket = await websocket.accept(subprotocol=subprotocol, extra_headers=_encode(headers))
    except ConnectionClosed as closed:
        logger.debug("a client left before it was answered: %r", closed)
        return
    limit = engine.settings.max_payload_bytes
    transport = TrioWebSocket(websocket, limit, engine.limits, wants_base64(request))
    await run_websocket(engine, target, session_id, transport)


async def _refuse(
    websocket: WebSocketConnection | WebSocketRequest,
    target: Refused | HttpResponse,
    headers: tuple[Header, ...],
) -> None:
    """Refuse with an HTTP answer, or with a close frame if the handshake is over. Spec: EIO-ERR-3."""
    if isinstance(websocket, WebSocketRequest):
        response = refusal_response(target) if isinstance(target, Refused) else target
        more = _encode((*response.headers, *headers))
        await websocket.reject(response.status, extra_headers=more, body=response.body)
        return
    text = (target.detail or target.refusal.message) if isinstance(target, Refused) else "refused"
    reason = text.encode()[:_REASON_BYTES].decode(errors="ignore")
    await websocket.aclose(code=CloseCode.POLICY, reason=reason)


def _describe(
    websocket: WebSocketConnection | WebSocketRequest, headers: Iterable[tuple[bytes, bytes]]
) -> HttpRequest:
    path, _, query = (websocket.path or "").partition("?")
    try:
        remote: Any = websocket.remote
    except (OSError, ValueError):  # it is gone already, or it came over a Unix socket
        remote = None
    return HttpRequest(
        method="GET",
        path=path,
        query_string=query,
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers),
        address=str(getattr(remote, "address", "")),
        secure=getattr(remote, "is_ssl", False),
        websocket=True,
    )


def _encode(headers: tuple[Header, ...]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
