"""What recovery holds on to: the log, times in rooms, sessions outside the process, changes of data."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from typing import Any

import pytest
import trio

from broker import Broker, History, Limits, Recovery, RecoveryRefusal, Socket
from broker.adapters import event_log
from broker.adapters.event_log import EventLog, LogEntry
from broker.adapters.memory_sessions import MemorySessions
from broker.adapters.recovery_store import StoredEvent, StoredSession
from broker.flow.codec import make_codec
from broker.flow.encoded import EncodedMessage
from broker.rooms.journal import Journal
from broker.rooms.watched import WatchedDict
from broker.testing import open_harness
from protocol.recovery import START, Offset, Stay
from tests.broker.adapters.hub import Hub
from tests.broker.rooms.test_recovery import (
    come_back,
    enter,
    expect_recovered,
    expect_refused,
    hear,
    lose,
    only,
)


def entry(at: int, *rooms: str) -> LogEntry:
    return LogEntry(Offset(at, 0), EncodedMessage(b"x"), rooms, (), float(at))


def log_with(*entries: LogEntry, max_events: int = 2) -> EventLog:
    log = EventLog(1e9, max_events, 1 << 30, lambda count: None)
    for one in entries:
        log.append(one)
    return log


def test_what_is_known_of_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_with(entry(1, "a"), entry(2, "b"), entry(3, "c"), entry(4, "d"))
    assert log.floor == Offset(2, 0)
    position = Offset(0, 0)
    assert log.is_whole(position, {"c": [Stay("c", START)]})
    assert not log.is_whole(position, {"a": [Stay("a", START)]})
    assert log.is_whole(Offset(1, 0), {"a": [Stay("a", START)]})
    assert log.is_whole(position, {"a": [Stay("a", Offset(1, 0))]}), "it came after the event"
    assert log.is_whole(Offset(0, 5), {"a": [Stay("a", START, Offset(0, 5))]}), "it left before"
    assert log.was_quiet(Stay("a", Offset(1, 0), Offset(2, 0)))
    assert not log.was_quiet(Stay("a", START, Offset(2, 0)))
    assert not log.was_quiet(Stay("a", Offset(1, 0), Offset(3, 0))), "what is held may be for it"
    # Beyond a bound rooms are not told apart any more.
    monkeypatch.setattr(event_log, "_ROOMS", 1)
    log.append(entry(5, "e"))
    assert not log.is_whole(position, {"z": [Stay("z", START)]})
    assert log.is_whole(Offset(1, 0), {"z": [Stay("z", START)]})
    assert not log.was_quiet(Stay("z", START, Offset(3, 0)))


def test_an_event_to_everyone_that_is_gone_concerns_everyone() -> None:
    log = log_with(entry(1), entry(2, "b"), entry(3, "b"))
    assert not log.is_whole(START, {"z": [Stay("z", START)]})
    assert log.is_whole(Offset(1, 0), {"z": [Stay("z", START)]})


def journal_of(max_events: int = 1_000) -> Journal:
    log = EventLog(1e9, max_events, 1 << 30, lambda count: None)
    return Journal("/", make_codec(None), log, None, lambda grown: None)


async def test_times_in_rooms_are_bounded() -> None:
    journal = journal_of()
    session = StoredSession(pid="P", id="S", namespace="/", start=journal.log.last)
    journal.enter(session, "S")
    journal.leave(session, "never entered")
    journal.enter(session, "quiet")
    journal.leave(session, "quiet")
    assert set(session.stays) == {"S"}, "nothing was sent meanwhile"
    for number in range(1_000):
        room = f"r{number % 7}"
        journal.enter(session, room)
        journal.enter(session, room)
        journal.record("n", (number,), (room,), ())
        journal.leave(session, room)
        journal.leave(session, room)
    assert session.ended <= 129
    assert sum(map(len, session.stays.values())) == session.ended + 1
    assert session.rooms == {"S"}
    assert journal.missed(session, session.start) is None, "it cannot tell any more"
    assert journal.missed(session, session.floor) is not None


async def test_stays_in_which_nothing_was_sent_are_forgotten_for_nothing() -> None:
    journal = journal_of(max_events=1)
    session = StoredSession(pid="P", id="S", namespace="/", start=journal.log.last)
    journal.enter(session, "S")
    for number in range(500):
        journal.enter(session, f"r{number}")
        journal.record("n", (), ("somewhere else",), ())
        journal.leave(session, f"r{number}")
    assert session.ended <= 129
    assert session.floor == START
    assert journal.missed(session, session.start) == []


class Outside(MemorySessions):
    """A store that knows more than the log of this node, and tells what it was told."""

    def __init__(self) -> None:
        super().__init__(100.0, 10)
        self.events: list[StoredEvent] | None = []
        self.asked: list[Any] = []
        self.saved: list[tuple[frozenset[str], dict[str, Any]]] = []

    def save(self, session: StoredSession) -> None:
        self.saved.append((session.rooms - {session.id}, dict(session.data)))

    async def backfill(
        self, session: StoredSession, after: Offset, until: Offset
    ) -> Sequence[StoredEvent] | None:
        self.asked.append((session.namespace, after, until))
        await trio.lowlevel.checkpoint()
        return self.events


@pytest.mark.parametrize("known", [True, False])
async def test_a_store_fills_what_the_log_has_let_go(autojump_clock: Any, known: bool) -> None:
    broker = Broker(recovery=Recovery(max_events=2))
    store = Outside()
    assert broker._directory.recoveries is not None
    broker._directory.recoveries.store = store
    async with open_harness(broker) as harness:
        one = await enter(harness)
        broker.emit("first")
        offset = await hear(one.peer, "first")
        await lose(harness, one)
        for number in range(4):
            broker.emit("n", number)
        journal = broker.sockets.journal
        assert journal is not None
        floor = journal.log.floor
        before = floor._replace(sequence=max(0, floor.sequence - 1), milliseconds=floor.milliseconds)
        store.events = (
            [
                StoredEvent(before, ("n", 0)),
                StoredEvent(floor, ("n", 1)),
                StoredEvent(floor, ("not for it",), ("r",)),
            ]
            if known
            else None
        )
        peer = await come_back(harness, one.pid, offset)
        assert [asked[0] for asked in store.asked] in ([], ["/"])
        if not known:
            await expect_refused(peer, one, "trimmed")
            return
        for number in range(4):
            await hear(peer, "n", number)
        await expect_recovered(peer, one)
        ((_, after, until),) = store.asked
        assert (str(after), until) == (offset, floor)


async def test_sessions_are_written_ahead(autojump_clock: Any) -> None:
    broker = Broker(recovery=Recovery())
    store = Outside()
    assert broker._directory.recoveries is not None
    broker._directory.recoveries.store = store

    @broker.use
    def middleware(socket: Socket) -> None:
        socket.join("early")

    async with open_harness(broker) as harness:
        await enter(harness)
        socket = only(broker)
        assert store.saved[-1] == ({"early"}, {})
        socket.data["k"] = 1
        assert store.saved[-1] == ({"early"}, {"k": 1})
        socket.join("late")
        socket.leave("early")
        assert store.saved[-1] == ({"late"}, {"k": 1})
        socket.data = {"new": True}
        assert store.saved[-1] == ({"late"}, {"new": True})
        written = len(store.saved)
        socket.expires_at = None
        assert len(store.saved) == written + 1
        socket.disconnect()
        socket.data["too late"] = True
        assert len(store.saved) == written + 1


async def test_an_event_numbered_elsewhere_keeps_its_number(autojump_clock: Any) -> None:
    journal = journal_of()
    later = Offset(journal.log.last.milliseconds + 60_000, 7)
    message = journal.record("n", (1,), (), (), later)
    assert message.text.endswith(f'"{later}"]'.encode())
    assert journal.log.last == later
    journal.record("n", (2,), (), ())
    assert journal.log.last > later


async def test_removed_namespaces_are_bounded(autojump_clock: Any) -> None:
    broker = Broker(
        recovery=Recovery(),
        history=History(),
        cleanup_empty_child_namespaces=True,
        limits=Limits(dynamic_namespaces=1),
    )
    broker.of(re.compile(r"^/room-\d$"))
    recoveries = broker._directory.recoveries
    assert recoveries is not None
    async with open_harness(broker) as harness:
        joined = []
        for number in range(3):
            one = await enter(harness, namespace=f"/room-{number}")
            broker.namespaces[f"/room-{number}"].to("r").emit("n")
            joined.append(one)
            await lose(harness, one)
        assert set(recoveries._journals) == {"/", "/room-2"}
        assert recoveries.bytes > 0
        await trio.sleep(4_000)
        assert set(recoveries._journals) == {"/"}
        assert recoveries.bytes == 0


async def test_a_namespace_that_is_gone_for_good_keeps_nothing(autojump_clock: Any) -> None:
    """An application may hold it, and go on sending to it."""
    broker = Broker(recovery=Recovery(), history=History(age=10.0), cleanup_empty_child_namespaces=True)
    broker.of(re.compile("/room-"))
    async with open_harness(broker) as harness:
        one = await enter(harness, namespace="/room-1")
        held = broker.of("/room-1")
        held.to("hall").emit("first")
        await lose(harness, one)
        await trio.sleep(600)
        recoveries = broker._directory.recoveries
        assert recoveries is not None
        assert set(recoveries._journals) == {"/"}
        held.to("hall").emit("more")
        assert recoveries.bytes == 0
        assert held.history("hall").events == []
        assert not held.history("hall").complete
        assert held.journal is not None
        assert len(held.journal.log) == 0


async def test_a_holder_that_does_not_end_keeps_the_session(autojump_clock: Any) -> None:
    broker = Broker(recovery=Recovery(), limits=Limits(cleanup_timeout=0.5))

    async with open_harness(broker) as harness:
        one = await enter(harness)
        socket = only(broker)
        await lose(harness, one)
        # As if its end were stuck, which the windows of the cleanup rule out.
        recoveries = broker._directory.recoveries
        assert recoveries is not None
        recoveries._holders[one.pid] = socket  # type: ignore[assignment] # it is a LoggedSocket
        socket._ended = None  # type: ignore[attr-defined] # it is a LoggedSocket
        await expect_refused(await come_back(harness, one.pid), one, "unknown")


class Untakeable:
    """What cannot be copied, as a socket cannot."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def __reduce__(self) -> Any:
        raise TypeError("no copy")

    def note(self) -> None:
        self._told.append("changed")


