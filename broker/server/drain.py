"""The graceful end: no newcomers, handlers and acks finished, transports closed at a pace."""

from __future__ import annotations

from collections import deque

import trio

from broker.sessions.engine import Engine
from protocol import DisconnectReason

_TICK = 0.05  # how often busy sessions are looked at again


async def drain(engine: Engine, deadline: float, rate: float | None) -> None:
    """Send everybody away in good order. Spec: DRAIN-1.

    Transports are closed, not namespaces: a DISCONNECT would keep stock clients from coming back.

    Args:
        engine: The broker's engine.
        deadline: Seconds until whoever is left is closed, handlers or not.
        rate: Sessions to close per second; None spreads them over the deadline.

    Cancellation: the broker stays closed to newcomers; whoever is left stays connected.
    """
    engine.draining = True
    sessions = deque(engine.sessions.values())
    pace = 1 / rate if rate is not None else min(_TICK, deadline / (2 * len(sessions) or 1))
    with trio.move_on_after(deadline):
        while sessions:
            session = sessions.popleft()
            if session.reason is None and session.handler.is_idle and session.outbox.queued_bytes == 0:
                session.close(DisconnectReason.SERVER_SHUTTING_DOWN)
                await trio.sleep(pace)
            elif session.reason is None:
                sessions.append(session)
                await trio.sleep(_TICK / len(sessions))
    engine.end_all(DisconnectReason.SERVER_SHUTTING_DOWN)
    await engine.wait_empty()
