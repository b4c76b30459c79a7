"""The harness: a broker, or a scripted server, on a network in memory, with clients and peers to try it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import trio
from trio.testing import MockClock

from broker.client.client import open_client
from broker.client.errors import ConnectError
from broker.server.broker import Broker

from .clients import HarnessClient
from .expecting import fits, unexpected
from .fake_server import FakeServer
from .faults import Wire
from .network import HOST, Connector, VirtualNetwork
from .peers import PATIENCE, WebSocketPeer
from .pipes import DEFAULT_BUFFER_BYTES
from .polling_peer import HttpAnswer, PollingPeer, request
from .transcript import STATE, Transcript

Via = Literal["websocket", "polling", "upgrade"]
URL = f"http://{HOST}"

_TRANSPORTS: dict[str, tuple[str, ...]] = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "upgrade": ("polling", "websocket"),
}

transcripts: list[Transcript] = []
"""Those of the harnesses that were opened, for the report of a failed test; the plugin empties it."""


class Harness:
    """A server on a network in memory; made by `open_harness`.

    Attributes:
        broker: The broker; None if the server is a scripted one.
        network: The network.
        wire: All connections, for faults.
        transcript: What goes over them.
        url: Where the server is, for `open_client(harness.url, connector=harness.connector)`.
        connector: The way to it.
    """

    def __init__(self, broker: Broker | None, network: VirtualNetwork, transcript: Transcript) -> None:
        self.broker = broker
        self.network = network
        self.wire = network.wire
        self.transcript = transcript
        self.url = URL
        self.connector: Connector = network.connector()
        self.nursery: trio.Nursery | None = None
        self._errors: list[logging.LogRecord] = []
        self._peers: list[WebSocketPeer] = []
        self._clients = 0

    # Clients

    async def connect(
        self,
        namespace: str = "/",
        *,
        transport: Via = "websocket",
        wait: bool = True,
        **options: Any,
    ) -> HarnessClient:
        """Connect our client, for as long as the harness is open.

        Args:
            namespace: What it joins.
            transport: `websocket`, `polling`, or `upgrade` from the one to the other.
            wait: Wait until it is connected, and has upgraded.
            options: Those of `open_client`.

        Raises:
            ConnectError: It was refused.
            AssertionError: It is not there within a minute of the test's clock.
        """
        assert self.nursery is not None, "the harness is not open"
        self._clients += 1
        wire = self.network.new_wire(f"client {self._clients}")
        given = {"transports": _TRANSPORTS[transport], "connector": self.network.connector(wire), **options}
        client: HarnessClient = await self.nursery.start(self._hold_client, namespace, wire, given)
        if wait:
            await _arrived(client, upgrade=transport == "upgrade")
        return client

    async def _hold_client(
        self,
        namespace: str,
        wire: Wire,
        options: dict[str, Any],
        *,
        task_status: trio.TaskStatus[HarnessClient],
    ) -> None:
        with trio.CancelScope() as scope:
            async with open_client(self.url, namespaces=(namespace,), **options) as opened:
                client = HarnessClient(opened, namespace, wire, scope)
                task_status.started(client)
                await client.watch()

    async def refused(
        self, message: str, namespace: str = "/", *, transport: Via = "websocket", **options: Any
    ) -> ConnectError:
        """Hold that a client is refused with this message; return the refusal, which has its data."""
        client = await self.connect(namespace, transport=transport, wait=False, **options)
        try:
            await client.client.wait_connected()
        except ConnectError as error:
            if not fits(message, error.message):
                raise unexpected("it was refused otherwise", message, error.message) from None
            return error
        finally:
            await client.close()  # noqa: ASYNC102 - a test cancelled here is over
        raise AssertionError(f"expected a refusal with {message!r}, but the client was let in")

    # Peers

    async def peer(self, *, wire: Wire | None = None, **options: Any) -> WebSocketPeer:
        """Connect a scripted peer over a WebSocket; nothing is received yet. See `WebSocketPeer.open`."""
        peer = await WebSocketPeer.open(await self.network.connect(wire=wire), **options)
        self._peers.append(peer)
        return peer

    async def joined_peer(self, namespace: str = "/", auth: Any = None, **options: Any) -> WebSocketPeer:
        """Connect a scripted peer, open its session and join a namespace."""
        peer = await self.peer(**options)
        await peer.opened()
        await peer.join(namespace, auth)
        return peer

    async def polling_peer(self, *, wire: Wire | None = None, **options: Any) -> PollingPeer:
        """Return a scripted peer on long-polling, whose session is opened. See `PollingPeer`."""

        async def connect() -> trio.abc.Stream:
            return await self.network.connect(wire=wire)

        peer = PollingPeer(connect, **options)
        await peer.opened()
        return peer

    async def request(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> HttpAnswer:
        """Send one HTTP request and return its answer."""
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        return await request(await self.network.connect(), method, target, body, lines)

    # Time

    async def sleep(self, seconds: float) -> None:
        """Let time pass; with a clock that jumps, at once."""
        await trio.sleep(seconds)

    def step_clock(self, seconds: float) -> None:
        """Set the clock forward at one blow, as after a suspension of the machine.

        Raises:
            RuntimeError: The clock is a real one.
        """
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, MockClock):
            raise RuntimeError("only a MockClock can be set")
        self.note(f"the clock steps forward by {seconds:g} s")
        clock.jump(seconds)

    async def settled(self) -> None:
        """Wait until everybody waits."""
        await trio.testing.wait_all_tasks_blocked()

    def note(self, text: str) -> None:
        """Write a line into the transcript."""
        self.transcript.record("", STATE, "state", text)

    # Errors

    def take_errors(self) -> list[str]:
        """Return the errors that were logged, and forget them: one that nobody takes fails the test."""
        errors = [*map(_told, self._errors), *map(repr, self.network.failures)]
        self._errors.clear()
        self.network.failures.clear()
        return errors

    def close_peers(self) -> None:
        """Close the connections of the scripted peers."""
        for link in tuple(self.network.wire.links):
            if any(link.client is peer.stream for peer in self._peers):
                link.client.close()


async def _arrived(client: HarnessClient, *, upgrade: bool) -> None:
    upgraded = trio.Event()
    opened = client.client
    opened.io.on("upgrade")(upgraded.set)
    with trio.move_on_after(client.patience):
        await opened.wait_connected()
        if upgrade and opened.transport == "polling":
            await upgraded.wait()
        opened.io.off("upgrade")
        return
    missing = "upgraded to a WebSocket" if opened.connected else "been connected"
    raise AssertionError(f"the client has not {missing} in {client.patience:g} s")


def _told(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f": {record.exc_info[1]!r}"
    return text


@asynccontextmanager
async def open_harness(
    server: Broker | FakeServer,
    *,
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    transcript_limit: int | None = None,
) -> AsyncIterator[Harness]:
    """Serve on a network in memory for as long as the block runs.

    At its end the clients leave in good order, the broker ends, and nothing may be left: a task, a connection
    or a logged error that nobody took fails the test.

    Args:
        server: A broker, open or not; or a scripted server.
        buffer_bytes: How much may be on the way in each direction of a connection.
        transcript_limit: How many lines of the transcript are kept.

    Raises:
        AssertionError: Something was left behind.
    """
    transcript = Transcript() if transcript_limit is None else Transcript(transcript_limit)
    transcripts.append(transcript)
    tasks = trio.lowlevel.current_statistics().tasks_living
    broker = server if isinstance(server, Broker) else None
    with plain_errors(), _logged_errors() as errors:
        async with trio.open_nursery() as servers:
            network = VirtualNetwork(servers, transcript, buffer_bytes)
            harness = Harness(broker, network, transcript)
            harness._errors = errors
            network.listen(server.serve if isinstance(server, FakeServer) else server.handle_stream)
            async with _running(broker):
                async with trio.open_nursery() as clients:
                    harness.nursery = clients
                    yield harness
                    harness.wire.heal()
                    clients.cancel_scope.cancel()
                harness.close_peers()
            servers.cancel_scope.cancel()
    await _check(harness, tasks)


@asynccontextmanager
async def _running(broker: Broker | None) -> AsyncIterator[None]:
    if broker is None or broker.is_open:
        yield
        return
    async with broker:
        yield


async def _check(harness: Harness, tasks: int) -> None:
    """Hold that nothing is left."""
    with trio.move_on_after(PATIENCE):
        await trio.testing.wait_all_tasks_blocked()
    living = trio.lowlevel.current_statistics().tasks_living
    assert living <= tasks, f"{living - tasks} tasks are left behind"
    left = [link.name for link in harness.wire.links]
    assert not left, f"connections are left open: {', '.join(left)}"
    errors = harness.take_errors()
    assert not errors, "errors that the test did not take (harness.take_errors()):\n" + "\n".join(errors)


@contextmanager
def _logged_errors() -> Iterator[list[logging.LogRecord]]:
    found: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    collector = Collector(logging.ERROR)
    logger = logging.getLogger("broker")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Take the groups around a single error off it, so that a test shows the error."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None  # noqa: ASYNC123 - the group has no other
