"""Messages between workers, over their Unix sockets."""

from __future__ import annotations

import pytest
import trio

from tests.peers import DEADLINE, client
from tests.workers.neighbours import Worker, workers
from tests.workers.processes import serving_processes
from tests.workers.test_processes import sessions_of_both


async def acquainted(*served: Worker) -> None:
    """Wait until each has heard of the sockets of the others."""
    with trio.fail_after(DEADLINE):
        for one in served:
            bus = one.broker._directory.bus
            while not all(line.rooms for line in bus.lines.values()):  # type: ignore[union-attr]  # noqa: ASYNC110 - other processes
                await trio.sleep(0.005)


async def test_broadcasts_between_workers() -> None:
    async with workers() as (first, second), client(first.door) as one, client(second.door) as other:
        await acquainted(first, second)
        first.broker.emit("hello", b"\x01")
        for peer in (one, other):
            await peer.expect('451-["hello",{"_placeholder":true,"num":0}]')
            await peer.expect(b"\x01")
        assert len(await second.broker.fetch_sockets()) == 2


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_large_message(tls: bool) -> None:
    async with workers(tls=tls) as (first, second), client(first.door), client(second.door) as other:
        await acquainted(first, second)
        first.broker.emit("large", "x" * 900_000)
        assert len(await other.receive()) > 900_000


async def test_processes_hear_each_other() -> None:
    async with serving_processes() as server:
        found = await sessions_of_both(server.port)
        for peer in found.values():
            await peer.join()
        with trio.fail_after(DEADLINE):
            counted = ""
            while counted != "430[2]":
                await found[0].send('420["count"]')
                counted = await found[0].receive()
        await found[0].send('42["shout",1]')
        for peer in found.values():
            await peer.expect('42["shout",1]')
        assert await server.end() == 0
