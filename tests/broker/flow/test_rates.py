"""Token buckets: bursts, warnings and ends; and who shares one."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from broker.flow import rates as module
from broker.flow.rates import Bucket, Pace, Rates
from protocol import Limits

FINE, WARN, CUT = Pace.FINE, Pace.WARN, Pace.CUT


def test_a_burst_a_warning_and_the_end() -> None:
    bucket = Bucket(rate=10.0, burst=20.0, now=0.0)
    assert [bucket.take(10, 0.0) for _ in range(5)] == [FINE, FINE, WARN, FINE, CUT]


def test_the_rate_itself_is_fine_for_ever() -> None:
    bucket = Bucket(rate=10.0, burst=20.0, now=0.0)
    assert {bucket.take(10, float(now)) for now in range(1, 1_000)} == {FINE}


def test_a_warning_is_forgiven_by_a_full_burst() -> None:
    bucket = Bucket(rate=10.0, burst=20.0, now=0.0)
    assert bucket.take(25, 0.0) is WARN
    assert bucket.take(20, 2.0) is FINE  # warned already
    assert not bucket.is_full(3.0)
    assert bucket.is_full(4.5)
    assert bucket.take(25, 10.0) is WARN


async def test_buckets_are_of_sessions_addresses_and_identities(autojump_clock: MockClock) -> None:
    rates = Rates(Limits(session_rate=10.0, address_rate=15.0, identity_rate=12.0, rate_burst_time=1.0))
    rates.open("a", "1.2.3.4")
    rates.open("b", "1.2.3.4")
    rates.open("c", None)
    rates.identify("c", "ada")
    rates.identify("c", "ada")
    rates.identify("nobody", "ada")
    assert [rates.take(one, 8) for one in "abc"] == [FINE, WARN, FINE]
    assert rates.take("a", 16) is CUT
    rates.open("d", None)
    rates.identify("d", "ada")
    assert rates.take("d", 5) is WARN
    assert rates.take("gone", 1_000) is FINE
    for one in "abcd":
        rates.close(one)
    # Coming back does not help.
    rates.open("e", "1.2.3.4")
    assert rates.take("e", 15) is CUT
    await trio.sleep(5)
    assert rates.take("e", 1) is FINE


async def test_shared_buckets_are_forgotten_when_they_are_full(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_PURGE", 10)
    rates = Rates(Limits(address_rate=10.0, rate_burst_time=1.0))
    rates.open("stays", "0")
    for number in range(1, 100):
        rates.open(number, str(number))
        rates.take(number, 5)
        rates.close(number)
        await trio.sleep(0.1)
    assert len(rates._shared) <= 12
    assert ("address", "0") in rates._shared


def test_no_rate_wants_no_buckets() -> None:
    assert not Rates.wanted(Limits())
    for name in ("session_rate", "address_rate", "identity_rate"):
        assert Rates.wanted(Limits(**{name: 5.0}))
