"""The laboratory of one case against a server: opens peers, keeps the transcript, cleans up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from .cases import Late, Skip
from .http import Headers, Response, ResponseReader, request_head
from .polling import PollingPeer
from .target import Fixture, Target
from .transcript import RecordingStream, Transcript
from .websocket import WebSocketPeer, upgrade_headers

DEADLINE = 4.0
"""Seconds after which a case that still waits has failed."""

SLOW_BUFFER = 65_536
"""Bytes that the kernel takes in advance for a client that reads slowly."""


class ServerLab:
    """What a case against a server works with.

    Attributes:
        fixture: The server under test.
        target: The one of its servers that the case speaks to.
        patience: Seconds within which what has to happen at once must have happened.
        transcript: What was on the wire.
        rate: Bytes a second that connections take from now on; None for all that come.
    """

    def __init__(
        self, fixture: Fixture, transcript: Transcript, nursery: trio.Nursery, patience: float
    ) -> None:
        self.fixture = fixture
        self.target = fixture.main
        self.patience = patience
        self.transcript = transcript
        self.rate: float | None = None
        self._nursery = nursery
        self._streams: list[trio.abc.Stream] = []

    def use(self, name: str) -> Target:
        """Speak to a further server of the fixture from now on."""
        self.target = self.fixture.server(name)
        return self.target

    async def connect(self) -> trio.abc.Stream:
        """Open a connection to the server."""
        # A kernel that takes megabytes in advance would hide how slowly they are read.
        found = await self.target.connect(receive_buffer=None if self.rate is None else SLOW_BUFFER)
        stream = RecordingStream(found, self.transcript, "C>", "S>", self.rate)
        self._streams.append(stream)
        return stream

    def query(self, query: str) -> str:
        """Write the target of a request."""
        return f"{self.target.path}?{query}"

    # HTTP

    async def http(
        self, method: str, query: str, headers: Headers = (), body: bytes | str | None = None
    ) -> Response:
        """Send a request over a connection of its own and return the response."""
        reader = await self.send_http(method, query, headers, body)
        return await self.answer(reader, method)

    async def send_http(
        self, method: str, query: str, headers: Headers = (), body: bytes | str | None = None
    ) -> ResponseReader:
        """Send a request over a connection of its own; read the answer later."""
        stream = await self.connect()
        data = body.encode() if isinstance(body, str) else body
        head = request_head(method, self.query(query), self.target.authority, list(headers), data)
        try:
            await stream.send_all(head + (data or b""))
        except trio.BrokenResourceError:
            pass  # a server may answer before it has read all, and the answer tells
        return ResponseReader(stream)

    async def answer(self, reader: ResponseReader, method: str = "GET", within: float = DEADLINE) -> Response:
        """Read an answer.

        Raises:
            Late: None came in time.
        """
        with trio.move_on_after(within):
            return await reader.receive(method)
        raise Late(f"no answer to {method} within {within:g} s")

    async def raw_http(self, data: bytes, method: str = "GET", within: float = DEADLINE) -> Response:
        """Send bytes as they are over a connection of their own and read a response."""
        stream = await self.connect()
        await stream.send_all(data)
        return await self.answer(ResponseReader(stream), method, within)

    # Sessions

    async def polling(self, extra: str = "", headers: Headers = ()) -> PollingPeer:
        """Open a session on polling.

        Raises:
            Skip: The fixture has no polling.
        """
        if "polling" not in self.fixture.transports:
            raise Skip("the fixture has no polling")
        peer = PollingPeer(self, list(headers))
        await peer.open(extra)
        return peer

    async def websocket(
        self,
        query: str = "EIO=4&transport=websocket",
        *,
        pongs: bool = True,
        headers: Headers = (),
        behind: bytes = b"",
    ) -> WebSocketPeer:
        """Send a WebSocket handshake with bytes right behind it; the peer has the answer."""
        stream = await self.connect()
        names = dict(upgrade_headers()) | dict(headers)
        head = request_head("GET", self.query(query), self.target.authority, list(names.items()))
        peer = WebSocketPeer(stream, pongs=pongs)
        await stream.send_all(head + behind)
        with trio.move_on_after(DEADLINE) as scope:
            await peer.handshake()
        if scope.cancelled_caught:
            raise Late("no answer to the WebSocket handshake")
        if peer.answered.status == 101:
            self._nursery.start_soon(peer.pump)
        return peer

    async def session(self, *, pongs: bool = True, headers: Headers = ()) -> WebSocketPeer:
        """Open a session on WebSocket, OPEN received."""
        peer = await self.websocket(pongs=pongs, headers=headers)
        await peer.opened()
        return peer

    async def member(
        self, namespace: str = "/", auth: Any = None, *, pongs: bool = True, headers: Headers = ()
    ) -> WebSocketPeer:
        """Open a session on WebSocket and join a namespace; the `auth` event is taken."""
        peer = await self.session(pongs=pongs, headers=headers)
        await peer.join(namespace, auth)
        return peer

    async def watcher(self) -> WebSocketPeer:
        """Join `/` and the room whose members see what `shout` says."""
        peer = await self.member()
        await peer.emit("join", "watchers")
        await peer.echo("joined")
        return peer

    async def polling_member(self, namespace: str = "/", auth: Any = None) -> PollingPeer:
        """Open a session on polling and join a namespace; the `auth` event is taken."""
        peer = await self.polling()
        await peer.join(namespace, auth)
        return peer

    async def probe(self, sid: str, *, behind: bytes = b"") -> WebSocketPeer:
        """Open a WebSocket for a session."""
        return await self.websocket(f"EIO=4&transport=websocket&sid={sid}", behind=behind)

    async def upgraded(self) -> tuple[PollingPeer, WebSocketPeer]:
        """Open a session on polling, join `/`, and move to a WebSocket."""
        peer = await self.polling_member()
        probe = await self.probe(peer.sid)
        probe.answered_101()
        await probe.send("2probe")
        await probe.expect("3probe")
        await probe.send("5")
        return peer, probe

    def start_soon(self, function: Any, *args: Any) -> None:
        """Run something beside the case."""
        self._nursery.start_soon(function, *args)

    async def close(self) -> None:
        """Close all connections."""
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_lab(
    fixture: Fixture, transcript: Transcript, patience: float | None = None
) -> AsyncIterator[ServerLab]:
    """Open a laboratory for one case, with the fixture's patience if no other is given."""
    async with trio.open_nursery() as nursery:
        lab = ServerLab(fixture, transcript, nursery, patience or fixture.patience)
        try:
            yield lab
        finally:
            # What runs beside the case is stopped first: it must not see its connections closed.
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await lab.close()


def joined(packets: Iterable[str]) -> str:
    """Write packets as one payload."""
    return "\x1e".join(packets)
