"""The graceful end: unready, then no newcomers, handlers and acks finished, transports closed at a pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from broker.sessions.engine import Engine
from protocol import DisconnectReason

DRAINING = "draining"
ENDING = "ending"

_TICK = 0.05  # how often busy sessions are looked at again
_SPREAD = 0.6  # the part of the time over which idle sessions are closed; the rest is for busy ones


async def drain(engine: Engine, deadline: float, rate: float | None) -> None:
    """Send everybody away in good order. Spec: DRAIN-1.

    Transports are closed, not namespaces: a DISCONNECT would keep stock clients from coming back.

    Args:
        engine: The broker's engine.
        deadline: Seconds until everything has ended.
        rate: Sessions to close per second; None spreads them over the deadline.

    Cancellation: the broker stays closed to newcomers; whoever is left stays connected.
    """
    ends_by = trio.current_time() + deadline
    limits = engine.limits
    # Endings take their time too: those of who is still busy then have to fit in before the deadline.
    reserve = min(limits.cleanup_timeout + limits.close_timeout, deadline / 4)
    engine.readiness.refusing = DRAINING
    with _ending_by(engine, ends_by):
        with trio.move_on_at(ends_by - reserve):
            await trio.sleep(engine.settings.readiness_delay)
        engine.draining = True
        with trio.move_on_at(ends_by - reserve):
            await _close_idle(engine, ends_by - trio.current_time(), rate)
        engine.end_all(DisconnectReason.SERVER_SHUTTING_DOWN)
        await engine.wait_empty()


@contextmanager
def _ending_by(engine: Engine, ends_by: float) -> Iterator[None]:
    """Have every ending in the block over by a time."""
    before = engine.ends_by
    engine.ends_by = min(before, ends_by)
    try:
        yield
    finally:
        engine.ends_by = before


async def _close_idle(engine: Engine, time_left: float, rate: float | None) -> None:
    """Close sessions, each when it has nothing to do, until there are none."""
    pace = 1 / rate if rate is not None else min(_TICK, _SPREAD * time_left / (len(engine.sessions) or 1))
    # Handshakes that were admitted before may still become sessions: look again until there are none.
    while sessions := deque(one for one in engine.sessions.values() if one.reason is None):
        while sessions:
            session = sessions.popleft()
            if session.reason is None and session.handler.is_idle and session.outbox.queued_bytes == 0:
                session.close(DisconnectReason.SERVER_SHUTTING_DOWN)
                await trio.sleep(pace)
            elif session.reason is None:
                sessions.append(session)
                await trio.sleep(_TICK / len(sessions))
