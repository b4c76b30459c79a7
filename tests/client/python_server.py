"""The server that the client's tests run on python-socketio: says its port."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import socketio
import uvicorn

given = json.loads(sys.argv[1])
if "parser" in given["options"]:
    given["options"]["serializer"] = given["options"].pop("parser")
server = socketio.AsyncServer(async_mode="asgi", cookie="sticky", **given["options"])


def behave(namespace: str) -> None:
    def on(name: str) -> Any:
        return server.on(name, namespace=namespace)

    @on("echo")
    async def echo(sid: str, *args: Any) -> Any:
        return args[0] if len(args) == 1 else args

    @on("say")
    async def say(sid: str, *args: Any) -> None:
        await server.emit("said", args, to=sid, namespace=namespace)

    @on("ask")
    async def ask(sid: str, value: Any) -> None:
        async def answered(*values: Any) -> None:
            await server.emit("answered", values, to=sid, namespace=namespace)

        await server.emit("question", value, to=sid, namespace=namespace, callback=answered)

    @on("leave")
    async def leave(sid: str) -> None:
        await server.disconnect(sid, namespace=namespace)

    @on("handshake")
    async def handshake(sid: str) -> Any:
        return [server.get_session and (await server.get_session(sid, namespace=namespace))]


behave("/")
behave("/chat")


@server.on("connect", namespace="/chat")
async def connect(sid: str, environ: Any, auth: Any = None) -> None:
    if (auth or {}).get("token") != "s3cret":
        raise socketio.exceptions.ConnectionRefusedError("invalid token", {"retry": False})


@server.on("record")
async def record(sid: str, value: Any) -> Any:
    with Path(given["record"]).open("a") as file:  # noqa: ASYNC230 - one short line
        file.write(f"{value}\n")
    return value


class Announced(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


if __name__ == "__main__":
    config = uvicorn.Config(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=given["port"],
        log_level="critical",
        ws="websockets-sansio",
    )
    asyncio.run(Announced(config).serve())
