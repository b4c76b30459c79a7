"""A scripted server: it says exactly what a test wants, over WebSocket, and notes what the client says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from broker.testing.fake_server import OPEN


class Talk:
    """One connection of the client, from the server's side."""

    def __init__(self, request: WebSocketRequest, connection: Any) -> None:
        self.path = request.path
        self.headers = {
            bytes(name).decode().lower(): bytes(value).decode() for name, value in request.headers
        }
        self._connection = connection

    async def say(self, *messages: str | bytes) -> None:
        for message in messages:
            await self._connection.send_message(message)

    async def hear(self) -> Any:
        return await self._connection.get_message()

    async def open(self, **changed: Any) -> None:
        await self.say("0" + json.dumps({**OPEN, **changed}))

    async def enter(self, sid: str = "SOCKET", **data: Any) -> dict[str, Any]:
        """Open the session and let the client into `/`; return what its CONNECT said."""
        await self.open()
        said = await self.hear()
        assert said.startswith("40"), said
        await self.say("40" + json.dumps({"sid": sid, **data}))
        return json.loads(said[2:] or "{}")

    async def close(self, code: int = 1000) -> None:
        await self._connection.aclose(code)

    async def cut(self) -> None:
        await self._connection._stream.aclose()


Script = Callable[[Talk], Awaitable[None]]


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[str]:
    """Serve each connection by the next script, the last one again and again; yields the URL."""
    left = list(scripts)
    failures: list[BaseException] = []

    async def serve(request: WebSocketRequest) -> None:
        connection = await request.accept()
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            await script(Talk(request, connection))
            while True:
                await connection.get_message()
        except ConnectionClosed:
            pass
        except Exception as error:
            failures.append(error)
            await connection.aclose(1011)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda task_status: serve_websocket(serve, "127.0.0.1", 0, None, task_status=task_status)
        )
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
