"""Odd input without atheris: good input, mutilated at random, the same each time for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_WORDS = (
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\r\n",
    b"\x1e",
    b"-",
    b",",
    b"/",
)
_NUMBERS = (b"0", b"-1", b"1e999", b"9" * 20, b"NaN", b"null", b"true")


def mutations(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield the seeds themselves, then mutilated ones without end."""
    yield from seeds
    yield b""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            _mutilate(data, chance, seeds)
        yield bytes(data[:4_096])


def _mutilate(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.randint(0, 8))
    how = chance.randrange(6)
    if how == 0:
        del data[at:end]
    elif how == 1:
        data[at:at] = data[at:end] * chance.randint(1, 40)
    elif how == 2:
        data[at:end] = chance.randbytes(end - at)
    elif how == 3:
        data[at:at] = chance.choice(_WORDS + _NUMBERS)
    elif how == 4:
        data[at:] = chance.choice(seeds)
    elif data:
        data[at % len(data)] ^= 1 << chance.randrange(8)
