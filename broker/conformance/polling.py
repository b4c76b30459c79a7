"""A client on the polling transport, each request over a connection of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from .cases import Deviation, expect, expect_equal
from .http import Headers, Response, ResponseReader
from .packets import Event, connect_packet, parse_connected, parse_event

if TYPE_CHECKING:
    from .lab import ServerLab

SEPARATOR = "\x1e"


class PollingPeer:
    """One session on polling.

    Attributes:
        lab: The laboratory.
        opened: The response to the handshake.
        open_packet: The object of OPEN.
    """

    def __init__(self, lab: ServerLab, headers: list[tuple[str, str]]) -> None:
        self.lab = lab
        self.opened = Response(0, [], b"")
        self.open_packet: dict[str, Any] = {}
        self._headers = headers
        self._waiting: list[str] = []

    async def open(self, extra: str = "") -> None:
        """Send the handshake."""
        self.opened = await self.lab.http("GET", "EIO=4&transport=polling" + extra, self._headers)
        expect_equal(self.opened.status, 200, "status of the handshake")
        first, *self._waiting = self.opened.text.split(SEPARATOR)
        expect(first.startswith("0{"), f"expected OPEN, got {first!r}")
        self.open_packet = json.loads(first[1:])

    @property
    def sid(self) -> str:
        """The session id."""
        return str(self.open_packet["sid"])

    @property
    def query(self) -> str:
        """The query of all further requests."""
        return f"EIO=4&transport=polling&sid={self.sid}"

    async def get(self, within: float = 4.0) -> Response:
        """Send a GET and wait for its answer."""
        return await self.lab.answer(await self.begin_get(), "GET", within)

    async def begin_get(self) -> ResponseReader:
        """Send a GET and leave it there."""
        return await self.lab.send_http("GET", self.query, self._headers)

    async def parked(self) -> ResponseReader:
        """Send a GET and give the server time to park it; the next PING is an interval away."""
        await self.post("3")
        reader = await self.begin_get()
        # Longer than what counts as a slow machine, so that a GET that is late here is noticed.
        await trio.sleep(self.lab.patience / 2)
        return reader

    async def post(self, body: str | bytes, headers: Headers = ()) -> Response:
        """Send a POST and return its answer."""
        return await self.lab.http("POST", self.query, [*self._headers, *headers], body)

    async def send(self, *packets: str) -> None:
        """Post packets as one payload."""
        response = await self.post(SEPARATOR.join(packets))
        expect_equal(response.status, 200, "answer to the POST")

    async def keep_alive(self) -> None:
        """Give a sign of life again and again, for a case that has to wait; run it beside the case."""
        while True:
            await self.post("3")
            await trio.sleep(0.1)

    async def receive(self) -> str:
        """Return the next packet but pings, which are answered."""
        while True:
            if not self._waiting:
                response = await self.get()
                expect_equal(response.status, 200, f"status of the GET, body {response.text[:100]!r}")
                self._waiting = response.text.split(SEPARATOR)
            packet = self._waiting.pop(0)
            if packet != "2":
                return packet
            await self.send("3")

    async def event(self) -> Event:
        """Receive one event or ack with its attachments."""
        text = await self.receive()
        event = parse_event(text)
        if event is None:
            raise Deviation(f"expected an event or ack, got {text!r}")
        event.attachments = [(await self.receive()).encode() for _ in range(event.count)]
        return event

    async def join(self, namespace: str = "/", auth: Any = None) -> str:
        """Join a namespace; returns the socket id. The `auth` event behind it is taken."""
        await self.send(connect_packet(namespace, auth))
        socket_id = parse_connected(await self.receive(), namespace)
        event = await self.event()
        expect_equal((event.namespace, event.name), (namespace, "auth"), "first event of the fixture")
        return socket_id

    async def echo(self, *args: Any) -> None:
        """Hold that the session works."""
        await self.send("42" + json.dumps(["message", *args]))
        event = await self.event()
        expect_equal((event.name, event.args), ("message-back", list(args)), "echo")

    async def expect_gone(self) -> None:
        """Hold that the session has ended: its id is unknown."""
        response = await self.lab.http("POST", self.query, self._headers, "6")
        expect_equal(response.status, 400, "status of a request for a session that has ended")
        expect_equal(response.code, 1, "code of a request for a session that has ended")

    async def expect_alive(self) -> None:
        """Hold that the session still exists, by a request that is refused and disturbs nothing."""
        response = await self.lab.http("PUT", self.query)
        gone = response.status == 400 and response.code == 1
        expect(not gone, "the session has ended")
