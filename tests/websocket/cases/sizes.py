"""Groups 9 and 10: large messages, many fragments, many pieces, many messages."""

from __future__ import annotations

from tests.websocket.dsl import BINARY, TEXT, Await, Case, Event, Frame, Step, fragments

KI, MI = 1 << 10, 1 << 20
_ONE_FRAME = (64 * KI, 256 * KI, MI, 4 * MI, 8 * MI, 16 * MI)
_FRAGMENTS = (64, 256, KI, 4 * KI, 16 * KI, 64 * KI, 256 * KI, MI, 4 * MI)
_PIECES = (64, 128, 256, 512, 1_024, 2_048)
_MESSAGES = (0, 16, 64, 256, 1_024, 4_096)
_KINDS = ((TEXT, "text"), (BINARY, "binary"))


def _payload(opcode: int, size: int) -> bytes:
    if opcode == TEXT:
        return (b"0123456789abcdef" * (size // 16 + 1))[:size]
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def _one_frame(case_id: str, opcode: int, kind: str, size: int, shape: str | int, slow: bool) -> Case:
    payload = _payload(opcode, size)
    return Case(case_id, [Frame(opcode, payload)], [(kind, payload)], shape=shape, slow=slow)


def _in_fragments(case_id: str, opcode: int, kind: str, size: int, fragment: int, slow: bool) -> Case:
    payload = _payload(opcode, size)
    return Case(case_id, fragments(payload, fragment, opcode), [(kind, payload)], slow=slow)


def _one_by_one(case_id: str, opcode: int, kind: str, size: int, count: int, slow: bool) -> Case:
    payload = _payload(opcode, size)
    steps: list[Step] = []
    for number in range(1, count + 1):
        steps += [Frame(opcode, payload), Await(number)]
    events: list[Event] = [(kind, payload)] * count
    return Case(case_id, steps, events, slow=slow)


def _long_and_short() -> tuple[Case, ...]:
    """Return each case as it is, and where that takes long a shorter one of the same kind."""
    cases: list[Case] = []
    for which, (opcode, kind) in enumerate(_KINDS, 1):
        for number, size in enumerate(_ONE_FRAME, 1):
            cases.append(_one_frame(f"9.{which}.{number}", opcode, kind, size, "plain", size > MI))
        for number, size in enumerate(_FRAGMENTS, 1):
            case_id = f"9.{which + 2}.{number}"
            cases.append(_in_fragments(case_id, opcode, kind, 4 * MI, size, slow=True))
            cases.append(
                _in_fragments(f"{case_id} short", opcode, kind, min(64 * size, MI), size, slow=False)
            )
        for number, size in enumerate(_PIECES, 1):
            case_id = f"9.{which + 4}.{number}"
            cases.append(_one_frame(case_id, opcode, kind, MI, size, slow=True))
            cases.append(_one_frame(f"{case_id} short", opcode, kind, 64 * size, size, slow=False))
        for number, size in enumerate(_MESSAGES, 1):
            case_id = f"9.{which + 6}.{number}"
            cases.append(_one_by_one(case_id, opcode, kind, size, 1_000, slow=True))
            cases.append(_one_by_one(f"{case_id} short", opcode, kind, size, 50, slow=False))
    return tuple(cases)


_TEN = _payload(TEXT, 65_536)

CASES = (
    *_long_and_short(),
    Case("10.1.1", fragments(_TEN, 1_300), [("text", _TEN)]),
)
