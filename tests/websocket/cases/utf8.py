"""Group 6: text is UTF-8, wherever it is cut. The octets follow Markus Kuhn's stress test for decoders."""

from __future__ import annotations

from tests.websocket.dsl import (
    FAIL_1007,
    Case,
    Quiet,
    Step,
    as_text,
    fragments,
    more,
    quiet,
    text,
)

_LATIN = "Hello-µ@ßöäüàá-UTF-8!!".encode()
_CUT = _LATIN.index("ä".encode()) + 2
_GREEK = bytes.fromhex("cebae1bdb9cf83cebcceb5")
_TAIL = b"edited"
_SURROGATE = _GREEK + bytes.fromhex("eda080") + _TAIL
_TOO_FAR = bytes.fromhex("f4908080")
_ALL = _GREEK + _TOO_FAR + _TAIL

_UNFINISHED = [
    *("c0", "e080", "f08080", "f8808080", "fc80808080"),
    *("df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"),
]
_HIGH, _LOW = ("eda080", "edadbf", "edae80", "edafbf"), ("edb080", "edbfbf")


def _starters(first: int, last: int) -> str:
    return "".join(f"{octet:02x}20" for octet in range(first, last + 1))


# Group: the octets of each case in hexadecimal.
TABLE: dict[int, list[str]] = {
    5: [
        *(b"hello".hex() + one + b"world".hex() for one in ("24", "c2a2", "e282ac", "f0a4ada2")),
        _GREEK.hex(),
    ],
    6: [_GREEK[:size].hex() for size in range(1, 12)],
    7: ["00", "c280", "e0a080", "f0908080"],
    8: ["f888808080", "fc8480808080"],
    9: ["7f", "dfbf", "efbfbf", "f48fbfbf"],
    10: ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"],
    11: ["ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"],
    12: [
        "80",
        "bf",
        "80bf",
        "80bf80",
        "80bf80bf",
        "80bf80bf80",
        "80bf80bf80bf",
        "".join(f"{octet:02x}" for octet in range(0x80, 0xBF)),
    ],
    13: [
        _starters(0xC0, 0xDE),
        _starters(0xE0, 0xEE),
        _starters(0xF0, 0xF6),
        _starters(0xF8, 0xFA),
        _starters(0xFC, 0xFC),
    ],
    14: _UNFINISHED,
    15: ["".join(_UNFINISHED)],
    16: ["fe", "ff", "fefeffff"],
    17: ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"],
    18: ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"],
    19: ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"],
    20: ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"],
    21: [high + low for high in _HIGH for low in _LOW],
    22: [
        "efbfbe",
        "efbfbf",
        *(chr(plane << 16 | code).encode().hex() for plane in range(1, 17) for code in (0xFFFE, 0xFFFF)),
    ],
    23: ["efbfb9", "efbfba", "efbfbb", "efbfbc", "efbfbd", "efbfbe", "efbfbf"],
}

INVALID_GROUPS = frozenset({8, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21})
VALID_PREFIXES = frozenset({2, 5, 7, 9, 11})  # of the Greek word, by their number in group 6.6


def is_valid(group: int, number: int) -> bool:
    """Tell by the table, not by a decoder, whether the text is UTF-8."""
    if group == 6:
        return number in VALID_PREFIXES
    return group not in INVALID_GROUPS and (group, number) != (11, 5)


def _table_case(group: int, number: int, octets: bytes, *, cut: bool) -> Case:
    steps: list[Step] = fragments(octets) if cut else [text(octets)]
    case_id = f"6.{group}.{number}" if not cut else f"6+ {group}.{number} octet by octet"
    if is_valid(group, number):
        return Case(case_id, steps, [as_text(octets)])
    return Case(case_id, steps, ending=FAIL_1007)


_FAST = [quiet(b"A")]
_AT_THE_END = [[quiet(b"A"), quiet(b"B")]]


def _fail_fast(number: int, first: int, second: int) -> tuple[Case, Case]:
    three: list[Step] = [
        text(_ALL[:first], final=False),
        Quiet(b"A"),
        more(_ALL[first:second]),
        Quiet(b"B"),
        more(_ALL[second:], final=True),
    ]
    one: list[Step] = [text(_ALL, cuts=(first, second))]
    return (
        Case(f"6.4.{number}", three, _FAST, FAIL_1007, weaker=_AT_THE_END),
        Case(f"6.4.{number + 2}", one, _FAST, FAIL_1007, weaker=_AT_THE_END),
    )


CASES = (
    Case("6.1.1", [text()], [as_text(b"")]),
    Case("6.1.2", [text(final=False), more(), more(final=True)], [as_text(b"")]),
    Case(
        "6.1.3",
        [text(final=False), more(b"middle frame payload"), more(final=True)],
        [as_text(b"middle frame payload")],
    ),
    Case("6.2.1", [text(_LATIN)], [as_text(_LATIN)]),
    Case("6.2.2", [text(_LATIN[:_CUT], final=False), more(_LATIN[_CUT:], final=True)], [as_text(_LATIN)]),
    Case("6.2.3", fragments(_LATIN), [as_text(_LATIN)]),
    Case("6.2.4", fragments(_GREEK), [as_text(_GREEK)]),
    Case("6.3.1", [text(_SURROGATE)], ending=FAIL_1007),
    Case("6.3.2", fragments(_SURROGATE), ending=FAIL_1007),
    *_fail_fast(1, 11, 15),
    *_fail_fast(2, 12, 13),
    *(
        _table_case(group, number, bytes.fromhex(octets), cut=cut)
        for cut in (False, True)
        for group, rows in TABLE.items()
        for number, octets in enumerate(rows, 1)
    ),
)
