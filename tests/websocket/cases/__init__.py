"""All WebSocket cases, by group."""

from __future__ import annotations

from tests.websocket.dsl import Case

from . import closing, control, fragmentation, framing, reserved, sizes, utf8

CASES: tuple[Case, ...] = (
    *framing.CASES,
    *control.CASES,
    *reserved.CASES,
    *fragmentation.CASES,
    *utf8.CASES,
    *closing.CASES,
    *sizes.CASES,
)
