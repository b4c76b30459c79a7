"""Serve the benchmark's two events with python-socketio on uvicorn and uvloop."""

from __future__ import annotations

import sys
from typing import Any

import socketio
import uvicorn

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])


@server.on("echo")
async def echo(sid: str, data: Any) -> Any:  # noqa: ASYNC124 - a handler that needs not wait
    return data


@server.on("pub")
async def pub(sid: str, data: Any) -> None:
    await server.emit("msg", data)


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        # Engine.IO has its own heartbeat, and the load generator offers no compression.
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )
