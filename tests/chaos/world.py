"""A broker that counts aloud, clients that listen through the chaos proxy, and what must hold of the two.

What a client has heard is kept by connection: within one, numbers follow each other without a gap; from one
to the next they only grow. So what is missing lies between two connections, and the client was told.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.hold.wire import ENGINE, Line
from broker import AckTimeout, Backoff, Broker, Client, Disconnected, Limits, Server, Socket, open_client
from tests.peers import serving
from tests.programs import run_program

from .proxy import ChaosProxy, chaos_proxy

HERE = Path(__file__).parent
NODE = shutil.which("node")
HAS_CLIENT = NODE is not None and (HERE.parent / "interop/node_modules/socket.io-client").is_dir()
PATIENCE = 20.0
TICK = 0.01
TRANSPORTS = {"polling": ("polling",), "websocket": ("websocket",), "upgrade": ("polling", "websocket")}


@dataclass
class Heard:
    """What a client has heard and was promised.

    Attributes:
        connections: The numbers of each connection.
        acked: What the broker has acknowledged.
        ended: How often a connection has ended.
        transport: What it is on.
    """

    connections: list[list[int]] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    ended: int = 0
    transport: str = ""
    connected: bool = False

    def take(self, what: str, value: Any) -> None:
        """Note one thing."""
        if what == "connect":
            self.connections.append([])
            self.connected, self.transport = True, value
        elif what == "disconnect":
            self.ended += 1
            self.connected = False
        elif what == "number":
            self.connections[-1].append(value)
        elif what == "acked":
            self.acked.append(value)
        elif what == "upgrade":
            self.transport = value

    def __str__(self) -> str:
        shape = [f"{numbers[:1]}..{numbers[-1:]}" for numbers in self.connections]
        return f"{shape}, {len(self.acked)} acked, ended {self.ended} times, on {self.transport}"

    def check(self) -> None:
        """Hold that nothing is doubled, out of order, or missing without a word."""
        for numbers in self.connections:
            assert all(after == before + 1 for before, after in pairwise(numbers)), (
                "a gap within a connection"
            )
        everything = [number for numbers in self.connections for number in numbers]
        assert everything == sorted(set(everything)), "doubled or out of order between connections"
        assert self.acked == sorted(set(self.acked)), "acknowledged twice or out of order"


class World:
    """The broker, the proxy in front of it, and one client behind that.

    Attributes:
        broker: The broker.
        server: Where it listens itself.
        proxy: Where the client goes.
        heard: What the client has heard.
        saved: The numbers that the broker has saved for the client.
        reasons: Why sockets have ended.
        joined: How many sockets were let in.
        canary_id: The id of the canary's socket.
    """

    def __init__(self, broker: Broker, server: Server, proxy: ChaosProxy) -> None:
        self.broker = broker
        self.server = server
        self.proxy = proxy
        self.heard = Heard()
        self.saved: set[int] = set()
        self.reasons: Counter[str] = Counter()
        self.joined = 0
        self.canary_id = ""

    async def count(self) -> None:
        """Tell everybody one number after another."""
        number = 0
        while True:
            number += 1
            self.broker.emit("number", number)
            await trio.sleep(TICK)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something that must come about."""
        with trio.move_on_after(PATIENCE):
            while not holds():  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(TICK)
        assert holds(), f"{what}: {self.heard}, {self.reasons}"

    async def flows(self, more: int = 10) -> None:
        """Wait until so many numbers more have come, and one more was saved."""
        acked = len(self.heard.acked)
        connections = len(self.heard.connections)
        heard = sum(map(len, self.heard.connections))
        await self.until(lambda: self.heard.connected, "the client is not connected")
        await self.until(
            lambda: sum(map(len, self.heard.connections)) >= heard + more and len(self.heard.acked) > acked,
            f"nothing comes any more after {connections} connections",
        )

    async def comes_back(self) -> None:
        """Wait until the client has a new connection, and all flows over it."""
        connections = len(self.heard.connections)
        await self.until(
            lambda: len(self.heard.connections) > connections and self.heard.connected,
            "the client does not come back",
        )
        await self.flows()


