"""The query of a request to an answer: which session it is for, or why it is refused; and the OPEN packet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl

from protocol.jsontext import dump
from protocol.reasons import Refusal, Refused

TransportName: TypeAlias = Literal["polling", "websocket"]

PROTOCOL_VERSION = "4"
MAX_QUERY_FIELDS = 200


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What the checks need to know of one HTTP request.

    Attributes:
        method: HTTP method, upper case.
        query: Each parameter with all its values, in order.
        upgrade: Whether it asks for a WebSocket.
        origin: The Origin header, if there is one.
    """

    method: str
    query: Mapping[str, list[str]]
    upgrade: bool
    origin: str | None = None

    def parameter(self, name: str) -> str | None:
        """Return the value of a parameter that stands exactly once; None if absent or repeated."""
        values = self.query.get(name, ())
        return values[0] if len(values) == 1 else None


def parse_query(query: str) -> dict[str, list[str]] | None:
    """Parse a query string; None if it has more fields than any client sends. Spec: EIO-HS-1."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return None
    parsed: dict[str, list[str]] = {}
    for name, value in pairs:
        parsed.setdefault(name, []).append(value)
    return parsed


def check_request(
    request: EngineRequest,
    transports: Collection[str],
    transport_of: Callable[[str], str | None],
) -> Refused | None:
    """Check a request as far as its own text allows. Spec: EIO-HS-2 to EIO-HS-9.

    Args:
        request: The request.
        transports: Names of the transports that are enabled.
        transport_of: The transport that the session with this id is on; None if there is none.

    Returns:
        The refusal, or None if the request is in order.
    """
    transport = request.parameter("transport")
    if transport is None or transport not in transports:
        return Refused(Refusal.TRANSPORT_UNKNOWN, _transport_detail(transports))
    if request.origin is not None and not _is_visible_ascii(request.origin):
        return Refused(Refusal.BAD_REQUEST, "the Origin header has illegal characters", rule="INVALID_ORIGIN")
    # From here on in the order of the reference, so that a request with several faults gets the same code.
    if "sid" in request.query:
        return _check_session(request, transport, transport_of)
    return _check_handshake(request, transport)


def _transport_detail(transports: Collection[str]) -> str:
    return "transport must be one of: " + ", ".join(transports)


def _is_visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _check_session(
    request: EngineRequest, transport: str, transport_of: Callable[[str], str | None]
) -> Refused | None:
    session_id = request.parameter("sid")
    current = transport_of(session_id) if session_id else None
    if current is None:
        return Refused(Refusal.SESSION_UNKNOWN)
    # A WebSocket for a session on polling is an upgrade; what comes of it the upgrade table decides.
    if transport != current and not request.upgrade:
        return Refused(
            Refusal.BAD_REQUEST,
            f"the session is on {current}, not on {transport}",
            rule="TRANSPORT_MISMATCH",
        )
    return _check_upgrade(request, transport)


def _check_upgrade(request: EngineRequest, transport: str) -> Refused | None:
    if transport == "websocket" and not request.upgrade:
        return Refused(
            Refusal.BAD_REQUEST,
            "transport=websocket needs a WebSocket upgrade",
            rule="TRANSPORT_HANDSHAKE_ERROR",
        )
    if request.upgrade and transport != "websocket":
        return Refused(
            Refusal.BAD_REQUEST,
            "a WebSocket upgrade needs transport=websocket",
            rule="TRANSPORT_MISMATCH",
        )
    return None


def _check_handshake(request: EngineRequest, transport: str) -> Refused | None:
    if request.method != "GET":
        return Refused(Refusal.BAD_HANDSHAKE_METHOD, "a handshake is a GET request")
    refused = _check_upgrade(request, transport)
    if refused is not None:
        return refused
    if request.parameter("EIO") != PROTOCOL_VERSION:
        return Refused(Refusal.UNSUPPORTED_PROTOCOL, f"EIO must be {PROTOCOL_VERSION}")
    return None


def open_packet(
    session_id: str,
    upgrades: Collection[str],
    ping_interval: float,
    ping_timeout: float,
    max_payload_bytes: int,
) -> bytes:
    """Build the OPEN packet; seconds become the milliseconds of the wire here. Spec: EIO-HS-10."""
    return b"0" + dump(
        {
            "sid": session_id,
            "upgrades": list(upgrades),
            "pingInterval": round(ping_interval * 1000),
            "pingTimeout": round(ping_timeout * 1000),
            "maxPayload": max_payload_bytes,
        }
    )
