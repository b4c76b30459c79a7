"""Slow consumers: whose policy holds, who waits, who goes first, and counts that are exact to the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from broker import AckTimeout, Broker, DisconnectReason, EmitResult, Limits, Socket, Verdict
from tests.broker import carriers
from tests.broker.carriers import Carrier
from tests.duplex import joined
from tests.peers import TEXT, BareWebSocket, build_frame, client, quick_broker, settled, until

Serve = Callable[..., Any]


def small(**options: Any) -> Broker:
    """Return a broker whose outboxes hold two messages."""
    limits = {"outbox_messages": 2, "close_timeout": 0.1, **options.pop("limits", {})}
    return quick_broker(ping_interval=25.0, limits=Limits(**limits), **options)


def only(broker: Broker, namespace: str = "/") -> Socket:
    (socket,) = broker.of(namespace).sockets.values()
    return socket


def dropped(broker: Broker) -> dict[str, int]:
    return dict(broker.statistics().dropped)


# -- whose policy holds ---------------------------------------------------------------------


async def test_emit_wins_over_room_over_namespace_over_broker(serve: Serve) -> None:
    broker = small(overflow="drop_newest")
    async with serve(broker) as server, joined(server, "polling") as peer:
        only(broker).join("prices", "others")
        for number in range(2):
            broker.emit("fill", number)
        assert broker.emit("ev").dropped == 1
        broker.set_overflow("wait")
        assert broker.to("others").emit("ev").dropped == 1
        broker.set_overflow("drop_newest", room="prices")
        assert broker.to("others", "prices").emit("ev").dropped == 1
        assert broker.overflow("drop_oldest").to("prices").emit("ev").dropped == 1  # none may be dropped
        assert only(broker).overflow("wait").emit("ev") is Verdict.DROPPED
        assert dropped(broker) == {"newest": 3, "would wait": 2}
        broker.set_overflow(None, room="prices")
        broker.set_overflow(None)
        assert broker.to("prices").emit("ev").dropped == 1
        assert dropped(broker) == {"newest": 4, "would wait": 2}
        await peer.expect('42["fill",0]', '42["fill",1]')


async def test_a_namespace_and_a_family_have_their_own(serve: Serve) -> None:
    broker = small()
    broker.of("/a").set_overflow("drop_oldest")
    broker.of(lambda name, auth: name.startswith("/dyn")).set_overflow("keep_latest")
    async with serve(broker) as server, joined(server, "polling", "/a") as peer:
        await peer.join("/dyn-1")
        a, family = broker.of("/a"), only(broker, "/dyn-1").namespace
        await settled()
        assert [a.emit("n", number).queued for number in range(4)] == [1] * 4
        await peer.expect('42/a,["n",2]', '42/a,["n",3]')
        assert [family.emit("n", number).queued for number in range(4)] == [1] * 4
        await peer.expect('42/dyn-1,["n",3]')
        assert dropped(broker) == {"oldest": 2, "replaced": 3}


async def test_the_latest_is_kept_by_key_and_namespace(serve: Serve) -> None:
    broker = small(overflow="keep_latest", limits={"outbox_messages": 20})
    a, b = broker.of("/a"), broker.of("/b")
    async with serve(broker) as server, joined(server, "polling", "/a") as peer:
        await peer.join("/b")
        await settled()
        for number in range(3):
            a.emit("x", number)
            b.emit("x", number)
            a.overflow("keep_latest", key=f"k{number % 2}").emit("x", number)
            a.overflow("disconnect").emit("x", number)
        waiting = [("a", 0), ("a", 1), ("a", 1), ("a", 2), ("b", 2), ("a", 2), ("a", 2)]
        await peer.expect(*(f'42/{name},["x",{number}]' for name, number in waiting))
        assert dropped(broker) == {"replaced": 5}


def test_a_policy_is_checked_when_it_is_given() -> None:
    broker = Broker()
    with pytest.raises(ValueError, match="'block' is not a valid"):
        broker.overflow("block")  # type: ignore[arg-type]  # what a program without types may do
    with pytest.raises(ValueError, match="a key is for keep_latest, not for wait"):
        broker.set_overflow("wait", "k")


async def test_a_question_is_refused_rather_than_dropped_for_others(serve: Serve) -> None:
    broker = small(overflow="drop_oldest")
    async with serve(broker) as server, joined(server, "polling") as peer:
        socket = only(broker)
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []

            async def ask() -> None:
                answers.append(await socket.call("ask", timeout=5))

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            for number in range(5):
                socket.emit("n", number)
            with pytest.raises(AckTimeout):
                await socket.timeout(0.01).call("refused")
            await peer.expect('420["ask"]', '42["n",4]')
            await peer.send("430[7]")
        assert answers == [7]
        assert dropped(broker) == {"oldest": 4, "newest": 1}


# -- who waits --------------------------------------------------------------------------------


async def test_a_broadcast_that_waits_for_the_slow(serve: Serve) -> None:
    broker = small(overflow="wait", limits={"outbox_messages": 100, "outbox_soft_bytes": 100})
    results: list[EmitResult] = []
    async with serve(broker) as server, joined(server, "polling") as slow, client(server) as quick:
        only_slow = next(one for one in broker.sockets.sockets.values() if one.transport == "polling")
        only_slow.emit("fill", "x" * 200)

        async def send() -> None:
            results.append(await broker.send_event("n", 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await quick.expect('42["n",1]')
            await wait_all_tasks_blocked()
            assert results == []
            await slow.expect(f'42["fill","{"x" * 200}"]')
        await slow.expect('42["n",1]')
        assert results == [EmitResult(queued=2)]
        only_slow.emit("fill", "x" * 200)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await quick.expect('42["n",1]')
            only_slow.disconnect(close=True)
        assert results[1] == EmitResult(queued=1, closed=1)


# -- who goes first ---------------------------------------------------------------------------


async def test_the_one_that_holds_most_goes_first(serve: Serve) -> None:
    broker = small(limits={"outboxes_bytes": 11_000, "outbox_messages": 100})
    reasons: dict[str, DisconnectReason] = {}
    broker.on("disconnect")(lambda socket, reason: reasons.update({socket.id: reason}))
    async with (
        serve(broker) as server,
        joined(server, "polling") as worst,
        joined(server, "polling") as better,
    ):
        await settled()
        greedy, modest = broker.sockets.sockets.values()
        for _ in range(6):
            greedy.emit("fill", "x" * 1_000)
        for _ in range(4):
            modest.emit("fill", "y" * 1_000)
        assert reasons == {}
        assert modest.emit("last", "z" * 1_500) is Verdict.QUEUED
        await until(lambda: reasons)
        assert reasons == {greedy.id: DisconnectReason.EVICTED}
        assert dropped(broker) == {"evicted": 6}
        assert await worst.peer.packets() == ["6", "1"]  # type: ignore[union-attr]  # it is polling
        await better.expect(*['42["fill","' + "y" * 1_000 + '"]'] * 4, '42["last","' + "z" * 1_500 + '"]')
        await settled()
        assert broker.statistics().queued_bytes == 0


async def test_an_evicted_websocket_is_told(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0, limits=Limits(outboxes_bytes=500_000))
    async with serve(broker) as server, await BareWebSocket.open(server) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        await until(lambda: broker.sockets.sockets)
        socket = only(broker)
        while socket.connected:
            socket.emit("n", "x" * 50_000)
            await settled()
        frames = []
        while (frame := await bare.receive_frame()) is not None:
            frames.append(frame)
        assert frames[-1].payload == (1013).to_bytes(2, "big") + b"evicted"


# -- polling sessions have the same budgets ------------------------------------------------------


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_soft_budget_of_a_session(virtual_serve: Serve, transport: str) -> None:
    limits = Limits(outbox_soft_bytes=1_000, outbox_soft_time=5.0)
    broker = quick_broker(ping_interval=60.0, limits=limits)
    reasons: list[DisconnectReason] = []
    broker.on("disconnect")(lambda socket, reason: reasons.append(reason))
    async with virtual_serve(broker) as server, joined(server, transport):
        socket = only(broker)
        if transport == "websocket":
            # The network in memory takes no more, and the client does not read.
            while not broker.statistics().queued_bytes:
                socket.emit("fill", "x" * 20_000)
                await wait_all_tasks_blocked()
        socket.emit("fill", "x" * 2_000)
        assert socket.emit("more", "x" * 2_000) is Verdict.QUEUED
        await trio.sleep(4.9)
        assert socket.emit("more") is Verdict.QUEUED
        await trio.sleep(0.2)
        assert socket.emit("more") is Verdict.CLOSED
        await trio.sleep(10)
        assert reasons == [DisconnectReason.SLOW_CONSUMER]


# -- counts that are exact --------------------------------------------------------------------


async def numbers_of(bare: BareWebSocket) -> list[int]:
    """Read all that was sent, and return the numbers of the whole events."""
    numbers = []
    try:
        while (frame := await bare.receive_frame()) is not None:
            if frame.payload.startswith(b'42["n",'):
                numbers.append(int(frame.payload[7:].split(b",")[0]))
    except (AssertionError, EOFError, trio.BrokenResourceError):
        pass  # it was cut within a frame
    return numbers


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.tls, carriers.sockets])
@pytest.mark.parametrize("end", ["overflow", "stall", "close", "abort"])
async def test_what_is_missing_is_counted_to_the_message(carrier: Carrier, end: str) -> None:
    limits = Limits(write_timeout=0.05 if end == "stall" else 10.0, close_timeout=0.1)
    broker = quick_broker(ping_interval=25.0, limits=limits)
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(TEXT, b"40"))
        await until(lambda: broker.sockets.sockets)
        await settled()
        socket = only(broker)
        emitted = 0
        waiting = 1_000_000_000 if end in ("overflow", "stall") else 500_000
        while socket.connected and broker.statistics().queued_bytes < waiting:
            socket.emit("n", emitted, "x" * 50_000)
            emitted += 1
            if emitted % 10 == 0:
                await settled()
        if end == "close":
            socket.disconnect(close=True)
        elif end == "abort":
            broker._engine.end_all(DisconnectReason.FORCED_CLOSE)
        await until(lambda: broker.statistics().sessions == 0)
        received = await numbers_of(bare)
        assert received == list(range(len(received)))
        assert len(received) < emitted
        assert len(received) + sum(dropped(broker).values()) == emitted
