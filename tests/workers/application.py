"""The broker that the processes of these tests serve."""

from __future__ import annotations

import os
import time
from typing import Any

from broker import Broker

broker = Broker(serve_client=False)


@broker.on("connect")
async def connect(socket: Any) -> None:
    socket.join("all")


@broker.on("echo")
async def echo(socket: Any, *args: Any) -> tuple[Any, ...]:
    return args


@broker.on("pid")
async def pid(socket: Any) -> int:
    return os.getpid()


@broker.on("shout")
async def shout(socket: Any, *args: Any) -> None:
    broker.to("all").emit("shout", *args)


@broker.on("count")
async def count(socket: Any) -> int:
    return len(await broker.fetch_sockets())


@broker.on("hang")
def hang(socket: Any) -> None:
    time.sleep(3600)
