"""A client that follows numbered events, and comes back when it is lost, as a stock client would."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import trio

from bench.hold.wire import ENGINE, Gone, Line

FRAMED = f"{ENGINE}&transport=websocket"
BACK_OFF, BACK_OFF_MOST, SPREAD = 1.0, 5.0, 0.5
"""Seconds: the defaults of the official client, doubled at each attempt, spread by half."""


class Follower:
    """One client in the namespace "/".

    Attributes:
        ports: Where it connects, each in its turn; the first one first.
        heard: The numbers that came, in order.
        connects: When it was let in, each time, on Trio's clock.
        losses: When it lost its connection.
        recovered: How often the server gave it back its session.
        refusals: Attempts that failed.
    """

    def __init__(self, ports: Sequence[int], seed: int) -> None:
        self.ports = ports
        self.heard: list[int] = []
        self.connects: list[float] = []
        self.losses: list[float] = []
        self.recovered = 0
        self.refusals = 0
        self._chance = random.Random(seed)
        self._turn = 0
        self._pid: str | None = None
        self._offset: str | None = None

    async def live(self, opening: trio.Semaphore) -> None:
        """Follow until cancelled."""
        attempt = 0
        while True:
            try:
                # The first time all come at once, which is no storm to be measured: they take turns.
                async with opening:
                    line = await self._join(self.ports[self._turn % len(self.ports)])
            except (Gone, OSError):
                self.refusals += 1
            else:
                attempt = 0
                await self._follow(line)
            if self.connects and attempt:
                self._turn += 1  # as behind a load balancer: another node, if one has refused
            pause = min(BACK_OFF * 2**attempt, BACK_OFF_MOST)
            attempt += 1
            await trio.sleep(pause * self._chance.uniform(1 - SPREAD, 1 + SPREAD))

    async def _join(self, port: int) -> Line:
        line = await Line.open(port)
        try:
            await line.upgrade(FRAMED)
            await line.read_text()
            auth: dict[str, Any] = {}
            if self._pid:
                auth["pid"] = self._pid
                if self._offset:
                    auth["offset"] = self._offset
            await line.send_text("40" + (json.dumps(auth) if auth else ""))
            # What a recovered client has missed comes before the packet that lets it in.
            while not (packet := await line.read_text()).startswith("40"):
                if packet.startswith("44"):
                    raise Gone
                self._take(packet)
        except BaseException:
            line.close()
            raise
        pid = json.loads(packet[2:]).get("pid")
        self.recovered += pid is not None and pid == self._pid
        self._pid = pid
        self.connects.append(trio.current_time())
        return line

    async def _follow(self, line: Line) -> None:
        try:
            while True:
                self._take(await line.read_text())
        except Gone:
            self.losses.append(trio.current_time())
        finally:
            line.close()

    def _take(self, packet: str) -> None:
        if packet.startswith('42["n",'):
            event = json.loads(packet[2:])
            self.heard.append(event[1])
            if self._pid and len(event) > 2:
                self._offset = event[-1]


def missed_and_doubled(heard: Sequence[int], last: int) -> tuple[int, int]:
    """Count the numbers after the first one heard, up to `last`, that did not come, and what came again."""
    if not heard:
        return last, 0
    kept = [number for number in heard if number <= last]
    seen = set(kept)
    return last - min(heard) + 1 - len(seen), len(kept) - len(seen)
