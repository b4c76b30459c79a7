"""Acks: one outcome for each call, whatever comes together, and nothing left of those that never come."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bench.hold.acks import measure_acks
from broker import AckTimeout, Broker, Disconnected, Limits, Socket
from broker.testing import open_harness
from broker.testing.plugin import run_virtual
from tests.peers import client, quick_broker, serving, settled

OUTCOMES = ("value", "timeout", "disconnected", "cancelled")


async def test_calls_that_time_out_leave_nothing() -> None:
    found = await measure_acks(3_000, warm_up=1_000)
    assert (found["timed_out"], found["waiting"]) == (3_000, 0)
    assert found["growth_objects"] < 500


@pytest.mark.parametrize("together", [*permutations(OUTCOMES, 1), *permutations(OUTCOMES, 2)])
@pytest.mark.trio(run=run_virtual)
async def test_a_call_has_one_outcome_even_if_two_come_together(together: tuple[str, ...]) -> None:
    broker = Broker(ping_interval=60.0)
    outcomes: list[str] = []
    async with open_harness(broker) as harness, trio.open_nursery() as nursery:
        peer = await harness.joined_peer()
        (socket,) = broker.sockets.sockets.values()
        scope = trio.CancelScope()

        async def ask() -> None:
            with scope:
                try:
                    outcomes.append(await socket.call("ask", timeout=1.0))
                except AckTimeout:
                    outcomes.append("timeout")
                except Disconnected:
                    outcomes.append("disconnected")
            if scope.cancelled_caught:
                outcomes.append("cancelled")

        steps: dict[str, Callable[[], Any]] = {
            "value": lambda: socket.acks.resolve(0, ["value"]),
            "timeout": lambda: None,
            "disconnected": lambda: socket.disconnect(),
            "cancelled": scope.cancel,
        }
        nursery.start_soon(ask)
        await peer.expect('420["ask"]')
        if "timeout" in together:
            await trio.sleep(1.0)  # both wake at the same instant
        for one in together:
            steps[one]()
        await trio.sleep(5.0)
        assert len(outcomes) == 1
        assert outcomes[0] in together
        assert len(socket.acks) == 0


async def test_a_handler_that_asks_its_own_client_with_a_full_inbox() -> None:
    """The answer stands behind events that nobody reads now: the call times out, and all goes on."""
    broker = quick_broker(ping_interval=25.0, limits=Limits(inbox_messages=2))
    asked: list[str] = []
    seen: list[int] = []

    @broker.on("ask")
    async def ask(socket: Socket) -> None:
        try:
            await socket.call("question", timeout=0.1)
        except AckTimeout:
            asked.append("timeout")

    broker.on("n")(lambda socket, number: seen.append(number))
    async with serving(broker) as server, client(server) as peer:
        await peer.send_text('42["ask"]')
        for number in range(20):
            await peer.send_text(f'42["n",{number}]')
        await peer.expect('420["question"]')
        await peer.send_text("430[]")
        await peer.emit("echo", 1)
        await peer.expect('42["echo",1]')
        assert (asked, seen) == (["timeout"], list(range(20)))
        assert broker.statistics().events == {"unknown ack": 1}


async def test_a_handler_that_asks_its_own_client() -> None:
    broker = quick_broker(ping_interval=25.0)
    answers: list[Any] = []

    @broker.on("ask")
    async def ask(socket: Socket) -> None:
        answers.append(await socket.call("question", timeout=5.0))

    async with serving(broker) as server, client(server) as peer:
        for number in range(3):
            await peer.send_text('42["ask"]')
            await peer.expect(f'42{number}["question"]')
            await peer.send_text(f"43{number}[{number}]")
        await settled()
        await wait_all_tasks_blocked()
        assert answers == [0, 1, 2]
