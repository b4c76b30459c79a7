"""A broker under attack, with well-behaved clients that talk all the while and must not notice.

Each of them sends numbered messages to all of them, and goes on when its own has come back. When the
attack is over they must have received every number of everyone in order, and what the attack has opened must
be gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from broker import Broker, Limits, Server, Socket
from tests.peers import DEADLINE, RawWebSocket, open_sockets, quick_broker, serving, websocket

CANARIES = int(os.environ.get("BROKER_CANARIES", "3"))
_LEAST_ROUNDS = 3  # how many messages of each canary must come through during an attack
_PAUSE = 0.002
_NAMESPACE = "/canary"


@dataclass
class Arena:
    """What an attack works with.

    Attributes:
        broker: The broker.
        server: Where it listens.
        received: What the event `take` has brought.
    """

    broker: Broker
    server: Server
    received: list[Any] = field(default_factory=list)

    @property
    def refusals(self) -> dict[str, int]:
        """Refused requests by rule."""
        return dict(self.broker.statistics().refusals)

    @property
    def violations(self) -> dict[str, int]:
        """Ended sessions by violation."""
        return dict(self.broker.statistics().violations)

    @property
    def events(self) -> dict[str, int]:
        """Events without a good end by cause."""
        return dict(self.broker.statistics().events)


class Canary:
    """One well-behaved client."""

    def __init__(self, number: int, peer: RawWebSocket) -> None:
        self.number = number
        self.sent = 0
        self.seen: dict[int, int] = {}
        self._peer = peer

    async def talk(self, stopping: Callable[[], bool]) -> None:
        """Send one number after another until told to stop."""
        while not stopping() or self.sent < _LEAST_ROUNDS:
            self.sent += 1
            await self._peer.send_text(f'42{_NAMESPACE},["say",{self.number},{self.sent}]')
            while self.seen.get(self.number, 0) < self.sent:
                await self.hear()
            await trio.sleep(_PAUSE)

    async def hear(self) -> None:
        """Take one message; it must be the next of its sender."""
        message = await self._peer.receive()
        assert isinstance(message, str)
        event, sender, number = json.loads(message.removeprefix(f"42{_NAMESPACE},"))
        assert event == "said"
        assert number == self.seen.get(sender, 0) + 1, "a message is lost, doubled or out of order"
        self.seen[sender] = number


def _arena_broker(**options: Any) -> Broker:
    broker = quick_broker(**{"ping_interval": 5.0, "ping_timeout": 5.0, **options})
    canary = broker.of(_NAMESPACE)

    @canary.on("say")
    def say(socket: Socket, sender: int, number: int) -> None:
        canary.emit("said", sender, number)

    return broker


@asynccontextmanager
async def arena(**options: Any) -> AsyncIterator[Arena]:
    """Serve a broker, let canaries talk for the block, and hold that it has left no trace.

    Args:
        options: Settings; `limits` may be a mapping of some of them.
    """
    if isinstance(options.get("limits"), dict):
        options["limits"] = Limits(**options["limits"])
    broker = _arena_broker(**options)
    async with serving(broker) as server, trio.open_nursery() as peers:
        canaries: list[Canary] = []
        over = trio.Event()

        async def be_canary(number: int, task_status: trio.TaskStatus[None]) -> None:
            async with websocket(server) as peer:
                await peer.opened()
                await peer.join(_NAMESPACE)
                canary = Canary(number, peer)
                canaries.append(canary)
                with trio.CancelScope() as listening:
                    scopes.append(listening)
                    task_status.started()
                    await begin.wait()
                    await canary.talk(over.is_set)
                    done.append(number)
                    while True:
                        await canary.hear()

        begin = trio.Event()
        done: list[int] = []
        scopes: list[trio.CancelScope] = []
        for number in range(CANARIES):
            await peers.start(be_canary, number)
        begin.set()
        before = _traces(broker)
        yield Arena(broker, server)
        await _until(lambda: _traces(broker) == before, lambda: f"{before} became {_traces(broker)}")
        over.set()
        await _until(lambda: len(done) == CANARIES, lambda: f"only {done} have come to an end")
        # Whoever waits for a last message of another has it now, or never gets it.
        await _until(
            lambda: all(one.seen == {other.number: other.sent for other in canaries} for one in canaries),
            lambda: f"lost: {[(one.number, one.sent, one.seen) for one in canaries]}",
        )
        for scope in scopes:
            scope.cancel()


def _traces(broker: Broker) -> tuple[int, int, int]:
    """Count sessions, tasks and open sockets."""
    return (
        broker.statistics().sessions,
        trio.lowlevel.current_statistics().tasks_living,
        open_sockets(),
    )


async def _until(holds: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    with trio.move_on_after(DEADLINE):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(_PAUSE)
    assert holds(), otherwise()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that the attack must bring about."""
    await _until(holds, lambda: "it has not come about")