class Canary:
    """A client that nothing is done to: it goes by no proxy, and must hear every number."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def listen(self, server: Server, task_status: trio.TaskStatus[str]) -> None:
        """Listen until cancelled; its socket's id is told."""
        line = await Line.open(server.port)
        try:
            await line.upgrade(f"{ENGINE}&transport=websocket")
            await line.read_text()
            await line.send_text("40")
            task_status.started(json.loads((await line.read_text())[2:])["sid"])
            while True:
                self.numbers.append(json.loads((await line.read_text())[2:])[1])
        finally:
            line.close()


@asynccontextmanager
async def world(kind: str, transport: str, **options: Any) -> AsyncIterator[World]:
    """Let a client of a kind live behind the proxy for the block, and hold what must hold at the end.

    Args:
        kind: `ours` or `javascript`.
        transport: A key of `TRANSPORTS`.
        options: Settings of the broker; `limits` is a mapping.
    """
    if kind == "javascript" and not HAS_CLIENT:
        pytest.skip("node, or tests/interop/node_modules, is missing: `make setup`")
    limits = Limits(**{"close_timeout": 0.5, **options.pop("limits", {})})
    broker = Broker(**{"ping_interval": 0.5, "ping_timeout": 0.5, "limits": limits, **options})
    async with serving(broker) as server, chaos_proxy(server.port) as proxy, trio.open_nursery() as nursery:
        here = World(broker, server, proxy)
        _listen(here)
        canary = Canary()
        here.canary_id = await nursery.start(canary.listen, server)
        nursery.start_soon(here.count)
        nursery.start_soon(_ours if kind == "ours" else _javascript, here, TRANSPORTS[transport])
        await here.flows()
        yield here
        nursery.cancel_scope.cancel()
    here.heard.check()
    assert set(here.heard.acked) <= here.saved, "acknowledged, but not saved"
    assert canary.numbers == list(range(canary.numbers[0], canary.numbers[0] + len(canary.numbers)))
    assert here.joined == sum(here.reasons.values()), "not one disconnect for each connect"


def _listen(here: World) -> None:
    @here.broker.on("connect")
    def connect(socket: Socket) -> None:
        here.joined += 1

    @here.broker.on("disconnect")
    def disconnect(socket: Socket, reason: str) -> None:
        here.reasons[reason] += 1

    @here.broker.on("save")
    async def save(socket: Socket, number: int) -> int:
        await trio.sleep(0.001)
        here.saved.add(number)
        return number


async def _ours(here: World, transports: tuple[str, ...]) -> None:
    options: dict[str, Any] = {
        "transports": transports,
        "reconnect": Backoff(initial=0.03, maximum=0.1),
        "connect_timeout": 3.0,
    }
    async with open_client(f"http://127.0.0.1:{here.proxy.port}", **options) as client:
        client.on("connect")(lambda: here.heard.take("connect", client.transport))
        client.on("disconnect")(lambda reason: here.heard.take("disconnect", reason))
        client.on("number")(lambda number: here.heard.take("number", number))
        client.io.on("upgrade")(lambda *_: here.heard.take("upgrade", "websocket"))
        await _save(here, client)


async def _save(here: World, client: Client) -> None:
    number = 1
    while True:
        await client.wait_connected()
        try:
            await client.call("save", number, timeout=1.0)
        except (AckTimeout, Disconnected):
            continue
        here.heard.take("acked", number)
        number += 1
        await trio.sleep(TICK / 2)


async def _javascript(here: World, transports: tuple[str, ...]) -> None:
    command = [
        str(NODE),
        str(HERE / "client.cjs"),
        f"http://127.0.0.1:{here.proxy.port}",
        ",".join(transports),
    ]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            lambda task_status: run_program(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
                task_status=task_status,
            )
        )
        try:
            rest = b""
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    here.heard.take(*json.loads(line))
        finally:
            process.kill()
