"""Run many clients for hours of virtual time: heartbeats, messages, connections that break and come back.

One in ten is our client, over WebSocket, polling and the upgrade from one to the other; the others are plain
peers on a WebSocket, which cost a tenth.

`python -m tests.testing.soak --hours 24 --clients 100 --seed 1` prints one line with the figures and a digest
of all that went over the wire. The same seed gives the same digest.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import partial
from typing import Any

import trio
from attrs import frozen
from trio.testing import MockClock

from broker import Backoff, Broker, Disconnected, Socket
from broker.testing import Harness, PeerClosed, WebSocketPeer, Wire, open_harness
from broker.testing.determinism import fixed_order
from broker.testing.wire import read_frame

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@frozen
class Outcome:
    """What a soak came to.

    Attributes:
        digest: Of all that went over the wire.
        entries: How many messages, ends and faults that was.
        pings: How many heartbeats the clients saw.
        reconnections: How often clients came back.
        answered: How many calls were answered.
        lost: How many calls failed because their connection was cut.
        real_seconds: How long it took.
        cpu_seconds: How much of the processor it took.
        tail: The last lines of the transcript.
    """

    digest: str
    entries: int
    pings: int
    reconnections: int
    answered: int
    lost: int
    real_seconds: float
    cpu_seconds: float
    tail: str


class Soak:
    """One run.

    Args:
        hours: Of virtual time.
        clients: How many.
        seed: Of all that is left to chance.
    """

    def __init__(self, hours: float, clients: int, seed: int) -> None:
        self.seconds = hours * 3_600
        self.clients = clients
        self.seed = seed
        self.pings = self.reconnections = self.answered = self.lost = 0

    async def run(self) -> tuple[str, int, str]:
        broker = Broker()

        @broker.on("echo")
        async def echo(socket: Socket, value: Any) -> Any:
            return value

        async with open_harness(broker, transcript_limit=50) as harness:
            with trio.move_on_after(self.seconds):
                async with trio.open_nursery() as nursery:
                    for number in range(self.clients):
                        run = self._client if number % 10 == 0 else self._plain_client
                        nursery.start_soon(run, harness, number)
        assert broker.statistics().sessions == 0
        transcript = harness.transcript
        return transcript.digest, transcript.total, transcript.pretty()

    async def _client(self, harness: Harness, number: int) -> None:
        chance = random.Random(self.seed * 1_000_003 + number)
        await trio.sleep(chance.randrange(0, 25, 5))
        via: Any = {0: "polling", 10: "upgrade"}.get(number % 100, "websocket")
        backoff = Backoff(initial=1.0, maximum=30.0, jitter=0)
        client = await harness.connect(transport=via, reconnect=backoff)
        client.client.io.on("ping")(self._pinged)
        client.client.io.on("reconnect")(self._reconnected)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._trouble, client.wire, chance.random())
            while True:
                await trio.sleep(chance.expovariate(1 / 1_800))
                value = chance.randrange(1_000_000)
                try:
                    await client.acked("echo", value, answer=value)
                    self.answered += 1
                except Disconnected:
                    self.lost += 1

    async def _plain_client(self, harness: Harness, number: int) -> None:
        chance = random.Random(self.seed * 1_000_003 + number)
        wire = harness.network.new_wire(f"peer {number}")
        await trio.sleep(chance.randrange(0, 25, 5))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._trouble, wire, chance.random())
            while True:
                try:
                    stream = await harness.network.connect(wire=wire)
                    with trio.move_on_after(60):
                        peer = await WebSocketPeer.open(stream)
                        await peer.opened()
                        await peer.join()
                    await self._beat(peer, chance)
                except (AssertionError, PeerClosed, UnboundLocalError, *GONE):
                    pass
                finally:
                    stream.close()
                await trio.sleep(chance.randrange(5, 30, 5))
                self.reconnections += 1

    async def _beat(self, peer: WebSocketPeer, chance: random.Random) -> None:
        """Answer heartbeats, and ask now and then, until the server is silent for too long."""
        asked, answered, data = 0, 0, b""
        next_question = trio.current_time() + chance.expovariate(1 / 1_800)
        with trio.move_on_after(46) as patience:
            while more := await peer.stream.receive_some():
                data += more
                while (unit := read_frame(data)) is not None:
                    data = data[len(unit.raw) :]
                    if unit.text == "2":
                        patience.deadline = trio.current_time() + 46
                        self.pings += 1
                        await peer.send("3")
                    elif unit.kind == "close":
                        return
                    else:
                        answered += 1
                        assert unit.text == f'43{answered}["{answered}"]', unit
                        self.answered += 1
                if trio.current_time() >= next_question:
                    next_question += chance.expovariate(1 / 1_800)
                    asked += 1
                    await peer.send(f"42{asked}", ["echo", str(asked)])

    async def _trouble(self, wire: Wire, seed: float) -> None:
        chance = random.Random(seed)
        while True:
            await trio.sleep(chance.expovariate(1 / 7_200))
            kind = chance.choice(["cut", "pong", "partition", "latency"])
            if kind == "cut":
                wire.cut()
            elif kind == "pong":
                wire.drop_pong()
            elif kind == "latency":
                wire.latency(chance.uniform(0, 2))
            else:
                wire.partition()
            await trio.sleep(chance.uniform(1, 120))
            wire.heal()

    def _pinged(self) -> None:
        self.pings += 1

    def _reconnected(self, *_: Any) -> None:
        self.reconnections += 1


def soak(hours: float, clients: int, seed: int) -> Outcome:
    """Run it on a clock that jumps."""
    run = Soak(hours, clients, seed)
    start, used = time.monotonic(), time.process_time()
    with fixed_order(seed):
        digest, entries, tail = trio.run(run.run, clock=MockClock(autojump_threshold=0))
    seconds, cpu = time.monotonic() - start, time.process_time() - used
    return Outcome(digest, entries, run.pings, run.reconnections, run.answered, run.lost, seconds, cpu, tail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--twice", action="store_true", help="run it twice and hold that the digests are equal"
    )
    given = parser.parse_args()
    run = partial(soak, given.hours, given.clients, given.seed)
    outcomes = [run() for _ in range(2 if given.twice else 1)]
    for outcome in outcomes:
        print(
            f"{given.hours:g} h of {given.clients} clients in {outcome.real_seconds:.1f} s "
            f"({outcome.cpu_seconds:.1f} s of the processor): "
            f"{outcome.entries} lines, {outcome.pings} pings, {outcome.reconnections} reconnections, "
            f"{outcome.answered} calls answered, {outcome.lost} lost; {outcome.digest[:16]}"
        )
    if len({outcome.digest for outcome in outcomes}) > 1:
        raise SystemExit("the same seed gave another transcript")


if __name__ == "__main__":
    main()
