"""The one table of refusals and disconnect reasons: HTTP status, JSON body, WebSocket close code.

Numbers 0 to 5 and their texts are the reference's; our own start at 100. Reason texts are the ones that the
reference reports to applications, our own are listed after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple

from . import codes


class CloseCode(IntEnum):
    """WebSocket close codes that the broker sends. Spec: RFC 6455 section 7.4.1."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_TEXT = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_LATER = 1013


class DisconnectReason(StrEnum):
    """Why a socket or session ended; the value is the text Socket.IO users know. Spec: SIO-REASON-1."""

    SERVER_NAMESPACE_DISCONNECT = "server namespace disconnect"
    CLIENT_NAMESPACE_DISCONNECT = "client namespace disconnect"
    SERVER_SHUTTING_DOWN = "server shutting down"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PARSE_ERROR = "parse error"
    FORCED_CLOSE = "forced close"
    FORCED_SERVER_CLOSE = "forced server close"
    # Ours: no counterpart in the reference, which has no such bounds.
    SLOW_CONSUMER = "slow consumer"
    EVICTED = "evicted"
    HANDLER_STALLED = "handler stalled"
    LIMIT_EXCEEDED = "limit exceeded"
    IDENTITY_EXPIRED = "identity expired"

    @property
    def code(self) -> int:
        """Its stable number; see `protocol.codes`."""
        return codes.REASONS[self.name]

    @property
    def close_code(self) -> CloseCode:
        """The WebSocket close code sent for this reason."""
        return _CLOSE_CODES[self]

    @property
    def retryable(self) -> bool:
        """Whether a stock client comes back by itself after this reason."""
        return self not in _FINAL


_CLOSE_CODES = {
    DisconnectReason.SERVER_NAMESPACE_DISCONNECT: CloseCode.NORMAL,
    DisconnectReason.CLIENT_NAMESPACE_DISCONNECT: CloseCode.NORMAL,
    DisconnectReason.SERVER_SHUTTING_DOWN: CloseCode.GOING_AWAY,
    DisconnectReason.PING_TIMEOUT: CloseCode.NORMAL,
    DisconnectReason.TRANSPORT_CLOSE: CloseCode.NORMAL,
    DisconnectReason.TRANSPORT_ERROR: CloseCode.PROTOCOL_ERROR,
    DisconnectReason.PARSE_ERROR: CloseCode.PROTOCOL_ERROR,
    DisconnectReason.FORCED_CLOSE: CloseCode.NORMAL,
    DisconnectReason.FORCED_SERVER_CLOSE: CloseCode.POLICY,
    DisconnectReason.SLOW_CONSUMER: CloseCode.TRY_LATER,
    DisconnectReason.EVICTED: CloseCode.TRY_LATER,
    DisconnectReason.HANDLER_STALLED: CloseCode.TRY_LATER,
    DisconnectReason.LIMIT_EXCEEDED: CloseCode.POLICY,
    DisconnectReason.IDENTITY_EXPIRED: CloseCode.POLICY,
}
_FINAL = frozenset(
    {DisconnectReason.SERVER_NAMESPACE_DISCONNECT, DisconnectReason.CLIENT_NAMESPACE_DISCONNECT}
)


class ClientReason(StrEnum):
    """Why a client's socket ended, as its own application is told. Spec: SIO-REASON-2."""

    SERVER_DISCONNECT = "io server disconnect"
    CLIENT_DISCONNECT = "io client disconnect"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PARSE_ERROR = "parse error"
    # Ours: the reference's client has no bound on what waits for its handlers.
    HANDLER_STALLED = "handler stalled"

    @property
    def retryable(self) -> bool:
        """Whether the client comes back by itself. Spec: SIO-REASON-3."""
        return self not in (ClientReason.SERVER_DISCONNECT, ClientReason.CLIENT_DISCONNECT)


class RefusalRow(NamedTuple):
    """One row of the refusal table."""

    code: int
    status: int
    message: str


