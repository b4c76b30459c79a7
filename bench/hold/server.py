"""The broker as it is measured: tells its figures, publishes and drains at the word of a pipe.

`python -m bench.hold.server '{"ping_interval": 25}'` prints its port, reads commands from its standard input
and prints an answer to each, both as JSON, a line each. It ends with its input.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from bench.commands import answer, each_command
from broker import Broker, DisconnectReason, Limits, Socket

_SAMPLE = 0.25
_PAD = "x"


def resident_kib() -> int:
    """Return the resident memory of this process."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    return 0


def cpu_seconds() -> float:
    """Return what this process has used of the processor."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def waited_seconds() -> float:
    """Return how long this thread was ready to run but had to wait for its core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class Measured:
    """The broker and what is noted of it.

    Attributes:
        outs: Seconds since the publishing began at which a slow consumer was sent away, one for each.
        saved: The numbers that each client had saved, by client; with how often one came twice.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        limits = Limits(**options.pop("limits", {}))
        self.rooms = options.pop("rooms", 1)
        self.broker = Broker(limits=limits, **options)
        self.joined = 0
        self.begun = 0.0
        self.outs: list[float] = []
        self.saved: dict[str, set[int]] = {}
        self.repeated = 0
        self.broker.on("connect")(self.on_connect)
        self.broker.on("disconnect")(self.on_disconnect)
        self.broker.on("save")(self.on_save)
        self.broker.on("echo")(self.on_echo)

    def on_connect(self, socket: Socket) -> None:
        """Put each client into the next room."""
        socket.join(f"room {self.joined % self.rooms}")
        self.joined += 1

    def on_disconnect(self, socket: Socket, reason: DisconnectReason) -> None:
        """Note when a slow consumer is sent away."""
        if reason is DisconnectReason.SLOW_CONSUMER:
            self.outs.append(round(time.monotonic() - self.begun, 3))

    async def on_save(self, socket: Socket, client: str, number: int) -> int:
        """Save a number of a client, and acknowledge it."""
        await trio.sleep(0.001)
        numbers = self.saved.setdefault(client, set())
        self.repeated += number in numbers
        numbers.add(number)
        return number

    def on_echo(self, socket: Socket, value: Any) -> Any:
        """Answer with the same."""
        return value

    # Commands

    async def figures(self) -> dict[str, Any]:
        """Tell tasks, files, memory and counts of this moment."""
        await trio.testing.wait_all_tasks_blocked(0.01)
        for _ in range(3):
            gc.collect()
        statistics = self.broker.statistics()
        return {
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "files": len(os.listdir("/proc/self/fd")),
            "objects": len(gc.get_objects()),
            "rss_kib": resident_kib(),
            "cpu_s": cpu_seconds(),
            "sessions": statistics.sessions,
            "sockets": sum(statistics.sockets.values()),
            "queued_bytes": statistics.queued_bytes,
            "disconnects": dict(statistics.disconnects),
            "dropped": dict(statistics.dropped),
        }

    async def publish(self, rate: int, size: int, seconds: float) -> dict[str, Any]:
        """Send numbered messages to the rooms in turn, each at the time it is due."""
        before = resident_kib()
        peak = {"queued_bytes": 0, "rss_kib": before}
        numbers = [0] * self.rooms
        total = int(rate * seconds)
        padding = _PAD * max(0, size - 30)
        behind = [0.0] * (int(seconds) + 1)
        cpu, waited = cpu_seconds(), waited_seconds()
        self.begun = begun = time.monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample, peak)
            for index in range(total):
                due = begun + index / rate
                if (wait := due - time.monotonic()) > 0:
                    await trio.sleep(wait)
                else:
                    second = int(due - begun)
                    behind[second] = max(behind[second], -wait)
                    await trio.lowlevel.checkpoint()
                room = index % self.rooms
                numbers[room] += 1
                stamp = int(due * 1e9)
                self.broker.to(f"room {room}").emit("n", f"{numbers[room]}.{stamp}.{padding}")
            nursery.cancel_scope.cancel()
        took = time.monotonic() - begun
        return {
            "published": total,
            "waited_share": (waited_seconds() - waited) / took,
            "numbers": numbers,
            "behind_ms": [round(late * 1000) for late in behind],
            "cpu_share": (cpu_seconds() - cpu) / took,
            "queued_peak": peak["queued_bytes"],
            "rss_growth_kib": peak["rss_kib"] - before,
            "outs": self.outs,
            "disconnects": dict(self.broker.statistics().disconnects),
            "dropped": dict(self.broker.statistics().dropped),
        }

    async def _sample(self, peak: dict[str, int]) -> None:
        while True:
            peak["queued_bytes"] = max(peak["queued_bytes"], self.broker.statistics().queued_bytes)
            peak["rss_kib"] = max(peak["rss_kib"], resident_kib())
            await trio.sleep(_SAMPLE)

    async def drain(self, deadline: float) -> dict[str, Any]:
        """Send everybody away; tell how long that took."""
        began = time.monotonic()
        await self.broker.drain(deadline)
        return {"took_s": time.monotonic() - began}

    async def ledger(self) -> dict[str, Any]:  # noqa: ASYNC124 - as all commands
        """Tell what was saved."""
        return {"saved": {name: sorted(all_) for name, all_ in self.saved.items()}, "repeated": self.repeated}


async def _obey(measured: Measured) -> None:
    commands: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "figures": measured.figures,
        "publish": measured.publish,
        "drain": measured.drain,
        "ledger": measured.ledger,
    }

    async def obey(command: dict[str, Any]) -> dict[str, Any]:
        return await commands[command.pop("do")](**command)

    await each_command(obey)


async def main(options: dict[str, Any]) -> None:
    """Serve until the input ends."""
    measured = Measured(options)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(measured.broker.serve, "127.0.0.1", 0)
        answer({"port": server.port})
        await _obey(measured)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    import trio.testing

    trio.run(main, json.loads(sys.argv[1]))
