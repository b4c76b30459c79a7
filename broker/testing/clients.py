"""Our client in a test: its events are noted, and assertions about them read well."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from broker.client.client import Client
from broker.client.errors import ConnectError
from broker.client.events import Event
from broker.client.socket import ClientSocket
from broker.flow.outbox import Verdict

from .expecting import fits, unexpected
from .faults import Wire
from .peers import PATIENCE


class HarnessClient:
    """A client and what it has received; made by `Harness.connect`.

    Attributes:
        client: The client itself.
        wire: Its connections, for faults.
        patience: Seconds, of the test's clock, until something expected is given up.
        disconnects: The reasons of its disconnects, in order.
    """

    def __init__(self, client: Client, namespace: str, wire: Wire, scope: trio.CancelScope) -> None:
        self.client = client
        self.socket: ClientSocket = client.of(namespace)
        self.wire = wire
        self.patience = PATIENCE
        self.disconnects: list[str] = []
        self._events: deque[Event] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        self._scope = scope
        self.socket.on("disconnect")(self._on_disconnect)
        self.socket.on("connect")(self._changed.unpark_all)

    def _on_disconnect(self, reason: str, *_: Any) -> None:
        self.disconnects.append(str(reason))
        self._changed.unpark_all()

    async def watch(self) -> None:
        """Note the events, until cancelled."""
        while True:
            # An iteration ends with the last namespace; whoever waits for a connection is told of a refusal.
            with suppress(ConnectError):
                async for event in self.client:
                    self._events.append(event)
                    self._changed.unpark_all()
            await self._changed.park()

    # What it does

    @property
    def id(self) -> str | None:
        """The id of its socket; None while it is not connected."""
        return self.socket.id

    @property
    def connected(self) -> bool:
        """Whether it is connected."""
        return self.socket.connected

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event; see `ClientSocket.emit`."""
        return self.socket.emit(event, *args)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and wait for its ack; see `ClientSocket.call`."""
        return await self.socket.call(event, *args, timeout=timeout)

    async def close(self) -> None:
        """Leave in good order."""
        self.client.disconnect()
        await self.client.close()
        self._scope.cancel()

    async def kill(self) -> None:
        """Vanish: its connections are cut, and it is no more."""
        self.wire.cut()
        self._scope.cancel()
        await trio.lowlevel.checkpoint()

    # What is expected of it

    async def received(self, event: str, *args: Any) -> Event:
        """Hold that the next event is this one; see `fits` for what may stand for arguments.

        Raises:
            AssertionError: It is another one, or none comes; with a diff.
        """
        await self._until(lambda: bool(self._events), f"event {event!r}")
        found = self._events.popleft()
        if found.name != event or not fits(list(args), list(found.args)):
            raise unexpected(
                "the next event is another one",
                [event, *args],
                [found.name, *found.args],
                [[one.name, *one.args] for one in self._events],
            )
        return found

    async def received_eventually(self, event: str, *args: Any) -> Event:
        """Hold that this event comes; those before it are passed over."""
        seen: list[Event] = []

        def there() -> bool:
            while self._events:
                seen.append(self._events.popleft())
                if seen[-1].name == event and fits(list(args), list(seen[-1].args)):
                    return True
            return False

        try:
            await self._until(there, f"event {event!r}")
        except AssertionError:
            found = [[one.name, *one.args] for one in seen]
            raise unexpected(f"event {event!r} did not come", [[event, *args]], found) from None
        return seen[-1]

    async def no_more_events(self, seconds: float = 1.0) -> None:
        """Hold that no event is left, and none comes for so many seconds."""
        with trio.move_on_after(seconds):
            while not self._events:
                await self._changed.park()
        if self._events:
            found = [[one.name, *one.args] for one in self._events]
            raise unexpected("there are more events", [], found)

    async def acked(self, event: str, *args: Any, answer: Any = ..., timeout: float | None = None) -> Any:
        """Send an event and hold that its ack comes, with this answer if one is given; return the answer."""
        found = await self.socket.call(event, *args, timeout=self.patience if timeout is None else timeout)
        if not fits(answer, found):
            raise unexpected(f"the ack of {event!r} is another one", answer, found)
        return found

    async def refused(self, code: str, event: str, *args: Any) -> dict[str, Any]:
        """Send an event and hold that it is refused with this code; return the whole refusal."""
        found = await self.socket.call(event, *args, timeout=self.patience)
        expected = {"error": {"code": code, ...: ...}}
        if not fits(expected, found):
            raise unexpected(f"{event!r} was not refused so", expected, found)
        error: dict[str, Any] = found["error"]
        return error

    async def disconnected(self, reason: str | None = None) -> str:
        """Hold that it has been or is being disconnected, with this reason if one is given."""
        await self._until(lambda: bool(self.disconnects), "a disconnect")
        found = self.disconnects.pop(0)
        if reason is not None and found != reason:
            raise unexpected("the reason is another one", reason, found)
        return found

    async def reconnected(self) -> None:
        """Wait until it is connected again."""
        await self._until(lambda: self.socket.connected, "a connection")

    async def _until(self, there: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(self.patience):
            while not there():
                await self._changed.park()
            return
        raise AssertionError(f"{what} did not come in {self.patience:g} s")
