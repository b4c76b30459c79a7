"""One node of a cluster: start it several times, with the same Redis.

python -m broker serve examples.cluster.app:broker --bind 127.0.0.1:3001
"""

from __future__ import annotations

import os
from typing import Any

from broker import Broker, Gap, RedisAdapter, Socket

NAME = os.environ.get("NODE_NAME", "a node")
adapter = RedisAdapter(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
broker = Broker(adapter=adapter, cors_allowed_origins="*")


@broker.on("join")
def join(socket: Socket, room: str) -> None:
    socket.join(room)


@broker.on("say")
def say(socket: Socket, room: str, text: str) -> dict[str, Any]:
    """Tell everyone in the room, wherever they are; say so if the other nodes cannot be told."""
    result = socket.to(room).emit("said", text)
    return {"here": result.queued, "everywhere": not result.unpublished}


@broker.on("who")
async def who(socket: Socket, room: str) -> dict[str, Any]:
    """Tell who is in a room, on all nodes."""
    found = await broker.in_(room).fetch_sockets()
    return {"ids": [one.id for one in found], "silent nodes": list(found.silent)}


@broker.on_server_event("status")
def status() -> dict[str, Any]:
    """Tell another node how this one is."""
    return {"node": NAME, "sessions": broker.statistics().sessions}


@broker.on("nodes")
async def nodes(socket: Socket) -> list[Any]:
    """Ask every other node how it is."""
    return [status(), *await broker.server_side_emit("status", timeout=2.0)]


@broker.on_gap
def gap(gap: Gap) -> None:
    """Let clients fetch anew what they may have missed."""
    if not gap.replayed:
        broker.local.emit("reload")
