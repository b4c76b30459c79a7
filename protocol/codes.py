"""The stable number of every word that says why: reasons, violations, drops, acks, events, error answers.

Refusals have theirs in `protocol.reasons`: 0 to 5 are the reference's, 100 to 199 ours. A number is given out
once, and a word keeps its own; new ones go to the end of their group.
"""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, int]] = {
    "SERVER_NAMESPACE_DISCONNECT": 200,
    "CLIENT_NAMESPACE_DISCONNECT": 201,
    "SERVER_SHUTTING_DOWN": 202,
    "PING_TIMEOUT": 203,
    "TRANSPORT_CLOSE": 204,
    "TRANSPORT_ERROR": 205,
    "PARSE_ERROR": 206,
    "FORCED_CLOSE": 207,
    "FORCED_SERVER_CLOSE": 208,
    "SLOW_CONSUMER": 209,
    "HANDLER_STALLED": 210,
    "LIMIT_EXCEEDED": 211,
    "IDENTITY_EXPIRED": 212,
    "EVICTED": 213,
}
"""Why a socket or a session ended, by the name of the `DisconnectReason`."""

VIOLATIONS: Final[dict[str, int]] = {
    "UNKNOWN_PACKET": 300,
    "EMPTY_PACKET": 301,
    "BAD_BASE64": 302,
    "BAD_TEXT": 303,
    "TOO_MANY_PACKETS": 304,
    "WRONG_HEARTBEAT": 305,
    "BAD_FRAME": 306,
    "MESSAGE_TOO_BIG": 307,
    "TOO_MANY_FRAGMENTS": 308,
    "MESSAGE_TIMEOUT": 309,
    "UNKNOWN_TYPE": 310,
    "INVALID_PAYLOAD": 311,
    "RESERVED_EVENT": 312,
    "ILLEGAL_ATTACHMENTS": 313,
    "TOO_MANY_ATTACHMENTS": 314,
    "ATTACHMENTS_TOO_BIG": 315,
    "UNEXPECTED_TEXT": 316,
    "UNEXPECTED_BINARY": 317,
    "BAD_ACK_ID": 318,
    "BAD_NAMESPACE": 319,
    "TOO_DEEP": 320,
    "WRONG_PARSER": 321,
    "ASSEMBLY_TIMEOUT": 322,
    "ALREADY_CONNECTED": 323,
    "NOT_CONNECTED": 324,
    "CLIENT_CONNECT_ERROR": 325,
    "CONNECT_TIMEOUT": 326,
    "TOO_MANY_REFUSALS": 327,
    "RATE_EXCEEDED": 328,
}
"""What a peer did wrong, by the name of the `Violation`."""

DROPS: Final[dict[str, int]] = {
    "volatile": 400,
    "newest": 401,
    "oldest": 402,
    "replaced": 403,
    "slow consumer": 404,
    "unsent": 405,
    "would wait": 406,
    "closed": 407,
    "evicted": 408,
    "log trimmed": 409,
}
"""Why a message was not sent, by cause."""

ACKS: Final[dict[str, int]] = {
    "timeout": 500,
    "disconnected": 501,
    "too many": 502,
    "cancelled": 503,
}
"""Why a call has no answer, by outcome."""

EVENTS: Final[dict[str, int]] = {
    "unhandled": 600,
    "failed": 601,
    "refused": 602,
    "middleware failed": 603,
    "predicate failed": 604,
    "task failed": 605,
    "cleanup timeout": 606,
    "unknown ack": 607,
    "unhandled server event": 608,
    "malformed bus message": 609,
    "refused bus message": 610,
    "unsendable data": 611,
    "too many bus tasks": 612,
    "silent node": 613,
    "late answer": 614,
    "bus gap": 615,
    "oversized bus message": 616,
    "bus buffer full": 617,
    "unconfirmed bus message": 618,
    "refused publication": 619,
    "deaf to the bus": 620,
    "rate warning": 621,
    "bus overflow": 622,
}
"""Events without a good end, by cause."""

RECOVERIES: Final[dict[str, int]] = {
    "expired": 700,
    "trimmed": 701,
    "unknown": 702,
    "unsupported": 703,
    "recovered": 704,
    "session expired": 705,
}
"""What became of lost sessions, by word."""

ANSWERS: Final[dict[str, int]] = {
    "internal": 800,
    "wrong_arity": 801,
    "invalid_arguments": 802,
    "identity_changed": 803,
    "identity_expired": 804,
}
"""The broker's own words in error answers and in the data of CONNECT_ERROR."""
