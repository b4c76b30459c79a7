"""Recovery as a client without code of ours sees it: pid, offsets, what comes back, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import trio

from broker import (
    Broker,
    ConnectRefused,
    DisconnectReason,
    ExpiredSession,
    Limits,
    Recovery,
    RecoveryRefusal,
    Socket,
    Verdict,
)
from broker.testing import Harness, WebSocketPeer, open_harness

OFFSET = re.compile(r"\d{13}-\d+")


class Joined(NamedTuple):
    """A peer in a namespace, and what the server told it."""

    peer: WebSocketPeer
    sid: str
    pid: str


def broker_with(recovery: Recovery | None = None, **options: Any) -> Broker:
    broker = Broker(recovery=recovery or Recovery(), **options)

    @broker.on("join")
    def join(socket: Socket, *rooms: str) -> None:
        socket.join(*rooms)

    @broker.on("leave")
    def leave(socket: Socket, *rooms: str) -> None:
        socket.leave(*rooms)

    return broker


async def enter(harness: Harness, auth: Any = None, namespace: str = "/") -> Joined:
    peer = await harness.peer(pongs=True)
    await peer.opened()
    prefix = "40" if namespace == "/" else f"40{namespace},"
    await peer.send(prefix, {} if auth is None else auth)
    answer = await peer.expect(prefix, {"sid": str, "pid": str, ...: ...})
    return Joined(peer, answer["sid"], answer["pid"])


async def come_back(harness: Harness, pid: str, offset: str | None = None, **more: Any) -> WebSocketPeer:
    peer = await harness.peer(pongs=True)
    await peer.opened()
    await peer.send("40", {"pid": pid, **({} if offset is None else {"offset": offset}), **more})
    return peer


async def lose(harness: Harness, joined: Joined) -> None:
    await joined.peer.abort()
    await harness.settled()


async def ask(peer: WebSocketPeer, event: str, *args: Any) -> None:
    await peer.send(f"4277{json.dumps([event, *args])}")
    await peer.expect("4377", [])


async def hear(peer: WebSocketPeer, *data: Any, head: str = "42") -> str:
    """Expect an event, and return the offset at its end."""
    found = await peer.expect(head, [*data, str])
    assert OFFSET.fullmatch(found[-1])
    return str(found[-1])


async def expect_recovered(peer: WebSocketPeer, joined: Joined) -> None:
    await peer.expect("40", {"sid": joined.sid, "pid": joined.pid})


async def expect_refused(peer: WebSocketPeer, joined: Joined, word: str) -> None:
    answer = await peer.expect("40", {"sid": str, "pid": str, "recovery": word})
    assert answer["sid"] != joined.sid
    assert answer["pid"] != joined.pid


def only(broker: Broker) -> Socket:
    (socket,) = broker.sockets.sockets.values()
    return socket


def expired_in(broker: Broker) -> list[ExpiredSession]:
    expired: list[ExpiredSession] = []
    broker.on_session_expired(expired.append)
    return expired


@pytest.fixture
def broker() -> Broker:
    return broker_with()


@pytest.fixture
async def harness(broker: Broker, autojump_clock: Any) -> AsyncIterator[Harness]:
    async with open_harness(broker) as harness:
        yield harness


# -- what carries an offset ----------------------------------------------------


async def test_what_carries_an_offset_and_what_does_not(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    socket = only(broker)
    offsets = []
    broker.emit("all", 1)
    offsets.append(await hear(one.peer, "all", 1))
    socket.emit("direct", "text")
    offsets.append(await hear(one.peer, "direct", "text"))
    broker.to(one.sid).emit("nothing else")
    offsets.append(await hear(one.peer, "nothing else"))
    await socket.send_event("awaited")
    offsets.append(await hear(one.peer, "awaited"))
    broker.emit("bytes", b"\x01")
    found = await one.peer.expect("451-", ["bytes", {"_placeholder": True, "num": 0}, str])
    offsets.append(found[-1])
    await one.peer.expect(b"\x01")
    assert len(set(offsets)) == 5
    assert offsets == sorted(offsets, key=lambda text: tuple(map(int, text.split("-"))))
    # Volatile events and those that ask for an ack have none of their own.
    broker.volatile.emit("gone", 1)
    await one.peer.expect('42["gone",1]')
    socket.volatile.emit("gone")
    await one.peer.expect('42["gone"]')
    with trio.move_on_after(1):
        await socket.call("ask", "text")
    await one.peer.expect("420", ["ask", "text"])
    with trio.move_on_after(1):
        await broker.call("ask", "text")
    await one.peer.expect("421", ["ask", "text"])


async def test_a_volatile_text_at_the_end_repeats_the_offset(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    broker.emit("news", "one")
    offset = await hear(one.peer, "news", "one")
    broker.volatile.emit("typing", "who")
    assert await hear(one.peer, "typing", "who") == offset
    only(broker).volatile.emit("typing", "you")
    assert await hear(one.peer, "typing", "you") == offset
    await lose(harness, one)
    broker.emit("news", "two")
    peer = await come_back(harness, one.pid, offset)
    await hear(peer, "news", "two")
    await expect_recovered(peer, one)


async def test_receivers_share_one_encoded_event(broker: Broker, harness: Harness) -> None:
    one, other = await enter(harness), await enter(harness)
    broker.emit("news")
    assert await hear(one.peer, "news") == await hear(other.peer, "news")
    assert one.pid != other.pid


async def test_an_event_without_a_form_leaves_no_trace(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    with pytest.raises(TypeError):
        broker.emit("news", object())
    with pytest.raises(ValueError, match="reserved"):
        broker.emit("connect")
    with pytest.raises(ValueError, match="reserved"):
        only(broker).emit("connect")
    with pytest.raises(ValueError, match="reserved"):
        only(broker).volatile.emit("connect")
    await lose(harness, one)
    await expect_recovered(await come_back(harness, one.pid), one)


# -- coming back ---------------------------------------------------------------


async def test_rooms_data_and_missed_events_come_back(broker: Broker, harness: Harness) -> None:
    seen: list[Any] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        seen.append((socket.recovered, socket.recovery_refused, sorted(socket.rooms - {socket.id})))

    one = await enter(harness, {"token": "t"})
    await ask(one.peer, "join", "a", "b")
    socket = only(broker)
    socket.data["name"] = "n"
    broker.emit("before")
    offset = await hear(one.peer, "before")
    await lose(harness, one)
    assert broker.sockets.sockets == {}
    broker.emit("to all", "x")
    broker.to("a", "b").emit("to rooms")
    broker.to("c").emit("to others")
    broker.except_("b").emit("not to b")
    broker.to("a").except_("c").emit("not to c")
    broker.to(one.sid).emit("direct", b"\x00")
    assert socket.emit("to the old socket") is Verdict.QUEUED
    broker.volatile.emit("volatile")
    peer = await come_back(harness, one.pid, offset, token="t")
    await hear(peer, "to all", "x")
    await hear(peer, "to rooms")
    await hear(peer, "not to c")
    await hear(peer, "direct", {"_placeholder": True, "num": 0}, head="451-")
    await peer.expect(b"\x00")
    last = await hear(peer, "to the old socket")
    await expect_recovered(peer, one)
    again = only(broker)
    assert again is not socket
    assert (again.id, again.data, again.recovered) == (one.sid, {"name": "n"}, True)
    assert again.rooms == {one.sid, "a", "b"}
    assert again.handshake.auth["token"] == "t"
    assert broker.sockets.rooms == {"a": {one.sid}, "b": {one.sid}}
    assert seen == [(False, None, []), (True, None, ["a", "b"])]
    # It goes on, and can be lost again.
    broker.to("a").emit("after")
    last = await hear(peer, "after")
    await lose(harness, Joined(peer, one.sid, one.pid))
    broker.to("b").emit("again")
    third = await come_back(harness, one.pid, last)
    await hear(third, "again")
    await expect_recovered(third, one)
    assert broker.statistics().recoveries["recovered"] == 2
    assert socket.emit("to the oldest socket") is Verdict.CLOSED


async def test_an_idle_client_comes_back_without_an_offset(broker: Broker, harness: Harness) -> None:
    broker.emit("before it came")
    one = await enter(harness)
    await lose(harness, one)
    broker.emit("missed")
    peer = await come_back(harness, one.pid)
    offset = await hear(peer, "missed")
    await expect_recovered(peer, one)
    # Null is no offset, and neither is what an earlier session left behind.
    two = Joined(peer, one.sid, one.pid)
    await lose(harness, two)
    peer = await harness.peer()
    await peer.opened()
    await peer.send("40", {"pid": one.pid, "offset": None})
    assert await hear(peer, "missed") == offset
    await expect_recovered(peer, one)


async def test_the_offset_of_an_earlier_session_means_the_beginning(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    broker.emit("old")
    stale = await hear(one.peer, "old")
    broker.emit("older clients keep it")
    two = await enter(harness)
    await lose(harness, two)
    broker.emit("missed")
    peer = await come_back(harness, two.pid, stale)
    await hear(peer, "missed")
    await expect_recovered(peer, two)


async def test_only_what_was_sent_while_it_was_in_the_room(broker: Broker, harness: Harness) -> None:
    """A client that was not in a room when an event was sent must not get it by losing its connection."""
    one = await enter(harness)
    socket = only(broker)
    broker.emit("start")
    offset = await hear(one.peer, "start")
    broker.to("r").emit("too early")
    socket.join("r")
    broker.to("r").emit("in time")
    socket.leave("r")
    broker.to("r").emit("too late")
    broker.except_("r").emit("outside")
    socket.join("r")
    broker.except_("r").emit("left out")
    broker.to("r").emit("in again")
    await lose(harness, one)
    peer = await come_back(harness, one.pid, offset)
    await hear(peer, "in time")
    await hear(peer, "outside")
    await hear(peer, "in again")
    await expect_recovered(peer, one)


async def test_each_namespace_has_its_own(broker: Broker, harness: Harness) -> None:
    @broker.of("/chat").on("x")
    def x(socket: Socket) -> None: ...

    one, chat = await enter(harness), await enter(harness, namespace="/chat")
    await lose(harness, one)
    await lose(harness, chat)
    broker.of("/chat").emit("missed")
    broker.emit("other")
    # A pid of another namespace is unknown there, and stays good for its own.
    peer = await come_back(harness, chat.pid)
    await expect_refused(peer, one, "unknown")
    peer = await harness.peer()
    await peer.opened()
    await peer.send("40/chat,", {"pid": chat.pid})
    await hear(peer, "missed", head="42/chat,")
    await peer.expect("40/chat,", {"sid": chat.sid, "pid": chat.pid})


async def test_a_removed_namespace_keeps_its_sessions(autojump_clock: Any) -> None:
    broker = broker_with(cleanup_empty_child_namespaces=True)
    family = broker.of(re.compile(r"^/room-\d$"))
    expired: list[ExpiredSession] = []
    family.on_session_expired(expired.append)
    async with open_harness(broker) as harness:
        one = await enter(harness, namespace="/room-1")
        other = await enter(harness, namespace="/room-2")
        await lose(harness, one)
        await lose(harness, other)
        assert "/room-1" not in broker.namespaces
        peer = await harness.peer(pongs=True)
        await peer.opened()
        await peer.send("40/room-1,", {"pid": one.pid})
        await peer.expect("40/room-1,", {"sid": one.sid, "pid": one.pid})
        await trio.sleep(130)
        assert [session.namespace for session in expired] == ["/room-2"]


async def test_a_namespace_stays_for_whom_it_takes_back(autojump_clock: Any) -> None:
    """Its only member is the old socket of the one who comes."""
    broker = broker_with(cleanup_empty_child_namespaces=True)
    broker.of(re.compile("/room-"))
    async with open_harness(broker) as harness:
        peer = await harness.peer()  # answers no PING
        await peer.opened()
        await peer.send("40/room-1,", {})
        pid = (await peer.expect("40/room-1,", {"sid": str, "pid": str}))["pid"]
        again = await harness.peer(pongs=True)
        await again.opened()
        await again.send("40/room-1,", {"pid": pid})
        await again.expect("40/room-1,", {"sid": str, "pid": pid})
        broker.of("/room-1").emit("here")
        await hear(again, "here", head="42/room-1,")
        await lose(harness, Joined(again, "", pid))
        assert "/room-1" not in broker.namespaces


async def test_polling_gets_everything_in_one_answer(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    await lose(harness, one)
    broker.emit("a")
    broker.emit("b")
    peer = await harness.polling_peer()
    await peer.send("40", {"pid": one.pid})
    await hear(peer, "a")  # type: ignore[arg-type] # any peer will do
    await hear(peer, "b")  # type: ignore[arg-type] # any peer will do
    await peer.expect("40", {"sid": one.sid, "pid": one.pid})


# -- which sessions are kept ---------------------------------------------------


@pytest.mark.parametrize("how", ["client", "server", "server and session", "refused by connect"])
async def test_who_leaves_for_good_is_not_kept(broker: Broker, harness: Harness, how: str) -> None:
    expired = expired_in(broker)
    if how == "refused by connect":

        @broker.on("connect")
        def connect(socket: Socket) -> None:
            raise ConnectRefused("no")

    one = await enter(harness)
    if how == "client":
        await one.peer.send("41")
    elif how.startswith("server"):
        only(broker).disconnect(close=how == "server and session")
    await harness.settled()
    await one.peer.abort()
    peer = await come_back(harness, one.pid)
    await expect_refused(peer, one, "unknown")
    assert expired == []
    assert broker.statistics().recoveries["unknown"] == 1


@pytest.mark.parametrize(
    "reason",
    [
        DisconnectReason.FORCED_CLOSE,
        DisconnectReason.FORCED_SERVER_CLOSE,
        DisconnectReason.PING_TIMEOUT,
        DisconnectReason.SERVER_SHUTTING_DOWN,
        DisconnectReason.SLOW_CONSUMER,
        DisconnectReason.HANDLER_STALLED,
        DisconnectReason.IDENTITY_EXPIRED,
        DisconnectReason.TRANSPORT_CLOSE,
        DisconnectReason.TRANSPORT_ERROR,
    ],
)
async def test_who_is_cut_off_is_kept(broker: Broker, harness: Harness, reason: DisconnectReason) -> None:
    one = await enter(harness)
    (session,) = broker._engine.sessions.values()
    session.close(reason)
    await session.wait_ended()
    await one.peer.abort()
    await expect_recovered(await come_back(harness, one.pid), one)


@pytest.mark.parametrize("reason", [DisconnectReason.PARSE_ERROR, DisconnectReason.LIMIT_EXCEEDED])
async def test_who_broke_the_rules_is_not_kept(
    broker: Broker, harness: Harness, reason: DisconnectReason
) -> None:
    one = await enter(harness)
    (session,) = broker._engine.sessions.values()
    session.close(reason)
    await session.wait_ended()
    await one.peer.abort()
    await expect_refused(await come_back(harness, one.pid), one, "unknown")


# -- refusals ------------------------------------------------------------------


async def test_expired(autojump_clock: Any) -> None:
    broker = broker_with(Recovery(window=10))
    expired = expired_in(broker)
    refused: list[Any] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        refused.append(socket.recovery_refused)

    async with open_harness(broker) as harness:
        one = await enter(harness)
        await ask(one.peer, "join", "r")
        only(broker).data["k"] = 1
        await lose(harness, one)
        await trio.sleep(9.9)
        assert expired == []
        await trio.sleep(0.2)
        (session,) = expired
        assert (session.id, session.namespace, session.data) == (one.sid, "/", {"k": 1})
        assert session.rooms == {one.sid, "r"}
        assert session.reason is DisconnectReason.TRANSPORT_CLOSE
        assert session.why is RecoveryRefusal.EXPIRED
        await expect_refused(await come_back(harness, one.pid), one, "expired")
        assert refused == [None, RecoveryRefusal.EXPIRED]
        assert broker.statistics().recoveries["expired"] == 1
        # Long after, nobody knows it any more.
        await lose(harness, await enter(harness))
        await trio.sleep(30)
        await lose(harness, await enter(harness))
        await trio.sleep(11)
        await expect_refused(await come_back(harness, one.pid), one, "unknown")


async def test_a_connected_client_does_not_expire(autojump_clock: Any) -> None:
    broker = broker_with(Recovery(window=10))
    expired = expired_in(broker)
    async with open_harness(broker) as harness:
        one = await enter(harness)
        await lose(harness, one)
        await trio.sleep(9)
        peer = await come_back(harness, one.pid)
        await expect_recovered(peer, one)
        with trio.move_on_after(60):
            await peer.receive()
        assert expired == []
        await lose(harness, Joined(peer, one.sid, one.pid))
        await trio.sleep(9)
        await expect_recovered(await come_back(harness, one.pid), one)
        assert expired == []


@pytest.mark.parametrize("bound", ["events", "bytes", "all logs"])
async def test_trimmed(autojump_clock: Any, bound: str) -> None:
    recovery = Recovery(max_events=3) if bound == "events" else Recovery(max_bytes=2_000)
    limits = Limits()
    if bound == "all logs":
        recovery, limits = Recovery(), Limits(recovery_bytes=2_000)
    broker = broker_with(recovery, limits=limits)
    expired = expired_in(broker)
    async with open_harness(broker) as harness:
        one, quiet = await enter(harness), await enter(harness)
        broker.to(one.sid).emit("first")
        offset = await hear(one.peer, "first")
        await lose(harness, one)
        await lose(harness, quiet)
        for number in range(8):
            broker.to(one.sid).emit("n", number)
        assert broker.statistics().dropped["log trimmed"] > 3
        await expect_refused(await come_back(harness, one.pid, offset), one, "trimmed")
        assert [(session.id, session.why) for session in expired] == [(one.sid, RecoveryRefusal.TRIMMED)]
        # It was not for everybody: who was not meant has missed nothing.
        await expect_recovered(await come_back(harness, quiet.pid), quiet)


async def pump(peer: WebSocketPeer, found: list[Any]) -> None:
    """Keep a peer alive, and take what comes to it."""
    peer.patience = 10_000
    while True:
        found.append(await peer.receive())


async def test_old_events_go_and_a_quiet_client_still_comes_back(autojump_clock: Any) -> None:
    broker = broker_with(Recovery(window=10), ping_interval=5, ping_timeout=5)
    recoveries = broker._directory.recoveries
    assert recoveries is not None
    async with open_harness(broker) as harness, trio.open_nursery() as nursery:
        quiet, busy = await enter(harness), await enter(harness)
        broker.sockets.sockets[busy.sid].join("busy")
        broker.to(quiet.sid).emit("hello")
        offset = await hear(quiet.peer, "hello")
        for one in (quiet, busy):
            nursery.start_soon(pump, one.peer, [])
        for _ in range(100):
            broker.to("busy").emit("n")
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
        assert 0 < recoveries.bytes < 30_000, "what is older than 20 s is gone"
        with trio.CancelScope(shield=True):
            await lose(harness, quiet)
            await lose(harness, busy)
            broker.to(quiet.sid).emit("missed")
            peer = await come_back(harness, quiet.pid, offset)
            await hear(peer, "missed")
            await expect_recovered(peer, quiet)
            # Events of its room that are gone may be among those that it missed.
            await expect_refused(await come_back(harness, busy.pid), busy, "trimmed")
            await trio.sleep(40)
            assert recoveries.bytes == 0


async def test_too_much_to_send_at_once_is_trimmed(autojump_clock: Any) -> None:
    broker = broker_with(limits=Limits(outbox_hard_bytes=1_000, outbox_soft_bytes=900))
    async with open_harness(broker) as harness:
        one = await enter(harness)
        await lose(harness, one)
        for _ in range(11):
            broker.emit("n", "x" * 100)
        await expect_refused(await come_back(harness, one.pid), one, "trimmed")


async def test_lost_sessions_are_bounded(autojump_clock: Any) -> None:
    broker = broker_with(limits=Limits(recovery_sessions=2))
    expired = expired_in(broker)
    async with open_harness(broker) as harness:
        all_three = [await enter(harness) for _ in range(3)]
        for one in all_three:
            await lose(harness, one)
        assert [(session.id, session.why) for session in expired] == [
            (all_three[0].sid, RecoveryRefusal.TRIMMED)
        ]
        await expect_refused(await come_back(harness, all_three[0].pid), all_three[0], "trimmed")
        for one in all_three[1:]:
            await expect_recovered(await come_back(harness, one.pid), one)


@pytest.mark.parametrize(
    "offset", ["foo", "", "1-1-1", "9999999999999-0", 5, ["1-1"], "x" * 100_000, "٣-٣", "4444444444444-1\n"]
)
async def test_an_offset_that_was_never_one(broker: Broker, harness: Harness, offset: Any) -> None:
    expired = expired_in(broker)
    one = await enter(harness)
    await lose(harness, one)
    peer = await harness.peer()
    await peer.opened()
    await peer.send("40", {"pid": one.pid, "offset": offset})
    await expect_refused(peer, one, "unknown")
    assert [session.why for session in expired] == [RecoveryRefusal.UNKNOWN]


async def test_an_offset_between_two_events(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    broker.emit("n")
    first = await hear(one.peer, "n")
    while broker._directory.of("/").journal.log.last.sequence:  # type: ignore[union-attr] # it is on
        broker.emit("n")
    await lose(harness, one)
    milliseconds, sequence = map(int, first.split("-"))
    await trio.lowlevel.checkpoint()
    for _ in range(3):
        broker.emit("n")
    peer = await come_back(harness, one.pid, f"{milliseconds}-{sequence + 9_999}")
    await expect_refused(peer, one, "unknown")


@pytest.mark.parametrize("pid", ["foo", "", "x" * 100_000, "é"])
async def test_a_forged_pid(broker: Broker, harness: Harness, pid: str) -> None:
    one = await enter(harness)
    await expect_refused(await come_back(harness, pid, "1-1"), one, "unknown")


@pytest.mark.parametrize("pid", [5, None, ["x"], {}])
async def test_what_is_no_pid_is_the_applications_own(broker: Broker, harness: Harness, pid: Any) -> None:
    peer = await harness.peer()
    await peer.opened()
    await peer.send("40", {"pid": pid})
    await peer.expect("40", {"sid": str, "pid": str})
    assert only(broker).recovery_refused is None


async def test_without_recovery_it_is_unsupported(autojump_clock: Any) -> None:
    broker = Broker()
    async with open_harness(broker) as harness:
        peer = await come_back(harness, "P", "1-1")
        await peer.expect("40", {"sid": str, "recovery": "unsupported"})
        assert only(broker).recovery_refused is RecoveryRefusal.UNSUPPORTED
        assert not only(broker).recovered
        broker.emit("plain")
        await peer.expect('42["plain"]')
        assert broker.statistics().recoveries["unsupported"] == 1


# -- one at a time -------------------------------------------------------------


async def test_a_session_is_used_once_at_a_time(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    await lose(harness, one)
    first, second = await come_back(harness, one.pid), await come_back(harness, one.pid)
    found: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, first, found)
        await expect_refused(second, one, "unknown")
        nursery.cancel_scope.cancel()
    assert found == [f'40{{"sid":"{one.sid}","pid":"{one.pid}"}}']
    assert broker.sockets.sockets[one.sid].connected


async def test_a_client_that_still_answers_keeps_its_session(broker: Broker, harness: Harness) -> None:
    client = await harness.connect()
    socket = only(broker)
    pid = socket.stored.pid  # type: ignore[attr-defined] # a LoggedSocket
    peer = await come_back(harness, pid)
    answer = await peer.expect("40", {"sid": str, "pid": str, "recovery": "unknown"})
    assert answer["sid"] != socket.id
    assert socket.connected
    await client.close()


async def test_a_silent_connection_gives_way(autojump_clock: Any) -> None:
    """The client knows that its network is gone long before the server does."""
    broker = broker_with()
    told: list[str] = []

    @broker.on("disconnect")
    async def disconnect(socket: Socket, reason: DisconnectReason) -> None:
        await trio.sleep(0.5)
        socket.data["seen"] = reason
        told.append(f"disconnect {reason}")

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        told.append(f"connect {socket.recovered} {socket.data}")

    async with open_harness(broker) as harness:
        peer = await harness.peer()
        await peer.opened()
        await peer.send("40", {})
        answer = await peer.expect("40", {"sid": str, "pid": str})
        one = Joined(peer, answer["sid"], answer["pid"])
        broker.emit("one")
        offset = await hear(peer, "one")
        broker.emit("two")  # lost on the way
        started = trio.current_time()
        again = await come_back(harness, one.pid, offset)
        await hear(again, "two")
        await expect_recovered(again, one)
        assert trio.current_time() - started == pytest.approx(2.5, abs=0.2)
        assert told == [
            "connect False {}",
            "disconnect ping timeout",
            f"connect True {{'seen': {DisconnectReason.PING_TIMEOUT!r}}}",
        ]


async def test_the_old_connection_breaks_while_it_is_asked(broker: Broker, harness: Harness) -> None:
    peer = await harness.peer()  # answers no PING
    await peer.opened()
    await peer.send("40", {})
    answer = await peer.expect("40", {"sid": str, "pid": str})
    one = Joined(peer, answer["sid"], answer["pid"])
    again = await come_back(harness, one.pid)
    await one.peer.expect("2")
    await one.peer.abort()
    started = trio.current_time()
    await expect_recovered(again, one)
    assert trio.current_time() - started < 1


async def test_coming_back_at_once_waits_for_the_handlers_of_the_old_socket(
    broker: Broker, harness: Harness
) -> None:
    done: list[str] = []

    @broker.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        await trio.sleep(1)
        done.append(f"old {socket.connected}")

    one = await enter(harness)
    await one.peer.abort()
    peer = await come_back(harness, one.pid)
    await expect_recovered(peer, one)
    assert done == ["old False"]


# -- middlewares ---------------------------------------------------------------


@pytest.mark.parametrize("skip", [True, False])
async def test_middlewares_run_again_when_asked(autojump_clock: Any, skip: bool) -> None:
    broker = broker_with(Recovery(skip_middlewares=skip))
    seen: list[Any] = []

    @broker.use
    async def middleware(socket: Socket) -> None:
        seen.append((socket.recovered, sorted(socket.rooms - {socket.id})))
        await trio.sleep(1)
        broker.emit("meanwhile")
        if socket.recovered:
            socket.leave("a")
            socket.join("b")

    async with open_harness(broker) as harness:
        one = await enter(harness)
        await ask(one.peer, "join", "a")
        await lose(harness, one)
        broker.emit("missed")
        peer = await come_back(harness, one.pid)
        await hear(peer, "missed")
        if not skip:
            await hear(peer, "meanwhile")
        await expect_recovered(peer, one)
        assert only(broker).rooms == {one.sid, "a" if skip else "b"}
        assert seen == [(False, [])] if skip else [(False, []), (True, ["a"])]
        # The rooms that it has left are left for what it misses, too.
        await lose(harness, Joined(peer, one.sid, one.pid))
        broker.to("a").emit("to a")
        broker.to("b").emit("to b")
        peer = await come_back(harness, one.pid)
        await hear(peer, "missed")
        if not skip:
            await hear(peer, "meanwhile")
        await hear(peer, "to a" if skip else "to b")


async def test_who_is_refused_may_try_again(autojump_clock: Any) -> None:
    broker = broker_with(Recovery(skip_middlewares=False))
    expired = expired_in(broker)

    @broker.use
    def middleware(socket: Socket) -> None:
        if socket.recovered and socket.handshake.auth.get("token") != "new":
            raise ConnectRefused("token expired")

    async with open_harness(broker) as harness:
        one = await enter(harness)
        await lose(harness, one)
        broker.emit("missed")
        peer = await come_back(harness, one.pid)
        await peer.expect("44", {"message": "token expired"})
        await peer.send("40", {"pid": one.pid, "token": "new"})
        await hear(peer, "missed")
        await expect_recovered(peer, one)
        assert expired == []


@pytest.mark.parametrize("how", ["withdrawn", "cut"])
async def test_who_goes_before_it_is_let_in_may_come_again(autojump_clock: Any, how: str) -> None:
    broker = broker_with(Recovery(skip_middlewares=False))

    @broker.use
    async def middleware(socket: Socket) -> None:
        await trio.sleep(1)

    async with open_harness(broker) as harness:
        one = await enter(harness)
        await lose(harness, one)
        peer = await come_back(harness, one.pid)
        await harness.settled()
        if how == "withdrawn":
            await peer.send("41")
        else:
            await peer.abort()
        await harness.settled()
        assert broker.sockets.sockets == {}
        await expect_recovered(await come_back(harness, one.pid), one)


async def test_who_is_let_in_too_late_for_the_log_starts_over(autojump_clock: Any) -> None:
    broker = broker_with(Recovery(skip_middlewares=False, max_events=2))

    @broker.use
    async def middleware(socket: Socket) -> None:
        if socket.recovered:
            await trio.sleep(1)
            for number in range(5):
                broker.emit("n", number)

    async with open_harness(broker) as harness:
        one = await enter(harness)
        await lose(harness, one)
        peer = await come_back(harness, one.pid)
        assert (await peer.expect_close()).code == 1000
        await expect_refused(await come_back(harness, one.pid), one, "trimmed")


# -- identity ----


async def test_the_user_comes_back_with_the_socket(autojump_clock: Any) -> None:
    now = [1_000.0]
    broker = broker_with(wall_clock=lambda: now[0])
    asked: list[bool] = []

    @broker.use
    def middleware(socket: Socket) -> None:
        asked.append(socket.recovered)
        socket.identity = "ada"
        socket.claims = {"role": "admin"}
        socket.expires_at = now[0] + 100

    expired = expired_in(broker)
    async with open_harness(broker) as harness:
        one = await enter(harness)
        only(broker).refresh(now[0] + 300, claims={"role": "user"})
        await lose(harness, one)
        broker.to_user("ada").emit("for ada")
        now[0] += 200
        peer = await come_back(harness, one.pid)
        await hear(peer, "for ada")
        await expect_recovered(peer, one)
        again = only(broker)
        assert (again.identity, again.claims, again.expires_at) == ("ada", {"role": "user"}, 1_300)
        broker.to_user("ada").emit("again")
        await hear(peer, "again")
        # What was said about the user holds no more: the middlewares have to look again.
        await lose(harness, Joined(peer, one.sid, one.pid))
        now[0] += 200
        peer = await come_back(harness, one.pid)
        await hear(peer, "for ada")
        await hear(peer, "again")
        await expect_recovered(peer, one)
        assert asked == [False, True]
        assert only(broker).expires_at == now[0] + 100
        # The session ends when it expires, and the client comes back with a new proof.
        now[0] += 101
        peer.patience = 200
        assert (await peer.expect_close()).reason == "identity expired"
        peer = await come_back(harness, one.pid)
        await hear(peer, "for ada")
        await hear(peer, "again")
        await expect_recovered(peer, one)
        assert asked == [False, True, True]
        assert expired == []


async def test_another_user_does_not_get_the_session(autojump_clock: Any) -> None:
    broker = broker_with(Recovery(skip_middlewares=False))

    @broker.use
    def middleware(socket: Socket) -> None:
        socket.identity = socket.handshake.auth["user"]

    expired = expired_in(broker)
    async with open_harness(broker) as harness:
        one = await enter(harness, {"user": "ada"})
        await lose(harness, one)
        broker.to_user("ada").emit("private")
        peer = await come_back(harness, one.pid, user="bob")
        await peer.expect("44", {"message": "identity changed", "data": {"code": "identity_changed"}})
        assert [(session.id, session.rooms) for session in expired] == [(one.sid, {one.sid})]
        await peer.send("40", {"pid": one.pid, "user": "bob"})
        await expect_refused(peer, one, "unknown")
        assert broker.statistics().recoveries["recovered"] == 0


async def test_who_has_expired_when_it_is_let_in_leaves_nothing_behind(autojump_clock: Any) -> None:
    broker = broker_with(wall_clock=lambda: 1_000.0)
    expired = expired_in(broker)

    @broker.use
    def middleware(socket: Socket) -> None:
        socket.expires_at = 999

    async with open_harness(broker) as harness:
        peer = await harness.peer()
        await peer.opened()
        await peer.send("40", {})
        await peer.expect("44", {"message": "identity expired", "data": {"code": "identity_expired"}})
    assert expired == []


# -- the end -------------------------------------------------------------------


async def test_sessions_end_with_the_broker(autojump_clock: Any, caplog: Any) -> None:
    broker = broker_with()

    @broker.on_session_expired
    def fails(session: ExpiredSession) -> None:
        raise RuntimeError("a listener")

    expired = expired_in(broker)
    async with broker:
        async with open_harness(broker) as harness:
            one, other = await enter(harness), await enter(harness)
            await lose(harness, one)
            await broker.drain(1)
            await other.peer.abort()
            assert expired == []
            assert {session.reason for session in expired} == set()
    assert [session.id for session in expired] == [one.sid, other.sid]
    assert [session.reason for session in expired] == [
        DisconnectReason.TRANSPORT_CLOSE,
        DisconnectReason.SERVER_SHUTTING_DOWN,
    ]
    assert broker.statistics().recoveries["session expired"] == 2
    assert caplog.text.count("listener for expired sessions of / failed") == 2


async def test_data_may_be_replaced(broker: Broker, harness: Harness) -> None:
    one = await enter(harness)
    only(broker).data = {"a": 1}
    only(broker).data |= {"b": 2}
    await lose(harness, one)
    peer = await come_back(harness, one.pid)
    await expect_recovered(peer, one)
    assert only(broker).data == {"a": 1, "b": 2}
