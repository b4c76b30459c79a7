"""Serve a broker in a process of its own, flood it when told to, and print what it cost as one JSON line."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import trio

from broker import Broker, DisconnectReason, Socket

WINDOW = 250
"""Messages between two marks that every reader has to reach before the flood goes on."""


def resident_bytes() -> int:
    """Return how much memory this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Flood:
    """Sends numbered messages to everyone, and keeps the figures."""

    def __init__(self, broker: Broker, count: int, padding: str) -> None:
        self._broker = broker
        self._count = count
        self._padding = padding
        self._highest = 0
        self._queued_highest = 0
        self.reasons: list[str] = []

    async def run(self) -> None:
        members = len(self._broker.sockets.sockets)
        before = resident_bytes()
        start = trio.current_time()
        queued = closed = dropped = gone = 0
        for value in range(self._count):
            result = self._broker.emit("number", f"{value:07}", self._padding)
            queued += result.queued
            closed += result.closed
            dropped += result.dropped
            gone += members - result.queued - result.closed - result.dropped
            if value % WINDOW == WINDOW - 1:
                self._sample()
                acks = await self._broker.except_("stalled").call("mark", timeout=10.0)
                assert acks.complete, acks.missing
        await self._everything_ended(members)
        statistics = self._broker.statistics()
        figures = {
            "queued": queued,
            "closed": closed,
            "dropped": dropped,
            "gone": gone,
            "growth_bytes": self._highest - before,
            "queued_highest_bytes": self._queued_highest,
            "seconds": trio.current_time() - start,
            "reasons": self.reasons,
            "statistics": dict(statistics.dropped),
            "disconnects": dict(statistics.disconnects),
            "sockets": statistics.sockets["/"],
        }
        print(json.dumps(figures), flush=True)

    def _sample(self) -> None:
        self._highest = max(self._highest, resident_bytes())
        self._queued_highest = max(self._queued_highest, self._broker.statistics().queued_bytes)

    async def _everything_ended(self, members: int) -> None:
        """Wait until the one that does not read is gone."""
        with trio.fail_after(10.0):
            while self._broker.statistics().sessions == members:  # noqa: ASYNC110 - behind all handlers
                await trio.sleep(0.01)


async def main(count: int, padding: int) -> None:
    broker = Broker(ping_interval=600.0)  # the readers expect no byte but those of the flood
    flood = Flood(broker, count, "x" * padding)

    @broker.on("stall")
    def stall(socket: Socket) -> None:
        socket.join("stalled")

    @broker.on("flood")
    async def start(socket: Socket) -> None:  # noqa: ASYNC124 - it is to be a coroutine
        socket.start_soon(flood.run)

    @broker.on("disconnect")
    def gone(socket: Socket, reason: DisconnectReason) -> None:
        flood.reasons.append(reason)

    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:  # noqa: ASYNC128 - hands it on
            await broker.serve("127.0.0.1", 0, task_status=task_status)

        server = await nursery.start(serve)
        print(json.dumps({"port": server.port}), flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
