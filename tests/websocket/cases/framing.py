"""Group 1: frames of every length; and lengths that are no lengths."""

from __future__ import annotations

from tests.websocket.dsl import (
    FAIL_1002,
    FAIL_1009,
    Case,
    Raw,
    as_binary,
    as_text,
    binary,
    text,
)

_LENGTHS = (0, 125, 126, 127, 128, 65_535, 65_536, 65_536)
_MASK = b"\x37\xfa\x21\x3d"


def _shape(number: int) -> str | int:
    return 997 if number == 8 else "plain"


CASES = (
    *(
        Case(f"1.1.{number}", [text(b"*" * size)], [as_text(b"*" * size)], shape=_shape(number))
        for number, size in enumerate(_LENGTHS, 1)
    ),
    *(
        Case(f"1.2.{number}", [binary(b"\xfe" * size)], [as_binary(b"\xfe" * size)], shape=_shape(number))
        for number, size in enumerate(_LENGTHS, 1)
    ),
    Case("1+ five bytes with a 16-bit length", [Raw(b"\x81\xfe\0\5" + _MASK + b"*****")], ending=FAIL_1002),
    Case(
        "1+ five bytes with a 64-bit length",
        [Raw(b"\x81\xff" + bytes(7) + b"\5" + _MASK + b"*****")],
        ending=FAIL_1002,
    ),
    Case("1+ length with the top bit set", [Raw(b"\x82\xff\x80" + bytes(7) + _MASK)], ending=FAIL_1002),
    Case("1+ length 2^63-1", [Raw(b"\x82\xff\x7f" + b"\xff" * 7 + _MASK)], ending=FAIL_1009),
    Case("1+ frame without a mask", [Raw(b"\x81\x05Hello")], ending=FAIL_1002),
    Case("1+ control frame without a mask", [Raw(b"\x89\x00")], ending=FAIL_1002),
)
