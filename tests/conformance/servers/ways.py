"""What each way to serve this broker offers to the kit, and which cases something else decides there."""

from __future__ import annotations

HTTP_CASES = (
    "http/malformed",
    "limit/head",
    "limit/too-many-headers",
    "limit/slow-head",
    "websocket/bad-opening",
)
FRAME_CASES = (
    "websocket/bad-frame",
    "websocket/too-big",
    "websocket/too-many-fragments",
    "websocket/good-before-bad",
    "websocket/abrupt-end",
    "websocket/close-answered",
    "websocket/no-extension",
    "limit/begun-message",
    "limit/rate/exceeded/control-frames",
    "close/timeout-websocket",
    "vector/frames",
)
HANDSHAKE_CASES = (
    "http/",
    "refusal/",
    "handshake/",
    "origin/",
    "cors/",
    "cookie/",
    "vector/handshake/",
    "websocket/subprotocol",
)
SEEN_BY_WEBSOCKET_SERVER = (
    "open/known-at-once-websocket",
    "heartbeat/life/ping-frame",
    "heartbeat/life/pong-frame",
    "close/unknown-afterwards",
    *(f"vector/refuse/{name}-not-utf8" for name in ("namespace", "event", "type", "count")),
    "vector/refuse/event-surrogate-in-utf8",
)
TRANSPORTS = {
    "native": ("polling", "websocket"),
    "asgi": ("polling", "websocket"),
    "websockets": ("websocket",),
}
ELSEWHERE = {
    "native": {},
    # Bytes right behind a WebSocket handshake end hypercorn 0.18 itself, and nobody can tell it how much of a
    # response may wait in the kernel.
    "asgi": dict.fromkeys(
        (
            *HTTP_CASES,
            *FRAME_CASES,
            *SEEN_BY_WEBSOCKET_SERVER,
            "upgrade/all-in-one-piece",
            "heartbeat/large-message/polling",
        ),
        "hypercorn",
    ),
    "websockets": dict.fromkeys(
        HTTP_CASES + FRAME_CASES + HANDSHAKE_CASES + SEEN_BY_WEBSOCKET_SERVER,
        "the application's WebSocket server",
    ),
}