def test_a_watched_dict_tells_of_every_change() -> None:
    told: list[dict[str, Any]] = []
    watched: WatchedDict = WatchedDict({"a": 1}, lambda: told.append(dict(watched)))
    assert told == []
    watched["b"] = 2
    del watched["a"]
    watched.update({"c": 3}, d=4)
    assert watched.pop("c") == 3
    assert watched.pop("none", 0) == 0
    assert watched.setdefault("e", 5) == 5
    assert watched.popitem() == ("e", 5)
    watched |= {"f": 6}
    watched.clear()
    assert told == [
        {"a": 1, "b": 2},
        {"b": 2},
        {"b": 2, "c": 3, "d": 4},
        {"b": 2, "d": 4},
        {"b": 2, "d": 4},
        {"b": 2, "d": 4, "e": 5},
        {"b": 2, "d": 4},
        {"b": 2, "d": 4, "f": 6},
        {},
    ]
    assert isinstance(watched, WatchedDict)


@pytest.mark.parametrize("take", [copy, deepcopy, lambda values: pickle.loads(pickle.dumps(values))])
def test_a_copy_of_a_watched_dict_is_a_plain_one(take: Callable[[Any], Any]) -> None:
    told: list[str] = []
    taken = take(WatchedDict({"a": [1]}, Untakeable(told).note))
    assert type(taken) is dict
    assert taken == {"a": [1]}
    taken["b"] = 2
    assert told == []


