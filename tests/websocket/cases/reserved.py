"""Groups 3 and 4: reserved bits without an extension, and reserved opcodes."""

from __future__ import annotations

from tests.websocket.dsl import FAIL_1002, Case, Frame, as_text, binary, close, ping, text

_HELLO = b"Hello, world!"
_OCTETS = bytes.fromhex("00fffefdfcfb00ff")
_ECHO = [as_text(_HELLO)]


def _behind_text(case_id: str, bad: Frame, shape: str | int) -> Case:
    """A good message, then a bad frame, then a ping that must stay without answer."""
    return Case(case_id, [text(_HELLO), bad, ping()], _ECHO, FAIL_1002, shape, weaker=[[]])


def _opcodes(group: str, first: int) -> tuple[Case, ...]:
    return (
        Case(f"{group}.1", [Frame(first)], ending=FAIL_1002),
        Case(f"{group}.2", [Frame(first + 1, _HELLO)], ending=FAIL_1002),
        _behind_text(f"{group}.3", Frame(first + 2), "plain"),
        _behind_text(f"{group}.4", Frame(first + 3, _HELLO), "plain"),
        _behind_text(f"{group}.5", Frame(first + 4, _HELLO), 1),
    )


CASES = (
    Case("3.1", [text(_HELLO, rsv=1)], ending=FAIL_1002),
    _behind_text("3.2", text(_HELLO, rsv=2), "plain"),
    _behind_text("3.3", text(_HELLO, rsv=3), "frames"),
    _behind_text("3.4", text(_HELLO, rsv=4), 1),
    Case("3.5", [binary(_OCTETS, rsv=5)], ending=FAIL_1002),
    Case("3.6", [binary(_OCTETS, rsv=6)], ending=FAIL_1002),
    Case("3.7", [close(1000, rsv=7)], ending=FAIL_1002),
    Case("3+ ping with reserved bits", [ping(_OCTETS, rsv=6)], ending=FAIL_1002),
    *_opcodes("4.1", 3),
    *_opcodes("4.2", 11),
)
