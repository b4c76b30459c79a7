"""Serve the benchmark's two events with this broker: ``python -m bench.servers.ours PORT``."""

from __future__ import annotations

import sys
from typing import Any

import trio

from broker import Broker, Socket

broker = Broker(transports=("websocket",))


@broker.on("echo")
async def echo(socket: Socket, data: Any) -> Any:  # noqa: ASYNC124 - a handler that needs not wait
    return data


@broker.on("pub")
async def pub(socket: Socket, data: Any) -> None:  # noqa: ASYNC124 - likewise
    broker.emit("msg", data)


if __name__ == "__main__":
    trio.run(broker.serve, "127.0.0.1", int(sys.argv[1]))
