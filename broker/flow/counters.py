"""Counts by cause, kept by the broker and read by `statistics()`."""

from __future__ import annotations

from collections import Counter


class Counters:
    """Counters of one broker.

    Attributes:
        dropped: Messages that were not sent, by cause.
        disconnects: Ended sockets, by reason.
        refusals: Refused requests, by rule.
        violations: Ended sessions, by what the peer did wrong.
        acks: Calls without an answer, by outcome.
        events: Events that came to no handler, failed or were refused, by cause.
        recoveries: What became of lost sessions and of clients that asked for theirs.
    """

    __slots__ = ("acks", "disconnects", "dropped", "events", "recoveries", "refusals", "violations")

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.disconnects: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.acks: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.recoveries: Counter[str] = Counter()
