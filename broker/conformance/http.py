"""One HTTP request and its response, over a connection of their own, with h11 as the reader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import h11
import trio

from .cases import Deviation

Headers = Iterable[tuple[str, str]]
_WHY = re.compile(r"(?<![^\x1e])1\{[^\x1e]*$")


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; header names are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the values of a header, joined; None if it is not there."""
        values = [value for known, value in self.headers if known == name]
        return ", ".join(values) if values else None

    @property
    def text(self) -> str:
        """The body as text; of a CLOSE only the digit, since why may stand behind it (EIO-CLOSE-3)."""
        return _WHY.sub("1", self.body.decode(errors="replace"))

    @property
    def code(self) -> Any:
        """The code of a refusal; None if its body has none."""
        body = self.json
        return body.get("code") if isinstance(body, dict) else None

    @property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            Deviation: It is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise Deviation(f"the body is not JSON: {self.body[:100]!r}") from None


def request_head(
    method: str, target: str, authority: str, headers: Headers = (), body: bytes | None = None
) -> bytes:
    """Write a request's head, with Host and Content-Length unless `headers` have them."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {authority}")
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class ResponseReader:
    """Reads responses, one after another, from one stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.rest = b""

    async def receive(self, method: str = "GET") -> Response:
        """Read the response to a request of this method.

        Raises:
            Deviation: The server closed the connection instead, or does not speak HTTP.
        """
        reader = h11.Connection(h11.CLIENT)
        # The reader must believe that an upgrade was asked for, else it takes no 101.
        upgrade = [("Host", "x"), ("Upgrade", "websocket"), ("Connection", "upgrade")]
        reader.send(h11.Request(method=method, target="/", headers=upgrade))
        reader.send(h11.EndOfMessage())
        if self.rest:
            reader.receive_data(self.rest)
        response: h11.Response | h11.InformationalResponse | None = None
        body = bytearray()
        try:
            while True:
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    reader.receive_data(bytes(await self.stream.receive_some()))
                elif isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                    continue
                elif isinstance(event, (h11.Response, h11.InformationalResponse)):
                    response = event
                    if event.status_code == 101:
                        break
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    raise Deviation("the server closed the connection without an answer")
        except h11.RemoteProtocolError as error:
            raise Deviation(f"no HTTP answer: {error}") from None
        except trio.BrokenResourceError:
            raise Deviation("the server broke the connection instead of an answer") from None
        self.rest = reader.trailing_data[0]
        assert response is not None
        headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in response.headers]
        return Response(response.status_code, headers, bytes(body))
