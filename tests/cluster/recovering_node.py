"""A node of its own process that recovers sessions over a stream: prints its port, ends by kill -9."""

from __future__ import annotations

import sys
from typing import Any

import trio

from broker import Broker, Recovery, RedisAdapter, Socket


def make_broker(url: str, window: float = 20.0, **options: Any) -> Broker:
    """Make a broker that puts each client in the rooms it asks for."""
    adapter = RedisAdapter(url, mode="streams", ping_interval=0.2, ping_timeout=0.6)
    broker = Broker(adapter=adapter, recovery=Recovery(window=window), **options)

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        if not socket.recovered:
            socket.join("all")

    @broker.on("name")
    def name(socket: Socket, value: Any) -> str:
        socket.data["name"] = value
        socket.emit("hello", value)
        return "named"

    return broker


async def main(url: str, port: int) -> None:
    """Serve until killed."""
    broker = make_broker(url)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(lambda task_status: broker.serve(port=port, task_status=task_status))
        print(server.url, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
