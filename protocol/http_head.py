"""The head of an HTTP/1.1 request: parsed by h11, answered to with a WebSocket handshake or a refusal."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .jsontext import dump
from .limits import Limits
from .reasons import Refusal, Refused

HEAD_END = b"\r\n\r\n"
WEBSOCKET_VERSION = "13"

_KEY_BYTES = 16

Header = tuple[str, str]

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def first_value(headers: tuple[Header, ...], name: str) -> str | None:
    """Return the first value of a header, by its lower-case name; None if it is absent."""
    for known, value in headers:
        if known == name:
            return value
    return None


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Request line and headers.

    Attributes:
        method: HTTP method.
        target: Request target as it stood on the line.
        headers: Names in lower case with values, in order, latin-1.
    """

    method: str
    target: str
    headers: tuple[Header, ...]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return first_value(self.headers, name)

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for a WebSocket."""
        return (self.header("upgrade") or "").strip().lower() == "websocket"

    @property
    def path(self) -> str:
        """The target without its query, and without scheme and host if a proxy sent them."""
        target = self.target.partition("?")[0]
        if target.startswith("/"):
            return target
        return "/" + target.partition("://")[2].partition("/")[2]

    @property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self.target.partition("?")[2]


def parse_head(data: bytes, limits: Limits) -> RequestHead | Refused:
    """Parse a complete request head. Spec: LIM-2."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        too_large = error.error_status_hint == Refusal.HEAD_TOO_LARGE.status
        # Behind the colon h11 quotes the line, which may hold a secret.
        detail = str(error).partition(":")[0]
        return Refused(Refusal.HEAD_TOO_LARGE if too_large else Refusal.BAD_HTTP, detail)
    if not isinstance(event, h11.Request):
        return Refused(Refusal.BAD_HTTP, "the request head is incomplete")
    if len(event.headers) > limits.header_count:
        return Refused(Refusal.HEAD_TOO_LARGE, f"more than {limits.header_count} header fields")
    return RequestHead(
        event.method.decode("ascii"),
        event.target.decode("ascii"),
        tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers),
    )


def choose_subprotocol(offered: Sequence[str]) -> str | None:
    """Choose one of the subprotocols that a client offers: the first. Spec: WS-1."""
    return next(filter(None, offered), None)


def accept_websocket(head: bytes, headers: tuple[Header, ...]) -> bytes | Refused:
    """Answer a WebSocket handshake. Spec: WS-1.

    No extension is agreed to.

    Args:
        head: The request head as it came, up to and with the empty line.
        headers: Further headers of the answer.

    Returns:
        The bytes of the 101 response, or why the handshake is refused.
    """
    refused = _check_opening(head)
    if refused is not None:
        return refused
    handshake = H11Handshake(ConnectionType.SERVER)
    try:
        handshake.receive_data(head)
        opening = next((event for event in handshake.events() if isinstance(event, Request)), None)
        if opening is None:
            return Refused(Refusal.BAD_HTTP, "the WebSocket handshake is incomplete")
        extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        subprotocol = choose_subprotocol(opening.subprotocols)
        return handshake.send(AcceptConnection(subprotocol=subprotocol, extra_headers=extra))
    except (LocalProtocolError, RemoteProtocolError) as error:
        return Refused(Refusal.BAD_HTTP, str(error))
    except (ValueError, AssertionError):
        # wsproto lets a malformed extension header through to its parser.
        return Refused(Refusal.BAD_HTTP, "a WebSocket header is malformed")


def _check_opening(head: bytes) -> Refused | None:
    """Check what wsproto lets pass: version of HTTP, version and key of the WebSocket."""
    request_line, *lines = head.removesuffix(HEAD_END).split(b"\r\n")
    fields = [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    ]
    versions = [value for name, value in fields if name == b"sec-websocket-version"]
    keys = [value for name, value in fields if name == b"sec-websocket-key"]
    if not request_line.endswith(b" HTTP/1.1"):
        return Refused(Refusal.BAD_HTTP, "a WebSocket handshake is HTTP/1.1")
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refused(Refusal.BAD_HTTP, "Sec-WebSocket-Key must be the base64 form of 16 bytes, once")
    if versions != [WEBSOCKET_VERSION.encode()]:
        return Refused(Refusal.WEBSOCKET_VERSION, f"Sec-WebSocket-Version must be {WEBSOCKET_VERSION}")
    return None


def _is_key(value: bytes) -> bool:
    try:
        return len(b64decode(value, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def build_response(status: int, body: bytes, headers: tuple[Header, ...] = ()) -> bytes:
    """Build a whole response after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, '')}",
        *(f"{name}: {value}" for name, value in headers),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode("latin-1") + HEAD_END + body


def build_refusal(refused: Refused, headers: tuple[Header, ...] = ()) -> bytes:
    """Build the response to a refused request. Spec: EIO-ERR-2."""
    fixed: tuple[Header, ...] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    if refused.refusal is Refusal.WEBSOCKET_VERSION:
        fixed += (("Sec-WebSocket-Version", WEBSOCKET_VERSION),)
    return build_response(refused.refusal.status, dump(refused.body), fixed + headers)