async def test_a_store_that_nobody_runs_drops_without_a_word() -> None:
    store = MemorySessions(1.0, 1)
    for pid in ("a", "b"):
        store.lose(StoredSession(pid=pid, id=pid, namespace="/"))
    assert len(store) == 1
    assert await store.claim("/", "a") is RecoveryRefusal.TRIMMED


async def test_events_of_other_nodes_are_kept_on_each(autojump_clock: Any) -> None:
    hub = Hub()
    here, there = (Broker(recovery=Recovery(), history=History(), adapter=hub) for _ in range(2))
    async with there, open_harness(here) as harness:
        one = await enter(harness)
        only(here).join("r")
        there.to("r").emit("heard")
        offset = await hear(one.peer, "heard")
        await lose(harness, one)
        there.to("r").emit("missed", b"\x00")
        there.volatile.emit("volatile", "text")
        here.local.emit("local")
        peer = await come_back(harness, one.pid, offset)
        await hear(peer, "missed", {"_placeholder": True, "num": 0}, head="451-")
        await peer.expect(b"\x00")
        await hear(peer, "local")
        await expect_recovered(peer, one)
        there.volatile.emit("volatile", "text")
        await hear(peer, "volatile", "text")
        assert [one.event for one in here.history("r").events] == ["heard", "missed"]


async def test_a_broadcast_that_waits_for_room_keeps_the_order_of_the_log(autojump_clock: Any) -> None:
    broker = Broker(recovery=Recovery())
    async with open_harness(broker) as harness:
        one = await enter(harness)
        assert (await broker.send_event("awaited", 1)).queued == 1
        offset = await hear(one.peer, "awaited", 1)
        await lose(harness, one)
        assert (await broker.send_event("awaited", 2)).queued == 0
        peer = await come_back(harness, one.pid, offset)
        await hear(peer, "awaited", 2)
        await expect_recovered(peer, one)
