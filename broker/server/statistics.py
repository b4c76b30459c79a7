"""What a broker counts, as figures of one moment."""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from broker.rooms.directory import Directory
from broker.sessions.engine import Engine


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
        acks: Calls without an answer, by outcome.
        events: Events without a good end, by cause.
        recoveries: What became of lost sessions and of clients that asked for theirs.
    """

    sessions: int
    sockets: dict[str, int]
    queued_bytes: int
    dropped: Counter[str]
    disconnects: Counter[str]
    refusals: Counter[str]
    violations: Counter[str]
    acks: Counter[str]
    events: Counter[str]
    recoveries: Counter[str]


def collect(engine: Engine, directory: Directory) -> Statistics:
    """Return the figures of this moment."""
    counters = engine.counters
    return Statistics(
        sessions=len(engine.sessions),
        sockets={name: len(one.sockets) for name, one in directory.namespaces.items()},
        queued_bytes=engine.budget.total,
        dropped=counters.dropped.copy(),
        disconnects=counters.disconnects.copy(),
        refusals=counters.refusals.copy(),
        violations=counters.violations.copy(),
        acks=counters.acks.copy(),
        events=counters.events.copy(),
        recoveries=counters.recoveries.copy(),
    )
