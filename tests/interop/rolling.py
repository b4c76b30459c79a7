"""The application that is restarted under load: it answers numbered events, and writes down each of them."""

from __future__ import annotations

import os

import trio

from broker import Broker, Socket

WORK_TIME = 0.01  # seconds; long enough that there are always handlers at work when a drain begins

broker = Broker(ping_interval=25.0)


@broker.on("work", concurrency=4)
async def work(socket: Socket, client: str, number: int) -> list[object]:
    """Do something that cannot be undone, and then something that takes a moment; answer."""
    # One write of one line: lines of several processes do not mix.
    record = os.open(os.environ["ROLLING_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(record, f"{client} {number}\n".encode())
    os.close(record)
    await trio.sleep(WORK_TIME)
    return [client, number]