class Refusal(Enum):
    """Why an HTTP request or WebSocket handshake was refused. Spec: EIO-ERR-1."""

    TRANSPORT_UNKNOWN = RefusalRow(0, 400, "Transport unknown")
    SESSION_UNKNOWN = RefusalRow(1, 400, "Session ID unknown")
    BAD_HANDSHAKE_METHOD = RefusalRow(2, 400, "Bad handshake method")
    BAD_REQUEST = RefusalRow(3, 400, "Bad request")
    FORBIDDEN = RefusalRow(4, 403, "Forbidden")
    UNSUPPORTED_PROTOCOL = RefusalRow(5, 400, "Unsupported protocol version")
    # Ours.
    ORIGIN_NOT_ALLOWED = RefusalRow(100, 403, "Origin not allowed")
    PAYLOAD_TOO_LARGE = RefusalRow(101, 413, "Payload too large")
    METHOD_NOT_ALLOWED = RefusalRow(102, 405, "Method not allowed")
    OVERLAPPING_REQUEST = RefusalRow(103, 400, "Overlapping request")
    PARSE_FAILED = RefusalRow(104, 400, "Payload could not be parsed")
    REQUEST_TIMEOUT = RefusalRow(105, 408, "Request timeout")
    HEAD_TOO_LARGE = RefusalRow(106, 431, "Request head too large")
    OVERLOADED = RefusalRow(107, 503, "Too many sessions")
    DRAINING = RefusalRow(108, 503, "Server is draining")
    BAD_HTTP = RefusalRow(109, 400, "Malformed HTTP request")
    ADDRESS_OVERLOADED = RefusalRow(110, 429, "Too many sessions from this address")
    WEBSOCKET_VERSION = RefusalRow(111, 426, "WebSocket version not supported")
    SESSION_ELSEWHERE = RefusalRow(112, 421, "Session is on another server")
    OWNER_SILENT = RefusalRow(113, 504, "The process of the session does not answer")

    @property
    def code(self) -> int:
        """The stable number in the JSON body."""
        return self.value.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value.status

    @property
    def message(self) -> str:
        """The fixed text in the JSON body."""
        return self.value.message


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal of one request: the row, what exactly was wrong, and the name of the rule.

    Attributes:
        refusal: The row of the table.
        detail: One sentence for a person, naming the rule; None adds nothing to the body.
        message: Replaces the fixed text of the row; only what the application said itself.
        rule: Stable name of the check, such as `TRANSPORT_MISMATCH`.
    """

    refusal: Refusal
    detail: str | None = None
    message: str | None = None
    rule: str | None = None

    @property
    def body(self) -> dict[str, int | str]:
        """The JSON body: `code`, `message` and, if there is one, `detail`."""
        body: dict[str, int | str] = {
            "code": self.refusal.code,
            "message": self.message or self.refusal.message,
        }
        if self.detail is not None:
            body["detail"] = self.detail
        return body


class Violation(Enum):
    """What a peer did wrong inside a session: a stable code word, and how the session ends.

    The value is (text, reason). The text becomes the WebSocket close reason; all are below 123 bytes.
    Spec: SIO-ERR-1, EIO-ERR-4.
    """

    # Engine.IO
    UNKNOWN_PACKET = ("unknown engine packet type", DisconnectReason.PARSE_ERROR)
    EMPTY_PACKET = ("empty engine packet", DisconnectReason.PARSE_ERROR)
    BAD_BASE64 = ("binary packet is not base64", DisconnectReason.PARSE_ERROR)
    BAD_TEXT = ("text is not UTF-8", DisconnectReason.PARSE_ERROR)
    TOO_MANY_PACKETS = ("too many packets in a payload", DisconnectReason.PARSE_ERROR)
    WRONG_HEARTBEAT = ("ping from the client", DisconnectReason.TRANSPORT_ERROR)
    # WebSocket
    BAD_FRAME = ("invalid WebSocket frame", DisconnectReason.TRANSPORT_ERROR)
    MESSAGE_TOO_BIG = ("message exceeds max_payload_bytes", DisconnectReason.TRANSPORT_ERROR)
    TOO_MANY_FRAGMENTS = ("too many fragments", DisconnectReason.TRANSPORT_ERROR)
    MESSAGE_TIMEOUT = ("message not completed in time", DisconnectReason.TRANSPORT_ERROR)
    # Socket.IO decoding
    UNKNOWN_TYPE = ("unknown packet type", DisconnectReason.FORCED_CLOSE)
    INVALID_PAYLOAD = ("invalid payload", DisconnectReason.FORCED_CLOSE)
    RESERVED_EVENT = ("reserved event name", DisconnectReason.FORCED_CLOSE)
    ILLEGAL_ATTACHMENTS = ("illegal attachments", DisconnectReason.FORCED_CLOSE)
    TOO_MANY_ATTACHMENTS = ("too many attachments", DisconnectReason.FORCED_CLOSE)
    ATTACHMENTS_TOO_BIG = ("attachments exceed max_payload_bytes", DisconnectReason.FORCED_CLOSE)
    UNEXPECTED_TEXT = ("text while attachments are awaited", DisconnectReason.FORCED_CLOSE)
    UNEXPECTED_BINARY = ("binary without a binary packet", DisconnectReason.FORCED_CLOSE)
    BAD_ACK_ID = ("invalid ack id", DisconnectReason.FORCED_CLOSE)
    BAD_NAMESPACE = ("invalid namespace", DisconnectReason.FORCED_CLOSE)
    TOO_DEEP = ("JSON nested too deep", DisconnectReason.FORCED_CLOSE)
    WRONG_PARSER = ("text where every packet is binary", DisconnectReason.FORCED_CLOSE)
    ASSEMBLY_TIMEOUT = ("binary packet not completed in time", DisconnectReason.FORCED_CLOSE)
    # Socket.IO state
    ALREADY_CONNECTED = ("namespace already connected", DisconnectReason.FORCED_SERVER_CLOSE)
    NOT_CONNECTED = ("namespace not connected", DisconnectReason.FORCED_SERVER_CLOSE)
    CLIENT_CONNECT_ERROR = ("CONNECT_ERROR from the client", DisconnectReason.FORCED_SERVER_CLOSE)
    CONNECT_TIMEOUT = ("no namespace joined in time", DisconnectReason.FORCED_SERVER_CLOSE)
    TOO_MANY_REFUSALS = ("too many refused CONNECTs", DisconnectReason.LIMIT_EXCEEDED)
    RATE_EXCEEDED = ("too many packets a second", DisconnectReason.LIMIT_EXCEEDED)

    @property
    def text(self) -> str:
        """One phrase for the close reason and the log."""
        return self.value[0]

    @property
    def reason(self) -> DisconnectReason:
        """How the session ends."""
        return self.value[1]

    @property
    def code(self) -> int:
        """Its stable number; see `protocol.codes`."""
        return codes.VIOLATIONS[self.name]

    @property
    def close_code(self) -> CloseCode:
        """The WebSocket close code."""
        return _VIOLATION_CLOSE_CODES.get(self, CloseCode.PROTOCOL_ERROR)


def describe_end(reason: DisconnectReason, text: str) -> dict[str, int | str]:
    """Return what a polling client is told of an end: `code` and `message`. Spec: EIO-CLOSE-3.

    Args:
        reason: Why it ended.
        text: The phrase for it: that of the violation, if there was one.
    """
    return {"code": _CODES_BY_TEXT.get(text, reason.code), "message": text}


_CODES_BY_TEXT = {violation.text: violation.code for violation in Violation}
_VIOLATION_CLOSE_CODES = {
    Violation.BAD_TEXT: CloseCode.INVALID_TEXT,
    Violation.MESSAGE_TOO_BIG: CloseCode.TOO_BIG,
    Violation.ATTACHMENTS_TOO_BIG: CloseCode.TOO_BIG,
    Violation.TOO_MANY_FRAGMENTS: CloseCode.POLICY,
    Violation.MESSAGE_TIMEOUT: CloseCode.POLICY,
    Violation.TOO_MANY_PACKETS: CloseCode.POLICY,
    Violation.TOO_MANY_ATTACHMENTS: CloseCode.POLICY,
    Violation.TOO_DEEP: CloseCode.POLICY,
    Violation.CONNECT_TIMEOUT: CloseCode.POLICY,
    Violation.TOO_MANY_REFUSALS: CloseCode.POLICY,
    Violation.RATE_EXCEEDED: CloseCode.POLICY,
    Violation.ASSEMBLY_TIMEOUT: CloseCode.POLICY,
}
