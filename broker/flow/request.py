"""One HTTP request to the engine, whoever parsed it, and what a socket remembers of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from protocol.engineio.handshake import EngineRequest, parse_query
from protocol.http_head import Header, first_value


@frozen(kw_only=True)
class HttpRequest:
    """An HTTP request as far as admission looks at it.

    Attributes:
        method: HTTP method, upper case.
        path: Path, percent-decoded or not as it came, without the query.
        query_string: What stands behind the question mark.
        headers: Names in lower case with values, in order.
        address: Address of the peer; empty if there is none, as on a Unix socket.
        secure: Whether it came over TLS.
        websocket: Whether it asks for a WebSocket.
        response_headers: Headers that middlewares and header hooks add to the answer.
        door: What it came in through: one call of `Broker.serve`, or one ASGI application; None for others.
    """

    method: str
    path: str
    query_string: str
    headers: tuple[Header, ...]
    address: str
    secure: bool
    websocket: bool = False
    response_headers: list[Header] = field(factory=list)
    door: object = field(default=None, eq=False, repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return first_value(self.headers, name)

    @property
    def url(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query_string}" if self.query_string else self.path

    def engine_request(self) -> EngineRequest | None:
        """Return the request as the protocol checks it; None if the query is absurd."""
        query = parse_query(self.query_string)
        if query is None:
            return None
        return EngineRequest(self.method, query, self.websocket, self.header("origin"))


@frozen(kw_only=True)
class Handshake:
    """What the first request of a session and the CONNECT of a namespace said.

    Attributes:
        headers: By lower-case name; repeated ones are joined by `, `.
        query: Last value of each parameter of the first request.
        auth: The object that the client sent with CONNECT; empty if none.
        address: Address of the peer.
        secure: Whether it came over TLS.
        xdomain: Whether a browser page of some origin sent it.
        url: Path and query of the first request.
        time: When the session was opened, UTC.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    auth: Mapping[str, Any]
    address: str
    secure: bool
    xdomain: bool
    url: str
    time: datetime


_NO_AUTH: Mapping[str, Any] = MappingProxyType({})


class Opening:
    """The first request of a session, kept small: handshakes are built from it when they are asked for."""

    __slots__ = ("_request", "_time")

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._time = datetime.now(UTC)

    @property
    def request(self) -> HttpRequest:
        """The request."""
        return self._request

    def handshake(self, auth: Mapping[str, Any] | None) -> Handshake:
        """Build the handshake of one namespace. Spec: SIO-CON-2."""
        request = self._request
        headers: dict[str, str] = {}
        for name, value in request.headers:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        query = parse_query(request.query_string) or {}
        return Handshake(
            headers=headers,
            query={name: values[-1] for name, values in query.items()},
            auth=_NO_AUTH if auth is None else auth,
            address=request.address,
            secure=request.secure,
            xdomain="origin" in headers,
            url=request.url,
            time=self._time,
        )
