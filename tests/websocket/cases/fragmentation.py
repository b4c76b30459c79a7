"""Group 5: messages in fragments, and what may not stand between them."""

from __future__ import annotations

from tests.websocket.dsl import FAIL_1002, Case, Quiet, Step, as_pong, as_text, more, ping, pong, quiet, text

_ONE, _TWO, _THREE, _FOUR, _FIVE = (b"fragment%d" % number for number in range(1, 6))
_SHAPES: tuple[str | int, ...] = ("plain", "frames", 1)
_BOTH = [as_text(_ONE + _TWO)]

_INTERRUPTED: list[Step] = [
    text(_ONE, final=False),
    more(_TWO),
    ping(b"pongme 1!"),
    Quiet(b"between"),
    more(_THREE),
    more(_FOUR),
    ping(b"pongme 2!"),
    more(_FIVE, final=True),
]
_INTERRUPTED_EVENTS = [
    as_pong(b"pongme 1!"),
    quiet(b"between"),
    as_pong(b"pongme 2!"),
    as_text(_ONE + _TWO + _THREE + _FOUR + _FIVE),
]


def _thrice(first: int, steps: list[Step], **rest: object) -> tuple[Case, ...]:
    return tuple(
        Case(f"5.{first + index}", steps, shape=shape, **rest)  # type: ignore[arg-type]
        for index, shape in enumerate(_SHAPES)
    )


CASES = (
    Case("5.1", [ping(_ONE, final=False), more(_TWO, final=True)], ending=FAIL_1002),
    Case("5.2", [pong(_ONE, final=False), more(_TWO, final=True)], ending=FAIL_1002),
    *_thrice(3, [text(_ONE, final=False), more(_TWO, final=True)], events=_BOTH),
    *_thrice(
        6,
        [text(_ONE, final=False), ping(b"payload"), more(_TWO, final=True)],
        events=[as_pong(b"payload"), *_BOTH],
    ),
    *_thrice(9, [more(b"stray", final=True), text(_ONE)], ending=FAIL_1002),
    *_thrice(12, [more(b"stray"), text(_ONE)], ending=FAIL_1002),
    Case(
        "5.15",
        [text(_ONE, final=False), more(_TWO, final=True), more(_THREE), text(_FOUR)],
        _BOTH,
        FAIL_1002,
        weaker=[[]],
    ),
    Case("5.16", [more(_ONE), text(_TWO, final=False), more(_THREE, final=True)] * 2, ending=FAIL_1002),
    Case(
        "5.17",
        [more(_ONE, final=True), text(_TWO, final=False), more(_THREE, final=True)] * 2,
        ending=FAIL_1002,
    ),
    Case("5.18", [text(_ONE, final=False), text(_TWO)], ending=FAIL_1002),
    Case("5.19", _INTERRUPTED, _INTERRUPTED_EVENTS),
    Case("5.20", _INTERRUPTED, _INTERRUPTED_EVENTS, shape="frames"),
)
