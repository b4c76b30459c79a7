"""Forwards a WebSocket to the process that holds its session, when hypercorn has the connection already.

That is rare: a proxy which asks for a WebSocket on a connection that has carried requests before.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    DisconnectionTimeout,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from broker.sessions.engine import Engine
from protocol import CloseCode

from .forwarding import address_of, target_of
from .peers import Elsewhere

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_OWN_HEADERS = (b"host", b"connection", b"upgrade", b"sec-websocket-", b"keep-alive")
_NOT_RETURNED = (b"connection", b"upgrade", b"sec-websocket-", b"date", b"transfer-encoding")
_QUEUE = 1  # messages: who does not read holds the other back


async def forward_websocket(
    engine: Engine, owner: Elsewhere, scope: Scope, receive: Receive, send: Send
) -> bool:
    """Carry a WebSocket's messages between its client and the owner of its session, until either closes.

    Args:
        engine: The engine of this process.
        owner: The process that holds the session.
        scope: ASGI's scope of the request.
        receive: ASGI's receive.
        send: ASGI's send.

    Returns:
        Whether the owner was there; nothing has been received or sent if not.

    Cancellation closes both sides.
    """
    secure = scope.get("scheme") in ("https", "wss")
    stream = await owner.open_stream(address_of(scope), secure=secure)
    if stream is None:
        return False
    rejections: list[ConnectionRejected] = []
    async with stream:
        await receive()  # websocket.connect
        try:
            await _carry(
                engine, stream, {**scope, "headers": [*scope["headers"], *owner.headers]}, receive, send
            )
        except* ConnectionRejected as group:
            rejections += [one for one in group.exceptions if isinstance(one, ConnectionRejected)]
        except* (HandshakeError, trio.TooSlowError, trio.BrokenResourceError) as group:
            logger.debug("the owner of a session took no WebSocket: %r", group)
            await send({"type": "websocket.close", "code": int(CloseCode.TRY_LATER)})
    for rejection in rejections:
        await _deny(rejection, send)
    return True


async def _carry(
    engine: Engine, stream: trio.SocketStream, scope: Scope, receive: Receive, send: Send
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(engine.limits.header_timeout):
            websocket = await _shake_hands(nursery, engine, stream, scope)
        headers = [one for one in websocket.handshake_headers if not one[0].startswith(_NOT_RETURNED)]
        await send({"type": "websocket.accept", "subprotocol": websocket.subprotocol, "headers": headers})
        nursery.start_soon(_carry_to_owner, websocket, receive, engine.limits.write_timeout)
        await _carry_to_client(websocket, send)
        nursery.cancel_scope.cancel()


async def _shake_hands(
    nursery: trio.Nursery, engine: Engine, stream: trio.SocketStream, scope: Scope
) -> WebSocketConnection:
    """Repeat the handshake to the owner; its refusal is raised in the nursery."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return await wrap_client_stream(
        nursery,
        stream,
        host.decode("latin-1"),
        target_of(scope).decode("latin-1"),
        subprotocols=scope.get("subprotocols"),
        extra_headers=[one for one in scope["headers"] if not one[0].startswith(_OWN_HEADERS)],
        message_queue_size=_QUEUE,
        max_message_size=engine.limits.outbox_hard_bytes + engine.settings.max_payload_bytes,
    )


async def _deny(rejected: ConnectionRejected, send: Send) -> None:
    """Pass on the answer of an owner that refuses. Spec: EIO-ERR-3."""
    headers = [one for one in rejected.headers or () if not one[0].startswith(_NOT_RETURNED)]
    await send({"type": "websocket.http.response.start", "status": rejected.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": rejected.body or b""})


async def _carry_to_owner(websocket: WebSocketConnection, receive: Receive, write_timeout: float) -> None:
    try:
        while (event := await receive())["type"] == "websocket.receive":
            text = event.get("text")
            with trio.fail_after(write_timeout):
                await websocket.send_message(event["bytes"] if text is None else text)
        await websocket.aclose(event.get("code", CloseCode.NORMAL))
    except (ConnectionClosed, DisconnectionTimeout, trio.TooSlowError) as error:
        logger.debug("a forwarded WebSocket ended: %r", error)
        await trio.aclose_forcefully(websocket)


async def _carry_to_client(websocket: WebSocketConnection, send: Send) -> None:
    try:
        while True:
            message = await websocket.get_message()
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed as closed:
        reason = closed.reason
        code = CloseCode.INTERNAL if reason is None or reason.code == 1006 else reason.code
        text = "" if reason is None else reason.reason or ""
        await send({"type": "websocket.close", "code": int(code), "reason": text})
