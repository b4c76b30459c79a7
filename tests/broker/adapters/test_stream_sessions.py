"""Sessions and events over a stream, with a Redis client that does what the test says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from attrs import asdict

from broker import DisconnectReason, Limits, RecoveryRefusal
from broker.adapters.base import BusHost, LocalNamespace
from broker.adapters.errors import BusUnavailable
from broker.adapters.recovery_store import StoredSession
from broker.adapters.redis.session_record import read_record, write_record
from broker.adapters.redis.sessions import FAR, RedisSessions
from broker.adapters.redis.stream_log import StreamLog
from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.options import EVERYONE, BroadcastOptions
from protocol.bus.streams import KeptSession, write_entry, write_session
from protocol.recovery import START, Offset, Stay

DEPTH = 20


class Client:
    """Stands in for a `RedisClient`."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.has_room = True
        self.answers: list[Any] = []

    def send(self, *parts: Any) -> bool:
        if self.has_room:
            self.sent.append(parts)
        return self.has_room

    async def ask(self, *parts: Any, messages: int = 1) -> Any:
        await trio.lowlevel.checkpoint()
        self.sent.append(parts)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def verbs(self) -> list[str]:
        verbs = [parts[0] for parts in self.sent]
        self.sent.clear()
        return verbs


class Local:
    """Stands in for a namespace."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def deliver(self, event: Any, options: Any, offset: Any = None) -> None:
        self.got.append((*event, None if offset is None else str(offset)))

    def restart_log(self, offset: Offset) -> None:
        self.got.append(("restart", str(offset)))


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def host() -> BusHost:
    return BusHost(Limits(bus_message_bytes=1000), Counter(), lambda gap: None)


@pytest.fixture
def store(client: Client, host: BusHost) -> RedisSessions:
    made = RedisSessions("u", host, client, "s", 8.0, 2)  # type: ignore[arg-type] - a stand-in
    made.trust(START)
    return made


def session(pid: str = "p", **more: Any) -> StoredSession:
    return StoredSession(pid=pid, id="i", namespace="/", **more)


def vars_of(kept: StoredSession) -> dict[str, Any]:
    return asdict(kept, recurse=False)


def test_a_record_says_all() -> None:
    stays = {"i": [Stay("i", START)], "r": [Stay("r", START, Offset(1, 2)), Stay("r", Offset(3, 0))]}
    kept = session(
        stays=stays, ended=1, data={"a": 1}, identity="me", claims={"b": 2}, expires_at=3.5,
        floor=Offset(1, 0), start=Offset(0, 1), lost=DisconnectReason.PING_TIMEOUT,
    )  # fmt: skip
    found = read_record(write_record(kept, "u"), "/", DEPTH)
    assert found is not None
    assert (vars_of(found.session), found.node, found.is_live) == (vars_of(kept), "u", False)
    assert read_record(write_record(kept, "u"), "/other", DEPTH) is None


@pytest.mark.parametrize("value", [b"", write_session(KeptSession("s", "p", (), {}, {}, "u"))])
def test_what_is_no_record(value: bytes) -> None:
    assert read_record(value, "/", DEPTH) is None


def test_a_record_with_an_odd_offset() -> None:
    odd = session()
    odd.start = "1"  # type: ignore[assignment] - what another has written
    assert read_record(write_record(odd, "u"), "/", DEPTH) is None


async def test_what_cannot_be_written_is_deleted(store: RedisSessions, client: Client, host: BusHost) -> None:
    store.lose(session(data={"a": object()}))
    assert client.verbs() == ["EVAL"]
    assert host.events["unsendable data"] == 1


async def test_what_finds_no_room_is_written_later(
    store: RedisSessions, client: Client, autojump_clock: object
) -> None:
    client.has_room = False
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run, lambda ended, why: None)
        store.save(session("held"))
        store.lose(session("lost"))
        assert await store.claim("/", "lost") is RecoveryRefusal.UNKNOWN
        await trio.sleep(0.1)
        client.has_room = True
        await trio.sleep(0.1)
        assert client.verbs() == ["EVAL", "EVAL"]
        await trio.sleep(4.0)
        assert client.verbs() == ["PEXPIRE"]
        nursery.cancel_scope.cancel()


async def test_only_so_many_are_watched_over(
    store: RedisSessions, client: Client, autojump_clock: object
) -> None:
    ended: list[tuple[str, str]] = []
    for pid in ("a", "b", "c"):
        store.lose(session(pid))
    client.answers = [0, *[BusUnavailable("away")] * 5]
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run, lambda lost, why: ended.append((lost.pid, why.value)))
        await trio.sleep(20.0)
        nursery.cancel_scope.cancel()
    assert ended == [("c", "expired")]  # b has been taken by another node; c may have been until it ended


async def test_doubt(store: RedisSessions, client: Client) -> None:
    held, lost, late, odd = session("held"), session("lost"), session("late"), session("odd")
    store.save(held)
    store.lose(odd)
    store.lose(lost)
    odd.data["a"] = object()
    store.doubt()
    assert "DEL" in client.sent[2][1]
    store.lose(late)
    assert {held.floor, lost.floor, late.floor} == {FAR}
    assert client.verbs() == ["EVAL"] * 5
    assert await store.claim("/", "held") is RecoveryRefusal.UNKNOWN
    store.trust(Offset(5, 0))
    assert (held.floor, lost.floor) == (Offset(5, 0), FAR)


async def test_a_claim_that_fails_puts_the_session_back(store: RedisSessions, client: Client) -> None:
    record = write_record(session(lost=DisconnectReason.PING_TIMEOUT), "other")
    client.answers = [record, record, BusUnavailable("away")]
    assert await store.claim("/", "p") is RecoveryRefusal.UNKNOWN
    assert client.verbs() == ["GET", "GETDEL", "XREVRANGE", "SET"]
    store.lose(session())
    assert client.verbs() == ["EVAL"]


async def test_one_taken_from_another_node_is_deleted_whatever_that_has_written(
    store: RedisSessions, client: Client
) -> None:
    record = write_record(session(lost=DisconnectReason.PING_TIMEOUT), "other")
    client.answers = [record, record, []]
    taken = await store.claim("/", "p")
    assert isinstance(taken, StoredSession)
    client.verbs()
    store.forget(taken)
    store.forget(taken)
    assert client.verbs() == ["DEL", "EVAL"]


async def test_another_was_faster(store: RedisSessions, client: Client) -> None:
    client.answers = [write_record(session(lost=DisconnectReason.PING_TIMEOUT), "other"), None]
    assert await store.claim("/", "p") is RecoveryRefusal.UNKNOWN


async def test_events_that_cannot_be_read(store: RedisSessions, client: Client) -> None:
    client.answers = [BusUnavailable("away")]
    assert await store.backfill(session(), START, FAR) is None
    client.answers = [[[b"1-1", [b"x", b"y"]]] * 1000] * 100
    assert await store.backfill(session(), START, FAR) is None


async def test_only_events_for_the_session_are_held(client: Client) -> None:
    def page(start: int, room: str) -> list[Any]:
        options = BroadcastOptions((room,))
        message = ClusterMessage(
            type=MessageType.BROADCAST, uid="v", namespace="/", event=["e"], options=options
        )
        fields = write_entry(message)
        return [[b"%d-1" % number, fields] for number in range(start, start + 1000)]

    host = BusHost(Limits(outbox_messages=500), Counter(), lambda gap: None)
    store = RedisSessions("u", host, client, "s", 8.0, 2)  # type: ignore[arg-type] - a stand-in
    ours = session(stays={"r": [Stay("r", START)]})
    client.answers = [page(1, "elsewhere"), page(1001, "elsewhere"), page(2001, "r")[:3], [[b"0-0", []]]]
    found = await store.backfill(ours, START, FAR)
    assert found is not None
    assert [one.rooms for one in found] == [("r",)] * 3
    # More than any outbox takes: what comes behind is not read.
    client.answers = [page(1, "elsewhere"), page(1001, "r")]
    assert await store.backfill(ours, START, FAR) is None
    assert client.answers == []


def make_log(
    client: Client, host: BusHost, store: RedisSessions, local: Local, trouble: list[str]
) -> StreamLog:
    namespaces: dict[str, LocalNamespace] = {"/": local}  # type: ignore[dict-item] - a stand-in
    return StreamLog("u", host, client, "s", 9, namespaces, lambda: trouble[0] if trouble else None, store)  # type: ignore[arg-type]


async def test_the_way_to_the_stream_and_back(
    client: Client, host: BusHost, store: RedisSessions, autojump_clock: object
) -> None:
    local, trouble = Local(), list[str]()
    log = make_log(client, host, store, local, trouble)
    log.begin("1-0")

    def back(entry_id: str, number: int) -> None:
        message = ClusterMessage(type=MessageType.BROADCAST, uid="u", namespace="/")
        assert log.take(entry_id, message, [b"no", b"%d" % number])

    args = ["x"]
    assert log.publish("/", ("a", args), EVERYONE)
    args.append("changed later")
    back("2-0", 1)
    assert local.got == [("restart", "1-0"), ("a", ["x"], "2-0")]
    local.got.clear()
    assert not log.publish("/", ("large", "x" * 2000), EVERYONE)  # nobody would read it
    assert local.got.pop()[-1] is None
    assert log.is_away
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.watch)
        await trio.sleep(0.15)
        assert log.publish("/", ("behind the mark",), EVERYONE)
        assert local.got == []
        back("3-0", 3)
        back("4-0", 4)
        assert local.got == [("restart", "3-0"), ("behind the mark", "4-0")]
        assert not log.is_away
        local.got.clear()
        assert log.publish("/", ("slow",), EVERYONE)
        await trio.sleep(1.2)
        assert local.got == [("slow", None)]
        back("5-0", 5)
        assert local.got == [("slow", None)]
        back("6-0", 6)
        assert not log.is_away
        trouble.append("away")
        assert log.publish("/", ("while away",), EVERYONE)
        assert local.got[-1] == ("while away", None)
        with pytest.raises(BusUnavailable):
            await log.catch_up(Offset(9, 0))
        nursery.cancel_scope.cancel()
    assert not log.take("odd", ClusterMessage(type=MessageType.HEARTBEAT, uid="v", namespace="/"), [])
    assert not log.take("7-0", ClusterMessage(type=MessageType.SOCKETS_JOIN, uid="v", namespace="/"), [])
    log.continued(False)
    assert log.is_away
