"""Figure 4: a server sends its clients away under load, and they come back to another one."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from bench.processes import MeasureError

from .figure import Claim, Plan, say
from .service import Service, running_service
from .wire import ENGINE, Gone, Line

FRAMED = f"{ENGINE}&transport=websocket"
BACK_OFF = (0.05, 0.3)  # seconds, drawn anew each time
OPENED_AT_ONCE = 50
READY_WITHIN = 120.0


@dataclass
class Fleet:
    """All clients, and what they have seen.

    Attributes:
        ports: Where to connect, the first one first; a refusal or an end leads to the next.
        pause: Seconds between two events of a client.
        acked: The numbers that each client holds for saved.
        returned: When a client was connected to the second server.
        refused: How often a server said 503.
    """

    ports: list[int]
    pause: float
    acked: dict[str, set[int]] = field(default_factory=dict)
    returned: list[float] = field(default_factory=list)
    ready: int = 0
    refused: int = 0
    sent: int = 0
    stopping: bool = False
    cuts: Counter[str] = field(default_factory=Counter)

    async def live(self, name: str, opening: trio.Semaphore) -> None:
        """Be one client until told to stop: save one number after another, each until it is acknowledged."""
        chance = random.Random(name)
        acked = self.acked[name] = set[int]()
        number = 1
        where = 0
        while not self.stopping:
            try:
                async with opening:
                    line = await _join(self.ports[where])
            except (Gone, OSError) as error:
                self.refused += isinstance(error, Gone) and error.status == 503
                where = 1
                await trio.sleep(chance.uniform(*BACK_OFF))
                continue
            if where:
                self.returned.append(trio.current_time())
            self.ready += 1
            try:
                while not self.stopping:
                    self.sent += 1
                    await line.send_text(f'42{number}["save","{name}",{number}]')
                    while not (await line.read_text()).startswith(f"43{number}["):
                        pass
                    acked.add(number)
                    number += 1
                    await _pause(line, chance.uniform(0.5, 1.5) * self.pause)
            except Gone:
                where = 1
                await trio.sleep(chance.uniform(*BACK_OFF))
            finally:
                line.close()


async def _join(port: int) -> Line:
    line = await Line.open(port)
    try:
        await line.upgrade(FRAMED)
        await line.read_text()
        await line.send_text("40")
        await line.read_text()
    except BaseException:
        line.close()
        raise
    return line


async def _pause(line: Line, seconds: float) -> None:
    """Wait, but notice the end of the connection at once."""
    with trio.move_on_after(seconds):
        await line.read_text()


def measure(plan: Plan) -> list[Claim]:
    """Connect, send numbers, drain the first server, and compare what clients and servers hold for saved."""
    clients = plan.full_or(2_000, 40)
    seconds = plan.full_or(10, 2)
    options = {"transports": ["websocket"], "ping_interval": 25.0}
    with (
        running_service(plan.server_cpu, **options) as first,
        running_service(plan.server_cpu, **options) as second,
    ):
        fleet = Fleet([first.port, second.port], pause=1.0 if not plan.short else 0.1)
        took = trio.run(_play, fleet, first, clients, seconds)
        say(f"drain: took {took:.2f} s, {len(fleet.returned):,} came back")
        books = [first.ask("ledger", timeout=60), second.ask("ledger", timeout=60)]
        left = first.ask("figures")["sessions"]
    return _claims(fleet, books, clients, seconds, took, left)


async def _play(fleet: Fleet, first: Service, clients: int, seconds: float) -> float:
    opening = trio.Semaphore(OPENED_AT_ONCE)
    with trio.fail_after(READY_WITHIN + 4 * seconds + 60):
        async with trio.open_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(fleet.live, f"client {number}", opening)
            await _until(lambda: fleet.ready >= clients, READY_WITHIN, "not all clients are connected")
            say(f"drain: {clients:,} clients are connected")
            await trio.sleep(min(3.0, seconds))
            answer = await trio.to_thread.run_sync(
                lambda: first.ask("drain", timeout=3 * seconds + 30, deadline=seconds)
            )
            await _until(lambda: len(fleet.returned) >= clients, 30.0, "not all clients came back")
            await trio.sleep(min(2.0, seconds))
            fleet.stopping = True
            await trio.sleep(3 * fleet.pause)
            nursery.cancel_scope.cancel()
    return float(answer["took_s"])


async def _until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    with trio.move_on_after(seconds):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.02)
    if not holds():
        raise MeasureError(otherwise)


def _claims(
    fleet: Fleet, books: list[dict[str, Any]], clients: int, seconds: float, took: float, left: int
) -> list[Claim]:
    saved: dict[str, set[int]] = {}
    for book in books:
        for name, numbers in book["saved"].items():
            saved.setdefault(name, set()).update(numbers)
    lost = sum(len(acked - saved.get(name, set())) for name, acked in fleet.acked.items())
    both = sum(
        len(set(numbers) & set(books[1]["saved"].get(name, ())))
        for name, numbers in books[0]["saved"].items()
    )
    first = min(fleet.returned, default=0.0)
    by_second = Counter(int(moment - first) for moment in fleet.returned)
    average = clients / seconds
    acked = sum(len(numbers) for numbers in fleet.acked.values())
    return [
        Claim.told("events acknowledged", f"{acked:,} to {clients:,} clients"),
        Claim.at_most("acknowledged events that no server has", lost, 0),
        Claim.at_most("events that were handled but not acknowledged, and came again", both, 0),
        Claim.at_most("the drain took", took, seconds + 1, " s"),
        Claim.at_most("sessions left on the first server", left, 0),
        Claim.at_most(
            f"most clients that came back within one second; {average:g} on average, median "
            f"{statistics.median(by_second.values()):g}",
            max(by_second.values()),
            2 * average,
        ),
    ]
