"""Figure: a million calls whose ack never comes leave memory flat and nothing that waits."""

from __future__ import annotations

import gc
from typing import Any

import trio

from broker import AckTimeout, Broker, Disconnected

from .figure import Claim, Plan
from .server import resident_kib
from .wire import Line

AT_ONCE = 500
GROWTH_KIB = 2048
WARM_UP = 20_000
TIMEOUT = 0.001
_TARGET = "/socket.io/?EIO=4&transport=websocket"


def measure(plan: Plan) -> list[Claim]:
    """Let calls time out, and look at what is left."""
    found = trio.run(measure_acks, plan.full_or(1_000_000, 30_000))
    return [
        Claim.at_least("calls that timed out, each once", found["timed_out"], found["asked"]),
        Claim.at_most("acks still waited for", found["waiting"], 0),
        Claim.at_most("growth of resident memory", found["growth_kib"], GROWTH_KIB, " KiB"),
        Claim.at_most("growth of objects", found["growth_objects"], 4000),
        Claim.told("seconds", f"{found['seconds']:.0f}"),
    ]


async def measure_acks(count: int, warm_up: int = WARM_UP) -> dict[str, Any]:
    """Ask a client that never answers, over a real connection.

    Args:
        count: How many calls.
        warm_up: How many more before memory is looked at.

    Returns:
        `asked`, `timed_out`, `waiting`, `growth_kib`, `growth_objects`, `seconds`.
    """
    broker = Broker(ping_interval=3_600.0)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(broker.serve, "127.0.0.1", 0)
        line = await Line.open(server.port)
        await line.upgrade(_TARGET)
        await line.read_text()
        await line.send_text("40")
        await line.read_text()
        nursery.start_soon(_discard, line)
        (socket,) = broker.sockets.sockets.values()
        await _ask(socket, warm_up)
        before, objects, start = resident_kib(), _objects(), trio.current_time()
        timed_out = await _ask(socket, count)
        found = {
            "asked": count,
            "timed_out": timed_out,
            "waiting": len(socket.acks),
            "seconds": trio.current_time() - start,
            "growth_objects": _objects() - objects,
            "growth_kib": resident_kib() - before,
        }
        nursery.cancel_scope.cancel()
    line.close()
    return found


async def _ask(socket: Any, count: int) -> int:
    """Have many callers ask until there are so many calls; return how many of them timed out."""
    left = count
    timed_out = 0

    async def caller() -> None:
        nonlocal left, timed_out
        while left > 0:
            left -= 1
            try:
                await socket.call("question", timeout=TIMEOUT)
            except AckTimeout:
                timed_out += 1
            except Disconnected:
                return

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(caller)
    return timed_out


async def _discard(line: Line) -> None:
    while True:
        await line.read_text()


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())
