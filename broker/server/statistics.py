"""The figures of a broker at one moment."""

from __future__ import annotations

from collections import Counter

from attrs import frozen


@frozen
class Statistics:
    """Figures of a broker at one moment.

    Attributes:
        sessions: Open engine sessions.
        sockets: Connected sockets, by namespace.
        queued_bytes: What all outboxes hold together.
        dropped: Messages that were not sent, by cause.
        disconnects: Ended sockets, by reason.
        refusals: Refused requests and CONNECTs, by rule.
        violations: Ended sessions, by what the peer did wrong.
        events: Events without a good end, by cause.
    """

    sessions: int
    sockets: dict[str, int]
    queued_bytes: int
    dropped: Counter[str]
    disconnects: Counter[str]
    refusals: Counter[str]
    violations: Counter[str]
    events: Counter[str]
