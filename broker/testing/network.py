"""A network in memory: hosts that listen, connections with bounds, faults and a transcript."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from .faults import Rule, Wire
from .pipes import DEFAULT_BUFFER_BYTES, Pipe, VirtualStream, stream_pair
from .transcript import CLOSED, RECEIVED, SENT, STATE, Transcript
from .wire import WireReader

Connector = Callable[[str, int], Awaitable[trio.abc.Stream]]
Serve = Callable[[trio.abc.Stream], Awaitable[None]]

HOST = "broker.test"
"""The name under which a harness serves its broker."""


class Link:
    """One connection: its two ends, what is done to it, and what it carries, for the transcript.

    Args:
        name: How the transcript calls it.
        wires: Whose connection it is.
        transcript: Where its messages are noted; None notes nothing.
        buffer_bytes: How much may be on the way in each direction.
    """

    def __init__(
        self, name: str, wires: tuple[Wire, ...], transcript: Transcript | None, buffer_bytes: int
    ) -> None:
        self.name = name
        self.wires = wires
        self.client, self.server = stream_pair(buffer_bytes)
        self._transcript = transcript
        self._broken = False
        for mark, stream in ((RECEIVED, self.client), (SENT, self.server)):
            stream.on_send = partial(_Way(self, mark).pass_on)
            stream.outgoing.on_cut = self.cut
        self.client.on_close = partial(self._closed, "the client closes")
        self.server.on_close = partial(self._closed, "the server closes")
        for wire in wires:
            wire.add(self)
        self.apply()

    @property
    def is_open(self) -> bool:
        """Whether an end of it is still open."""
        return not (self.client.closed and self.server.closed)

    def pipe(self, way: str) -> Pipe:
        """Return one direction of it: `to_server` or `to_client`."""
        return self.client.outgoing if way == "to_server" else self.server.outgoing

    def apply(self) -> None:
        """Do to it what its wires say."""
        for way in ("to_server", "to_client"):
            pipe = self.pipe(way)
            pipe.held = any(wire.holds(way) for wire in self.wires)
            pipe.latency = sum(wire.latency_of() for wire in self.wires)
            bounds = [bound for wire in self.wires if (bound := wire.trickle_of(way)) is not None]
            pipe.trickle = min(bounds) if bounds else None
            pipe.wake()

    def cut(self) -> None:
        """Break it, as a reset does."""
        if not self._broken:
            self._broken = True
            self.note(CLOSED, "close", "cut")
            self.client.outgoing.break_off()
            self.server.outgoing.break_off()

    def rule_for(self, mark: str, text: str) -> Rule | None:
        """Return what is to be done to a message, if anything is."""
        for wire in self.wires:
            for rule in wire.rules:
                if rule.takes(mark, text):
                    if not rule.left:
                        wire.rules.remove(rule)
                    return rule
        return None

    @property
    def has_rules(self) -> bool:
        """Whether anything is to be done to single messages."""
        for wire in self.wires:  # noqa: SIM110 - a generator costs more, for each message
            if wire.rules:
                return True
        return False

    def note(self, mark: str, kind: str, text: str, payload: bytes = b"") -> None:
        """Write a line of the transcript."""
        if self._transcript is not None:
            self._transcript.record(self.name, mark, kind, text, payload)

    def _closed(self, text: str) -> None:
        if not self._broken:
            self.note(CLOSED, "close", text)
        if not self.is_open:
            for wire in self.wires:
                wire.links.remove(self)


class _Way:
    """One direction of a link: notes its messages, and drops, delays or cuts those that a rule takes."""

    def __init__(self, link: Link, mark: str) -> None:
        self._link = link
        self._mark = mark
        self._reader = WireReader()
        self._passed = 0  # so much of a message that is not whole has gone on already

    def pass_on(self, data: bytes) -> list[tuple[bytes, float]]:
        link, mark, reader = self._link, self._mark, self._reader
        begun = reader.pending
        units = reader.feed(data)
        if not link.has_rules:
            for unit in units:
                link.note(mark, unit.kind, unit.text, unit.payload)
            held, self._passed = begun[self._passed :], len(reader.pending)
            return [(held + data, 0.0)]
        pieces: list[tuple[bytes, float]] = []
        for unit in units:
            rest, self._passed = unit.raw[self._passed :], 0
            rule = link.rule_for(mark, unit.text)
            if rule is None:
                link.note(mark, unit.kind, unit.text, unit.payload)
                pieces.append((rest, 0.0))
            elif rule.action == "delay":
                link.note(mark, unit.kind, f"{unit.text}  [{rule.seconds:g} s late]", unit.payload)
                pieces.append((rest, rule.seconds))
            elif rule.action == "drop":
                link.note(STATE, "state", f"dropped: {mark} {unit.text}")
            else:
                link.note(STATE, "state", f"cut in place of: {mark} {unit.text}")
                link.cut()
                break
        return pieces


class VirtualNetwork:
    """Hosts in memory; safe with a clock that jumps, for nothing here waits for the world outside.

    Args:
        nursery: Where servers run.
        transcript: Where messages are noted; None notes nothing.
        buffer_bytes: How much may be on the way in each direction of a connection.

    Attributes:
        wire: All connections, for faults.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        transcript: Transcript | None = None,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    ) -> None:
        self._nursery = nursery
        self._transcript = transcript
        self._buffer_bytes = buffer_bytes
        self._hosts: dict[str, Serve] = {}
        self._count = 0
        self.wire = self.new_wire("all")
        self.failures: list[Exception] = []

    def new_wire(self, name: str) -> Wire:
        """Return a handle on connections that are still to come; see `connector`."""
        return Wire(name, self.note)

    def note(self, text: str) -> None:
        """Write a line about the state of the network into the transcript."""
        if self._transcript is not None:
            self._transcript.record("", STATE, "state", text)

    def listen(self, serve: Serve, host: str = HOST) -> None:
        """Serve the connections to a host: `serve` is called with the stream of each."""
        self._hosts[host] = serve

    def connector(self, wire: Wire | None = None) -> Connector:
        """Return what `open_client(connector=...)` takes."""

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return await self.connect(host, wire)

        return connect

    async def connect(self, host: str = HOST, wire: Wire | None = None) -> VirtualStream:
        """Open a connection.

        Raises:
            ConnectionRefusedError: Nobody listens there, or the network refuses.
        """
        await trio.lowlevel.checkpoint()
        wires = (self.wire,) if wire is None else (self.wire, wire)
        for one in wires:
            await one.wait_reachable()
        if host not in self._hosts or any(one.refusing for one in wires):
            raise ConnectionRefusedError(f"nobody listens at {host}")
        self._count += 1
        link = Link(f"#{self._count}", wires, self._transcript, self._buffer_bytes)
        self._nursery.start_soon(self._serve, self._hosts[host], link.server)
        return link.client

    async def _serve(self, serve: Serve, stream: VirtualStream) -> None:
        try:
            await serve(stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the connection has ended in the middle: a server that accepts by itself sees the same
        except Exception as error:
            self.failures.append(error)
        finally:
            stream.close()
