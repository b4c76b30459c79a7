"""Group 2: ping and pong."""

from __future__ import annotations

from tests.websocket.dsl import FAIL_1002, Case, Step, answered, as_pong, close, ping, pong

_TEN: list[Step] = [ping(b"payload-%d" % number) for number in range(10)]
_TEN_PONGS = [as_pong(b"payload-%d" % number) for number in range(10)]
_OCTETS = bytes.fromhex("00fffefdfcfb00ff")
_FULL = b"\xfe" * 125

CASES = (
    Case("2.1", [ping()], [as_pong()]),
    Case("2.2", [ping(b"Hello, world!")], [as_pong(b"Hello, world!")]),
    Case("2.3", [ping(_OCTETS)], [as_pong(_OCTETS)]),
    Case("2.4", [ping(_FULL)], [as_pong(_FULL)]),
    Case("2.5", [ping(_FULL + b"\xfe")], ending=FAIL_1002),
    Case("2.6", [ping(_FULL)], [as_pong(_FULL)], shape=1),
    Case("2.7", [pong(), close(1000)], ending=answered(1000)),
    Case("2.8", [pong(b"unasked"), close(1000)], ending=answered(1000)),
    Case("2.9", [pong(b"unasked"), ping(b"ping payload")], [as_pong(b"ping payload")]),
    Case("2.10", _TEN, _TEN_PONGS),
    Case("2.11", _TEN, _TEN_PONGS, shape=1),
    Case("2+ pong of 126 bytes", [pong(_FULL + b"\xfe")], ending=FAIL_1002),
)
