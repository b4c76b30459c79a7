"""How many packets a second clients may send: token buckets that warn first and then end the session."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from math import isfinite

import trio

from protocol import Limits

_LEAST_PURGE = 1_024


class Pace(Enum):
    """What is to be done about packets that have come."""

    FINE = "fine"
    WARN = "warn"
    CUT = "cut"


class Bucket:
    """Tokens that come back at a rate, up to a burst. Below none is a warning, a burst below that the end.

    Args:
        rate: Packets a second.
        burst: Packets that may come at once.
        now: Trio's time.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "_warned")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now
        self._warned = False

    def take(self, count: int, now: float) -> Pace:
        """Take tokens for packets; a full burst unused forgives a warning."""
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        if tokens == self._burst:
            self._warned = False
        self._tokens = tokens = tokens - count
        self._at = now
        if tokens >= 0:
            return Pace.FINE
        if tokens < -self._burst:
            return Pace.CUT
        if self._warned:
            return Pace.FINE
        self._warned = True
        return Pace.WARN

    def is_full(self, now: float) -> bool:
        """Whether it has forgotten everything."""
        return self._tokens + (now - self._at) * self._rate >= self._burst


class Rates:
    """The buckets of all sessions: one each, and one for each address and each identity.

    Those of addresses and identities outlive their sessions until they are full, so that coming back does not
    fill them.

    Args:
        limits: The rates.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of: dict[Hashable, list[Bucket]] = {}
        self._shared: dict[tuple[str, Hashable], Bucket] = {}
        self._purge_at = _LEAST_PURGE

    @staticmethod
    def wanted(limits: Limits) -> bool:
        """Tell whether any rate is bounded."""
        return any(map(isfinite, (limits.session_rate, limits.identity_rate, limits.address_rate)))

    def open(self, session: Hashable, address: str | None) -> None:
        """Begin to count for a session; None is an address that stands for many."""
        buckets: list[Bucket] = []
        self._of[session] = buckets
        if isfinite(self._limits.session_rate):
            buckets.append(self._bucket(self._limits.session_rate))
        if address is not None:
            self._share(buckets, ("address", address), self._limits.address_rate)

    def identify(self, session: Hashable, identity: Hashable) -> None:
        """Count what a session sends for its user as well; several identities each count."""
        buckets = self._of.get(session)
        if buckets is not None:
            self._share(buckets, ("identity", identity), self._limits.identity_rate)

    def close(self, session: Hashable) -> None:
        """Forget a session."""
        self._of.pop(session, None)

    def _bucket(self, rate: float) -> Bucket:
        return Bucket(rate, rate * self._limits.rate_burst_time, trio.current_time())

    def _share(self, buckets: list[Bucket], key: tuple[str, Hashable], rate: float) -> None:
        if not isfinite(rate):
            return
        bucket = self._shared.get(key)
        if bucket is None:
            self._purge()
            bucket = self._shared[key] = self._bucket(rate)
        if bucket not in buckets:
            buckets.append(bucket)

    def _purge(self) -> None:
        """Now and then, forget the buckets that would be the same if they were new."""
        if len(self._shared) < self._purge_at:
            return
        now = trio.current_time()
        in_use = {id(bucket) for buckets in self._of.values() for bucket in buckets}
        self._shared = {
            key: bucket
            for key, bucket in self._shared.items()
            if id(bucket) in in_use or not bucket.is_full(now)
        }
        self._purge_at = max(_LEAST_PURGE, 2 * len(self._shared))

    def take(self, session: Hashable, count: int) -> Pace:
        """Count packets of a session; returns the worst that any of its buckets says."""
        now = trio.current_time()
        worst = Pace.FINE
        for bucket in self._of.get(session, ()):
            pace = bucket.take(count, now)
            if pace is Pace.CUT or worst is Pace.FINE:
                worst = pace
            if pace is Pace.CUT:
                break
        return worst
