"""Group 7: close frames, good and bad, and what stands behind them."""

from __future__ import annotations

from tests.websocket.dsl import (
    BAD_CLOSE,
    Await,
    Case,
    Ending,
    answered,
    as_text,
    close,
    more,
    ping,
    text,
)

_HELLO = b"Hello World!"
_BIG = b"*" * 262_144
_NOT_UTF8 = bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564")
_GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_BAD_CODES = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
_CLEAN = answered(1000)

CASES = (
    Case("7.1.1", [text(_HELLO), Await(1), close(1000)], [as_text(_HELLO)], _CLEAN),
    Case("7.1.2", [close(1000), close(1000)], ending=_CLEAN),
    Case("7.1.3", [close(1000), ping(b"late")], ending=_CLEAN),
    Case("7.1.4", [close(1000), text(_HELLO)], ending=_CLEAN),
    Case("7.1.5", [text(b"one", final=False), close(1000), more(b"two", final=True)], ending=_CLEAN),
    Case(
        "7.1.6",
        [text(_BIG), text(_HELLO), close(1000), ping(b"late")],
        [as_text(_BIG), as_text(_HELLO)],
        _CLEAN,
        weaker=[[], [as_text(_BIG)]],
    ),
    Case("7.3.1", [close()], ending=_CLEAN),
    Case("7.3.2", [close(reason=b"*")], ending=BAD_CLOSE),
    Case("7.3.3", [close(1000)], ending=_CLEAN),
    Case("7.3.4", [close(1000, _HELLO)], ending=_CLEAN),
    Case("7.3.5", [close(1000, b"*" * 123)], ending=_CLEAN),
    Case("7.3.6", [close(1000, b"*" * 124)], ending=BAD_CLOSE),
    Case("7.5.1", [close(1000, _NOT_UTF8)], ending=Ending("server", frozenset({1002, 1007}), drop=True)),
    *(
        Case(f"7.7.{number}", [close(code)], ending=answered(1000, code))
        for number, code in enumerate(_GOOD_CODES, 1)
    ),
    *(Case(f"7.9.{number}", [close(code)], ending=BAD_CLOSE) for number, code in enumerate(_BAD_CODES, 1)),
    # What a server does with these two is its own affair; ours takes them for the errors that they are.
    Case("7.13.1", [close(5000)], ending=BAD_CLOSE),
    Case("7.13.2", [close(65_535)], ending=BAD_CLOSE),
    *(Case(f"7+ code {code}", [close(code)], ending=answered(1000, code)) for code in (1012, 1013)),
    # Registered for gateways; wsproto does not know it, and either answer ends the connection.
    Case("7+ code 1014", [close(1014)], ending=BAD_CLOSE),
    Case("7+ code 1015", [close(1015)], ending=BAD_CLOSE),
)
