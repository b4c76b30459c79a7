"""Room history: what a latecomer reads, from which position, and what it is told is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from broker import Broker, BrokerError, ConfigError, History, Limits, Recovery, RoomHistory, Socket
from broker.testing import Harness, open_harness


def told(history: RoomHistory) -> list[Any]:
    return [(one.event, *one.args) for one in history.events]


@pytest.fixture
async def harness(autojump_clock: Any) -> AsyncIterator[Harness]:
    async with open_harness(Broker(history=History(count=3, age=100))) as harness:
        yield harness


async def test_events_of_a_room_by_position(harness: Harness) -> None:
    broker = harness.broker
    assert broker is not None
    assert broker.history("r") == RoomHistory(position=broker.history("r").position, complete=True)
    broker.to("r").emit("a", 1)
    broker.to("r", "s").emit("b", {"n": [b"\x00"]}, b"\x01")
    broker.emit("to everyone")
    broker.to("s").emit("c")
    broker.to("r").volatile.emit("volatile")
    history = broker.history("r")
    assert told(history) == [("a", 1), ("b", {"n": [b"\x00"]}, b"\x01")]
    assert (history.complete, history.more) == (True, False)
    assert told(broker.history("s")) == [("b", {"n": [b"\x00"]}, b"\x01"), ("c",)]
    first, second = history.events
    assert told(broker.history("r", since=first.position)) == [("b", {"n": [b"\x00"]}, b"\x01")]
    assert told(broker.history("r", since=history.position)) == []
    piece = broker.history("r", limit=1)
    assert (told(piece), piece.position, piece.more) == ([("a", 1)], first.position, True)
    piece = broker.history("r", since=piece.position, limit=1)
    assert (piece.events, piece.more) == ([second], False)
    assert piece.position == history.position
    for since, limit in (("x", None), (None, 0)):
        with pytest.raises(ValueError, match="no position or no limit"):
            broker.history("r", since=since, limit=limit)


async def test_a_room_that_is_named_twice_has_the_event_once(harness: Harness) -> None:
    broker = harness.broker
    assert broker is not None
    broker.to("r", "s").to("r").emit("once")
    assert told(broker.history("r")) == [("once",)]


async def test_what_is_gone_is_told(harness: Harness) -> None:
    broker = harness.broker
    assert broker is not None
    for number in range(5):
        broker.to("r").emit("n", number)
    history = broker.history("r")
    assert told(history) == [("n", 2), ("n", 3), ("n", 4)]
    assert not history.complete
    first, *_, last = history.events
    assert broker.history("r", since=first.position).complete
    assert broker.history("r", since=last.position).complete
    assert not broker.history("r", since="1-0").complete
    assert not broker.history("r", since="9999999999999-0").complete
    await trio.sleep(101)
    history = broker.history("r", since=first.position)
    assert (history.events, history.complete) == ([], False)
    assert broker.history("r", since=last.position).complete
    await trio.sleep(100)
    assert broker._directory.recoveries is not None
    assert broker._directory.recoveries._histories is not None
    assert len(broker._directory.recoveries._histories) == 0
    history = broker.history("r", since=first.position)
    assert (history.events, history.complete) == ([], False)


async def test_bytes_of_a_room_are_bounded(autojump_clock: Any) -> None:
    broker = Broker(history=History(bytes=2_000))
    async with broker:
        for number in range(5):
            broker.to("r").emit("n", number, "x" * 200)
        assert [event.args[0] for event in broker.history("r").events] == [3, 4]
        assert not broker.history("r").complete


async def test_rooms_are_bounded(autojump_clock: Any) -> None:
    broker = Broker(history=History(), limits=Limits(history_rooms=2))
    async with broker:
        before = broker.history("a").position
        for room in ("a", "b", "a", "c"):
            broker.to(room).emit("n")
        assert [len(broker.history(room).events) for room in "abc"] == [2, 0, 1]
        assert not broker.history("b", since=before).complete
        assert not broker.history("b").complete
        assert broker.history("a").complete
        broker.to("b").emit("n")
        assert not broker.history("b").complete


async def test_bytes_of_all_rooms_are_bounded(autojump_clock: Any) -> None:
    broker = Broker(history=History(), limits=Limits(history_bytes=3_000))
    async with broker:
        for number in range(20):
            broker.to(f"r{number}").emit("n")
        kept = [number for number in range(20) if broker.history(f"r{number}").events]
        assert kept == [17, 18, 19]


async def test_a_latecomer_reads_and_then_hears_without_gap_or_repetition(autojump_clock: Any) -> None:
    broker = Broker(history=History(count=1_000))
    stop = False

    @broker.on("enter")
    def enter(socket: Socket, room: str, since: str | None) -> dict[str, Any]:
        socket.join(room)
        history = broker.history(room, since=since)
        return {"events": [[one.event, *one.args] for one in history.events], "at": history.position}

    async def talk() -> None:
        number = 0
        while not stop:
            broker.to("r").emit("n", number)
            number += 1
            await trio.sleep(0.01)

    async with open_harness(broker) as harness, trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        await trio.sleep(0.5)
        numbers: list[int] = []
        since = None
        for _ in range(3):
            peer = await harness.joined_peer()
            await peer.send("420", ["enter", "r", since])
            (answer,) = await peer.expect("430", [{"events": list, "at": str}])
            numbers += [number for _, number in answer["events"]]
            since = answer["at"]
            for _ in range(20):
                _, number, since = await peer.expect("42", ["n", int, str])
                numbers.append(number)
            await peer.abort()
            await trio.sleep(0.5)
        stop = True
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 150


async def test_history_and_recovery_share_positions(autojump_clock: Any) -> None:
    broker = Broker(history=History(), recovery=Recovery(max_events=1))
    async with open_harness(broker) as harness:
        peer = await harness.joined_peer()
        (socket,) = broker.sockets.sockets.values()
        socket.join("r")
        broker.to("r").emit("a")
        *_, position = await peer.expect("42", ["a", str])
        broker.to("r").emit("b")
        assert told(broker.history("r")) == [("a",), ("b",)]
        assert broker.history("r").events[0].position == position


@pytest.mark.parametrize("recovery", [None, Recovery()])
async def test_direct_events_are_in_no_history(autojump_clock: Any, recovery: Recovery | None) -> None:
    broker = Broker(history=History(), recovery=recovery)
    async with open_harness(broker) as harness:
        await harness.joined_peer()
        (socket,) = broker.sockets.sockets.values()
        socket.emit("private")
        socket.volatile.emit("private")
        assert broker.history(socket.id).events == []
        assert socket.recovery_refused is None


async def test_history_alone_keeps_no_sessions(harness: Harness) -> None:
    peer = await harness.peer()
    await peer.opened()
    await peer.send("40", {"pid": "P"})
    await peer.expect("40", {"sid": str, "recovery": "unsupported"})
    await peer.abort()
    await harness.settled()


async def test_history_of_the_msgpack_parser(autojump_clock: Any) -> None:
    pytest.importorskip("msgpack")
    broker = Broker(history=History(), parser="msgpack")
    async with broker:
        broker.to("r").emit("a", b"\x00", [1])
        assert told(broker.history("r")) == [("a", b"\x00", [1])]


async def test_without_history_it_says_so(autojump_clock: Any) -> None:
    for broker in (Broker(), Broker(recovery=Recovery())):
        async with broker:
            with pytest.raises(BrokerError, match="room history is off"):
                broker.history("r")


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean count"):
        History(cuont=1)  # type: ignore[call-arg] # that is the test
    with pytest.raises(ConfigError, match=r"history\.count"):
        History(count=0)
    with pytest.raises(ConfigError, match=r"history\.age"):
        History(age=0)
    with pytest.raises(ConfigError, match=r"recovery\.max_events"):
        Recovery(max_events=0)
