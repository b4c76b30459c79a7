"""A short form of `make soak-virtual`."""

from __future__ import annotations

from tests.testing.soak import soak


def test_the_same_seed_gives_the_same_transcript():
    first, second = soak(0.25, 30, seed=7), soak(0.25, 30, seed=7)
    assert first.digest == second.digest
    assert first.tail.splitlines()[1:] != []
    assert (first.entries, first.pings, first.reconnections) == (
        second.entries,
        second.pings,
        second.reconnections,
    )
    assert first.pings > 900
    assert first.answered > 0


def test_another_seed_gives_another():
    first, second = soak(0.1, 30, seed=1), soak(0.1, 30, seed=2)
    assert first.digest != second.digest
