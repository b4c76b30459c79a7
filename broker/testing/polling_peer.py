"""A scripted client on long-polling, and single HTTP requests."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import h11
import trio

from .peers import ENGINE_PATH, Peer, PeerClosed


class HttpAnswer:
    """A response: `status`, `headers` with names in lower case, `body`."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def request(
    stream: trio.abc.Stream,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    host: str = "broker.test",
) -> HttpAnswer:
    """Send one request over a stream of its own, close it, and return the answer.

    Raises:
        PeerClosed: The server closed without an answer.
    """
    http = h11.Connection(h11.CLIENT)
    lines = [("Host", host), ("Connection", "close"), *(headers or {}).items()]
    if body is not None:
        lines.append(("Content-Length", str(len(body))))
    async with stream:
        data = http.send(h11.Request(method=method, target=target, headers=lines))
        data = (data or b"") + (http.send(h11.Data(body)) or b"" if body else b"")
        await stream.send_all(data + (http.send(h11.EndOfMessage()) or b""))
        status, found, received = 0, {}, bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                try:
                    http.receive_data(bytes(await stream.receive_some()))
                except trio.BrokenResourceError:
                    raise PeerClosed from None
            elif isinstance(event, h11.Response):
                status = event.status_code
                found = {name.decode().lower(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                received += event.data
            elif isinstance(event, h11.EndOfMessage):
                return HttpAnswer(status, found, bytes(received))
            else:
                raise PeerClosed


class PollingPeer(Peer):
    """A scripted client on long-polling; each request has a connection of its own.

    Args:
        connect: Opens a connection.
        path: Path and query, without transport and sid.
        pongs: Whether pings are answered and hidden.

    Attributes:
        sid: The session id, once `opened` was called.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        path: str = ENGINE_PATH,
        host: str = "broker.test",
        pongs: bool = False,
    ) -> None:
        super().__init__(pongs=pongs)
        self._connect = connect
        self._target = f"{path}&transport=polling"
        self._host = host
        self._waiting: deque[str] = deque()
        self.handshake: dict[str, Any] = {}
        self.sid: str | None = None

    async def opened(self) -> dict[str, Any]:
        """Open the session and return the object of the OPEN packet."""
        self.handshake = await self.expect("0", {"sid": str, ...: ...})
        self.sid = self.handshake["sid"]
        self._target += f"&sid={self.sid}"
        return self.handshake

    async def get(self) -> HttpAnswer:
        """Send a GET and return its answer."""
        return await request(await self._connect(), "GET", self._target, host=self._host)

    async def post(self, body: bytes | str) -> HttpAnswer:
        """Send a POST and return its answer."""
        data = body.encode() if isinstance(body, str) else body
        headers = {"Content-Type": "text/plain;charset=UTF-8"}
        return await request(await self._connect(), "POST", self._target, data, headers, self._host)

    async def _send(self, packet: str | bytes) -> None:
        text = packet if isinstance(packet, str) else "b" + b64encode(packet).decode()
        answer = await self.post(text)
        if answer.status != 200:
            raise PeerClosed(answer.status, answer.text)

    async def _receive(self) -> str | bytes:
        while not self._waiting:
            answer = await self.get()
            if answer.status != 200:
                raise PeerClosed(answer.status, answer.text)
            self._waiting.extend(answer.text.split("\x1e"))
        packet = self._waiting.popleft()
        return b64decode(packet[1:]) if packet[:1] == "b" else packet

    async def abort(self) -> None:
        """Do nothing: there is no connection between two requests."""
        await trio.lowlevel.checkpoint()
