"""Limits that no hostile input of the list comes near, and the page that explains all of them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from broker import AckTimeout, Broker, Limits, Socket, Verdict
from tests.peers import PollingPeer, client, quick_broker, serving

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "design" / "limits.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for cells in (line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| `"))
}


def test_the_page_has_each_limit_with_its_default() -> None:
    defaults = {field.name: f"{field.default:,}".replace(",", " ") for field in fields(Limits)}
    assert {name: row[0] for name, row in ROWS.items()} == defaults


@pytest.mark.parametrize("name", list(ROWS))
def test_the_test_of_each_limit_is_there(name: str) -> None:
    path, _, function = ROWS[name][-1].strip("` |").partition("::")
    assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


async def test_packets_of_one_answer() -> None:
    broker = quick_broker(limits=Limits(packets_per_poll=3), ping_interval=30.0)
    async with serving(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        for number in range(7):
            broker.emit("news", number)
        assert [len(await peer.packets()) for _ in range(3)] == [3, 3, 1]


async def test_messages_of_one_outbox() -> None:
    limits = Limits(outbox_messages=5)
    broker = quick_broker(limits=limits, overflow="drop_newest", ping_interval=30.0)
    async with serving(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        socket = next(iter(broker.sockets.sockets.values()))
        verdicts = [socket.emit("news", number) for number in range(8)]
        assert verdicts == [Verdict.QUEUED] * 5 + [Verdict.DROPPED] * 3
        assert broker.statistics().dropped == {"newest": 3}


async def test_time_of_an_ack() -> None:
    broker = Broker(limits=Limits(ack_timeout=0.05))
    outcomes: list[AckTimeout] = []

    @broker.on("ask")
    async def ask(socket: Socket) -> None:
        try:
            await socket.call("question")
        except AckTimeout as error:
            outcomes.append(error)
        socket.emit("late")

    async with serving(broker) as server, client(server) as peer:
        await peer.emit("ask")
        assert str(await peer.receive()).endswith('["question"]')
        await peer.expect('42["late"]')
        assert len(outcomes) == 1
