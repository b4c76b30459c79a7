"""The schedule against a naive model that looks at every session at every step."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.engineio.heartbeat import HeartbeatSchedule

INTERVAL, TIMEOUT = 25.0, 20.0
keys = st.integers(0, 2)


class ScheduleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.schedule = HeartbeatSchedule[int](INTERVAL, TIMEOUT)
        self.ping: dict[int, float] = {}
        self.pong: dict[int, float] = {}
        self.now = 0.0

    @rule(key=keys)
    def open(self, key: int) -> None:
        self.schedule.open(key, self.now)
        self.pong.pop(key, None)
        self.ping[key] = self.now + INTERVAL

    @rule(key=keys)
    def answer(self, key: int) -> None:
        self.schedule.pong(key, self.now)
        if key in self.ping or key in self.pong:
            self.pong.pop(key, None)
            self.ping[key] = self.now + INTERVAL

    @rule(key=keys)
    def show_life(self, key: int) -> None:
        self.schedule.alive(key, self.now)
        if self.pong.pop(key, None) is not None:
            self.ping[key] = self.now + INTERVAL

    @rule(key=keys, suspend=st.booleans())
    def leave(self, key: int, suspend: bool) -> None:
        (self.schedule.suspend if suspend else self.schedule.close)(key)
        self.ping.pop(key, None)
        self.pong.pop(key, None)

    @rule(seconds=st.sampled_from((1, 5, 20, 25)))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule(key=keys)
    def extend(self, key: int) -> None:
        self.schedule.extend(key, self.now)
        self.ping.pop(key, None)
        self.pong[key] = self.now + TIMEOUT

    @rule()
    def take(self) -> None:
        to_ping, expired = self.schedule.take_due(self.now)
        assert sorted(expired) == sorted(key for key, at in self.pong.items() if at <= self.now)
        assert sorted(to_ping) == sorted(key for key, at in self.ping.items() if at <= self.now)
        for key in expired:
            del self.pong[key]
        for key in to_ping:
            del self.ping[key]
            self.pong[key] = self.now + TIMEOUT

    @invariant()
    def same_deadline(self) -> None:
        due = [*self.ping.values(), *self.pong.values()]
        assert self.schedule.next_deadline() == min(due, default=inf)
        assert len(self.schedule) == len(due)


TestScheduleMachine = ScheduleMachine.TestCase
TestScheduleMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_silent_session_expires_after_interval_and_timeout() -> None:
    schedule = HeartbeatSchedule[str](INTERVAL, TIMEOUT)
    schedule.open("a", 0.0)
    assert schedule.take_due(24.9) == ([], [])
    assert schedule.take_due(25.0) == (["a"], [])
    assert schedule.take_due(44.9) == ([], [])
    assert schedule.take_due(45.0) == ([], ["a"])
    assert schedule.next_deadline() == inf


def test_opening_again_lets_nobody_behind_it_wait() -> None:
    schedule = HeartbeatSchedule[str](INTERVAL, TIMEOUT)
    schedule.open("a", 0.0)
    schedule.open("b", 1.0)
    schedule.open("a", 10.0)
    assert schedule.take_due(26.0) == (["b"], [])


def test_a_pong_starts_the_interval_anew() -> None:
    schedule = HeartbeatSchedule[str](INTERVAL, TIMEOUT)
    schedule.open("a", 0.0)
    schedule.take_due(25.0)
    schedule.pong("a", 30.0)
    assert schedule.next_deadline() == 55.0
    schedule.pong("a", 40.0)
    assert schedule.next_deadline() == 65.0


def test_other_traffic_lifts_the_deadline_and_puts_off_no_ping() -> None:
    schedule = HeartbeatSchedule[str](INTERVAL, TIMEOUT)
    schedule.open("a", 0.0)
    schedule.alive("a", 10.0)
    assert schedule.next_deadline() == 25.0
    schedule.take_due(25.0)
    schedule.alive("a", 30.0)
    assert schedule.next_deadline() == 55.0
    schedule.alive("b", 30.0)
    schedule.pong("b", 30.0)
    assert len(schedule) == 1


def test_an_expired_session_may_get_the_timeout_once_more() -> None:
    schedule = HeartbeatSchedule[str](INTERVAL, TIMEOUT)
    schedule.open("a", 0.0)
    schedule.take_due(25.0)
    assert schedule.take_due(45.0) == ([], ["a"])
    schedule.extend("a", 45.0)
    assert schedule.take_due(64.9) == ([], [])
    assert schedule.take_due(65.0) == ([], ["a"])
