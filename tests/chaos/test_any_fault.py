"""Any interleaving of messages, faults, aborted upgrades and time, on a network and a clock in memory.

Whatever happens to three clients, one for each way of connecting: what each hears is without a gap as long as
it is connected, never doubled and never out of order; what was acknowledged to it was handled; when the
network is well again all of them are back and hear what is new; and nothing is left in the end.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from broker import AckTimeout, Backoff, Broker, Client, Disconnected, Limits, Socket, open_client
from broker.testing import Harness, UpgradeStep, Wire, open_harness

from .world import TRANSPORTS, Heard

VIAS = ("polling", "websocket", "upgrade")
WHO = st.integers(0, len(VIAS) - 1)
WAITS = st.sampled_from([0.0, 0.01, 0.2, 1.0, 3.0, 8.0])

STEPS = st.one_of(
    st.tuples(st.just("emit"), st.integers(1, 5), WAITS),
    st.tuples(st.just("large"), st.integers(1, 3), WAITS),
    st.tuples(st.just("ask"), WHO, WAITS),
    st.tuples(st.just("kick"), WHO, WAITS),
    st.tuples(
        st.sampled_from(["cut", "partition", "refuse", "heal", "stall client", "stall server"]), WHO, WAITS
    ),
    st.tuples(st.sampled_from(["latency", "trickle", "lose pong"]), WHO, WAITS),
    st.tuples(st.just("cut after"), st.tuples(WHO, st.integers(1, 400), st.booleans()), WAITS),
    st.tuples(st.just("abort upgrade"), st.sampled_from(list(UpgradeStep)), WAITS),
    st.tuples(st.just("delay upgrade"), st.sampled_from(list(UpgradeStep)), WAITS),
)


class Town:
    """A broker and its three clients, with what they have heard."""

    def __init__(self) -> None:
        limits = Limits(
            outbox_hard_bytes=60_000, outbox_soft_bytes=30_000, write_timeout=2.0, close_timeout=0.5
        )
        self.broker = Broker(ping_interval=2.0, ping_timeout=1.0, upgrade_timeout=1.0, limits=limits)
        self.heard = [Heard() for _ in VIAS]
        self.handled: list[set[int]] = [set() for _ in VIAS]
        self.wires: list[Wire] = []
        self.clients: list[Any] = []
        self.joined: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.asked = 0
        self.number = 0
        self.broker.on("connect")(self._on_connect)
        self.broker.on("disconnect")(self._on_disconnect)
        self.broker.on("save")(self._on_save)

    def _on_connect(self, socket: Socket) -> None:
        self.joined[socket.id] += 1

    def _on_disconnect(self, socket: Socket) -> None:
        self.left[socket.id] += 1

    async def _on_save(self, socket: Socket, who: int, number: int) -> int:
        await trio.sleep(0.01)
        self.handled[who].add(number)
        return number

    async def settle(self, harness: Harness, nursery: trio.Nursery) -> None:
        """Connect all three."""
        for who, via in enumerate(VIAS):
            wire = harness.network.new_wire(via)
            self.wires.append(wire)
            self.clients.append(await nursery.start(self._live, harness, wire, via, self.heard[who]))
        for client in self.clients:
            await client.wait_connected()

    async def _live(
        self, harness: Harness, wire: Wire, via: str, heard: Heard, task_status: trio.TaskStatus[Client]
    ) -> None:
        options: dict[str, Any] = {
            "connector": harness.network.connector(wire),
            "transports": TRANSPORTS[via],
            "reconnect": Backoff(initial=0.1, maximum=0.5, jitter=0),
            "connect_timeout": 2.0,
        }
        async with open_client(harness.url, **options) as client:
            client.on("connect")(lambda: heard.take("connect", ""))
            client.on("disconnect")(lambda reason: heard.take("disconnect", reason))
            client.on("number")(lambda number, *_: heard.take("number", number))
            task_status.started(client)
            await trio.sleep_forever()

    async def do(self, nursery: trio.Nursery, what: str, detail: Any) -> None:
        """Carry out one step."""
        if what in {"emit", "large"}:
            for _ in range(detail):
                self.number += 1
                self.broker.emit("number", self.number, "x" * (20_000 if what == "large" else 0))
        elif what == "ask":
            self.asked += 1
            nursery.start_soon(self._ask, detail, self.asked)
        elif what == "kick":
            sockets = list(self.broker.sockets.sockets.values())
            if sockets:
                sockets[detail % len(sockets)].disconnect(close=True)
        elif what == "cut after":
            who, count, next_one = detail
            self.wires[who].cut_after(count, "to_client" if count % 2 else "to_server", next_one=next_one)
        elif what == "abort upgrade":
            self.wires[2].abort_upgrade(detail)
        elif what == "delay upgrade":
            self.wires[2].delay_upgrade(detail, 0.5)
        else:
            self._fault(self.wires[detail], what)

    def _fault(self, wire: Wire, what: str) -> None:
        if what.startswith("stall"):
            wire.stall_reads("client" if what == "stall client" else "server")
        elif what == "latency":
            wire.latency(0.3)
        elif what == "trickle":
            wire.trickle(200, 0.05)
        elif what == "lose pong":
            wire.drop_pong()
        else:
            getattr(wire, what)()

    async def _ask(self, who: int, number: int) -> None:
        try:
            await self.clients[who].call("save", who, number, timeout=2.0)
        except (AckTimeout, Disconnected):
            return
        self.heard[who].take("acked", number)

    async def recover(self) -> None:
        """Heal the network; all must be back and hear what is new."""
        for wire in self.wires:
            wire.heal()
        with trio.fail_after(60):
            await trio.sleep(10.0)  # whatever was noticed late is over then
            for client in self.clients:
                if not client.active:  # the server has sent it away for good, and it was told
                    client.connect()
                await client.wait_connected()
            self.number += 1
            self.broker.emit("number", self.number)
            while not all(  # noqa: ASYNC110 - nothing tells of it
                heard.connections and heard.connections[-1][-1:] == [self.number] for heard in self.heard
            ):
                await trio.sleep(0.1)


async def play(steps: list[tuple[str, Any, float]]) -> None:
    """Play one interleaving, and hold what must hold."""
    town = Town()
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_harness(town.broker) as harness:
        async with trio.open_nursery() as nursery:
            await town.settle(harness, nursery)
            for what, detail, wait in steps:
                await town.do(nursery, what, detail)
                await trio.sleep(wait)
            await town.recover()
            nursery.cancel_scope.cancel()
    for heard, handled in zip(town.heard, town.handled, strict=True):
        heard.acked.sort()  # several are asked at once
        heard.check()
        assert set(heard.acked) <= handled, "acknowledged, but not handled"
    assert town.joined == town.left, "not one disconnect for each connect"
    assert set(town.joined.values()) == {1}
    assert town.broker.statistics().sessions == 0
    assert town.broker.statistics().queued_bytes == 0
    assert trio.lowlevel.current_statistics().tasks_living == tasks


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=15))
def test_any_fault(steps: list[tuple[str, Any, float]], caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    trio.run(play, steps, clock=MockClock(autojump_threshold=0.001))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
