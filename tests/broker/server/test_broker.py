"""The broker as a whole: how it opens, closes, drains and counts, and what it is made from."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio

from broker import (
    Broker,
    BrokerError,
    ConfigError,
    DisconnectReason,
    HttpRequest,
    Limits,
    NotRunning,
    Server,
    Settings,
    Socket,
)
from tests.duplex import duplex
from tests.peers import (
    DEADLINE,
    ENGINE_PATH,
    Closed,
    PollingPeer,
    client,
    http,
    open_sockets,
    quick_broker,
    settled,
    websocket,
)

Serve = Callable[..., Any]


# -- what it is made from ------------------------------------------------------------


def test_made_from_settings_or_options() -> None:
    settings = Settings(ping_interval=3.0)
    assert Broker(settings).settings is settings
    assert Broker(ping_interval=3.0).settings == settings
    with pytest.raises(TypeError, match="either Settings or options"):
        Broker(settings, ping_interval=4.0)


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="ping_interval"):
        Broker(ping_intervall=3.0)
    with pytest.raises(ConfigError, match="unknown"):
        Broker(unknown=1)


# -- opening and closing ---------------------------------------------------------------


async def test_use_before_it_is_open() -> None:
    broker = Broker()
    left, _right = trio.testing.memory_stream_pair()
    with pytest.raises(NotRunning):
        await broker.handle_stream(left)
    assert broker.emit("x").queued == 0
    assert await broker.fetch_sockets() == []


async def test_opened_twice_is_refused_and_reopened_is_fine() -> None:
    broker = Broker()
    async with broker:
        with pytest.raises(BrokerError, match="open already"):
            await broker.__aenter__()
    async with broker:
        pass


async def test_an_error_of_the_block_leaves_it_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with Broker():
            raise KeyError("mine")
    with trio.move_on_after(0.01) as scope:
        async with Broker():
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_group_of_the_block_leaves_it_as_it_is() -> None:
    group = ExceptionGroup("mine", [KeyError(), ValueError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with Broker():
            raise group
    assert caught.value is group


@pytest.mark.parametrize("step", ["opened", "probed", "upgraded"])
async def test_exit_leaves_nothing_behind(step: str) -> None:
    """With clients in every state: polling, parked, upgrading, on WebSocket, in a handler, not joined."""
    broker = quick_broker(ping_interval=25.0)
    ended: list[str] = []

    @broker.on("work")
    async def work(socket: Socket) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("handler")

    broker.on("disconnect")(lambda socket, reason: ended.append(reason.value))
    stopping, stopped = trio.Event(), trio.Event()
    tasks, sockets = trio.lowlevel.current_statistics().tasks_living, open_sockets()

    async def run(task_status: trio.TaskStatus[Server]) -> None:
        async with trio.open_nursery() as inner:
            task_status.started(await inner.start(broker.serve, "127.0.0.1", 0))
            await stopping.wait()
            inner.cancel_scope.cancel()
        stopped.set()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(run)
        idle, parked, upgrading = [await PollingPeer.open(server) for _ in range(3)]
        for peer in (idle, parked, upgrading):
            await peer.join()
        get = await parked.begin_get()
        async with (
            client(server) as busy,
            websocket(server) as silent,
            websocket(server, sid=upgrading.sid) as probe,
        ):
            await busy.emit("work")
            if step != "opened":
                await probe.send_text("2probe")
                await probe.expect("3probe")
            if step == "upgraded":
                await probe.send_text("5")
            await silent.opened()
            await settled()
            stopping.set()
            assert (await get.receive()).told == {"code": 202, "message": "server shutting down"}
            await get.abort()
            assert await busy.expect_close() == Closed(1001, "server shutting down")
            assert await silent.expect_close() == Closed(1001, "server shutting down")
            await probe.expect_close()
            with trio.fail_after(2):
                await stopped.wait()
            assert broker.statistics().sessions == 0
    gc.collect()
    assert (trio.lowlevel.current_statistics().tasks_living, open_sockets()) == (tasks, sockets)
    assert sorted(ended) == ["handler", *["server shutting down"] * 4]


async def test_served_twice_in_a_row(serve: Serve) -> None:
    broker = quick_broker()
    for _ in range(2):
        async with serve(broker) as server, client(server) as peer:
            await peer.emit("echo", 1)
            await peer.expect('42["echo",1]')
    assert broker.statistics().sessions == 0


async def test_served_inside_async_with_on_two_ports() -> None:
    broker = quick_broker()
    async with broker:
        async with trio.open_nursery() as nursery:
            one = await nursery.start(broker.serve, "127.0.0.1", 0)
            two = await nursery.start(broker.serve, "127.0.0.1", 0)
            async with client(one) as first, client(two) as second:
                assert broker.emit("all").queued == 2
                await first.expect('42["all"]')
                await second.expect('42["all"]')
            nursery.cancel_scope.cancel()


async def serve_until(
    stop: trio.Event, broker: Broker, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until the event, and cancel then."""
    async with trio.open_nursery() as nursery:
        task_status.started(await nursery.start(broker.serve, "127.0.0.1", 0))
        await stop.wait()
        nursery.cancel_scope.cancel()


async def test_one_of_two_ports_is_closed_alone() -> None:
    """Who came in through it is sent away; who came in through the other stays, and may go on coming."""
    broker = quick_broker(ping_interval=25.0, ping_timeout=20.0)
    stop = trio.Event()
    async with broker, trio.open_nursery() as nursery:
        one = await nursery.start(broker.serve, "127.0.0.1", 0)
        two = await nursery.start(serve_until, stop, broker)
        polling = await PollingPeer.open(two)
        await polling.join()
        get = await polling.begin_get()
        stays = await PollingPeer.open(one)
        await stays.join()
        async with client(one) as first, client(two) as second, client(one) as moved:
            stop.set()
            assert await second.expect_close() == Closed(1001, "server shutting down")
            assert (await get.receive()).told == {"code": 202, "message": "server shutting down"}
            await settled()
            for peer in (first, moved):
                await peer.emit("echo", 1)
                await peer.expect('42["echo",1]')
            await stays.send('42["echo",1]')
            await stays.expect('42["echo",1]')
            assert (await http(one, "GET", "/socket.io/readyz")).status == 200
            async with client(one):
                assert broker.statistics().sessions == 4
            await get.abort()
        nursery.cancel_scope.cancel()


async def test_a_port_that_closes_lets_nobody_in() -> None:
    """While it waits for a disconnect handler, newcomers are refused there and nowhere else."""
    broker = quick_broker()
    stop, asked, go_on = trio.Event(), trio.Event(), trio.Event()

    @broker.on("disconnect")
    async def disconnect(socket: Socket, reason: DisconnectReason) -> None:
        asked.set()
        await go_on.wait()

    async with broker, trio.open_nursery() as nursery:
        one = await nursery.start(broker.serve, "127.0.0.1", 0)
        two = await nursery.start(serve_until, stop, broker)
        async with client(two):
            stop.set()
            await asked.wait()
            refused = await http(two, "GET", f"{ENGINE_PATH}&transport=polling")
            assert (refused.status, refused.json["code"]) == (503, 108)
            ready = await http(two, "GET", "/socket.io/readyz")
            assert (ready.status, ready.json["reason"]) == (503, "ending")
            assert (await http(one, "GET", "/socket.io/readyz")).status == 200
            assert (await http(one, "GET", f"{ENGINE_PATH}&transport=polling")).status == 200
            go_on.set()
        nursery.cancel_scope.cancel()


# -- drain ---------------------------------------------------------------------------------


async def test_drain_lets_handlers_and_acks_finish_and_refuses_newcomers(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    going_on = trio.Event()
    reasons: list[DisconnectReason] = []

    @broker.on("work")
    async def work(socket: Socket) -> str:
        await going_on.wait()
        return "done"

    broker.on("disconnect")(lambda socket, reason: reasons.append(reason))
    async with virtual_serve(broker) as server, client(server) as busy, client(server) as idle:
        asked: list[Any] = []

        async def ask() -> None:
            asked.append(await third.call("which"))

        async with trio.open_nursery() as nursery, client(server) as owing:
            third = list(broker.sockets.sockets.values())[2]
            nursery.start_soon(ask)
            await busy.send_text('420["work"]')
            await owing.expect('420["which"]')
            nursery.start_soon(broker.drain, 5.0)
            assert await idle.expect_close() == Closed(1001, "server shutting down")
            refused = await http(server, "GET", f"{ENGINE_PATH}&transport=polling")
            assert (refused.status, refused.json["code"]) == (503, 108)
            assert refused.header("retry-after") == "5"
            assert reasons == [DisconnectReason.SERVER_SHUTTING_DOWN]
            # Requests of sessions that exist are served; nobody gets a DISCONNECT.
            await owing.emit("echo", 1)
            await owing.expect('42["echo",1]')
            await owing.send_text("430[7]")
            assert await owing.expect_close() == Closed(1001, "server shutting down")
            going_on.set()
            await busy.expect('430["done"]')
            assert await busy.expect_close() == Closed(1001, "server shutting down")
        assert asked == [7]
    assert reasons == [DisconnectReason.SERVER_SHUTTING_DOWN] * 3


async def test_drain_closes_what_is_left_at_its_deadline(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    seen: list[str] = []

    @broker.on("work")
    async def work(socket: Socket) -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("cancelled")

    async with virtual_serve(broker) as server, client(server) as peer:
        await peer.emit("work")
        await settled()
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(broker.drain, 0.05)
                assert (await peer.expect_close()).code == 1001
    assert seen == ["cancelled"]


async def test_drain_is_paced(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    times: list[float] = []
    broker.on("disconnect")(lambda socket: times.append(trio.current_time()))
    async with virtual_serve(broker) as server:
        for _ in range(4):
            await (await PollingPeer.open(server)).join()
        for session in broker._engine.sessions.values():
            assert session.outbox.queued_bytes == 0
        await broker.drain(deadline=5.0, rate=20.0)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) == 3
    assert min(gaps) > 0.03


async def test_drain_and_close_at_the_same_time(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0)
    release = trio.Event()

    @broker.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        await release.wait()

    async def let_go() -> None:
        await settled()
        release.set()

    async with trio.open_nursery() as outer:
        outer.cancel_scope.deadline = trio.current_time() + 2
        async with trio.open_nursery() as nursery:
            server = await nursery.start(broker.serve, "127.0.0.1", 0)
            async with client(server):
                outer.start_soon(broker.drain, 0.01)
                outer.start_soon(broker.drain, 0.01)
                await settled()
                nursery.cancel_scope.cancel()
                outer.start_soon(let_go)
    assert not outer.cancel_scope.cancelled_caught


# -- figures -------------------------------------------------------------------------------


async def test_statistics(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0, limits=Limits(sessions=3))
    broker.of("/chat")
    async with serve(broker) as server, client(server) as peer, client(server, "/chat"):
        polling = await PollingPeer.open(server)
        await polling.join()
        await settled()
        broker.emit("ev", "12345")
        figures = broker.statistics()
        assert figures.sessions == 3
        assert figures.sockets == {"/": 2, "/chat": 1}
        assert figures.queued_bytes == len('42["ev","12345"]')
        full = await http(server, "GET", f"{ENGINE_PATH}&transport=polling")
        assert (full.status, full.json["code"]) == (503, 107)
        await polling.post("1")
        await peer.expect('42["ev","12345"]')
        await peer.send_text('42["nobody"]')
        await peer.send_text("41")
        await settled()
        figures.events["mine"] += 1  # a copy
        figures = broker.statistics()
        assert figures.events == {"unhandled": 1}
        assert figures.disconnects == {"transport close": 1, "client namespace disconnect": 1}
        assert sum(figures.refusals.values()) == 1
        assert figures.violations == {}


async def test_handlers_are_shared_by_all_ways_of_registering(serve: Serve) -> None:
    broker = Broker()
    seen: list[str] = []
    broker.on("connect")(lambda socket: seen.append("connect"))
    broker.sockets.on("disconnect")(lambda socket: seen.append("disconnect"))
    async with serve(broker) as server:
        async with duplex(server, "websocket") as peer:
            await peer.join()
        await settled()
    assert seen == ["connect", "disconnect"]


# -- the engine's own events ---------------------------------------------------------


async def test_hooks_tell_the_life_of_a_session_and_may_fail(serve: Serve) -> None:
    broker = quick_broker()
    told: list[tuple[Any, ...]] = []

    def connection(session: Any) -> None:
        told.append(("connection", session.transport.name))
        raise RuntimeError("isolated")

    broker.engine.on("connection")(connection)
    broker.engine.on("upgrade")(lambda session: told.append(("upgrade", session.transport.name)))
    broker.engine.on("close")(lambda session, reason: told.append(("close", reason.value)))
    async with serve(broker) as server:
        peer = await PollingPeer.open(server)
        async with websocket(server, sid=peer.sid) as raw:
            await raw.send_text("2probe")
            await raw.expect("3probe")
            await raw.send_text("5")
            await settled()
            assert broker.engine.clients_count == 1
    assert told == [("connection", "polling"), ("upgrade", "websocket"), ("close", "transport close")]
    with pytest.raises(ValueError, match="no hook 'packet'; there are: initial_headers"):
        broker.engine.on("packet")  # type: ignore[arg-type]


async def test_rooms_are_told_of_and_a_failing_listener_is_isolated(serve: Serve) -> None:
    broker = quick_broker()
    told: list[tuple[Any, ...]] = []

    @broker.on_room
    def on_room(event: str, room: str, socket: Socket | None) -> None:
        told.append((event, room, socket is not None))
        raise RuntimeError("isolated")

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        socket.join("r")

    async with serve(broker) as server, client(server):
        await settled()
    assert told == [
        ("create-room", "r", False),
        ("join-room", "r", True),
        ("leave-room", "r", True),
        ("delete-room", "r", False),
    ]


async def test_cancelling_serve_ends_a_session_that_was_upgraded_in_it() -> None:
    """The session lives in the broker's scope, its socket in that of `serve`; they go together."""
    broker = quick_broker(ping_interval=25.0)
    reasons: list[str] = []
    broker.on("disconnect")(lambda socket, reason: reasons.append(reason.value))
    serving = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[Server]) -> None:
        with serving:
            await broker.serve("127.0.0.1", 0, task_status=task_status)

    async with broker, trio.open_nursery() as nursery:
        peer = await PollingPeer.open(await nursery.start(serve))
        await peer.join()
        async with websocket(peer.where, sid=peer.sid) as raw:
            await raw.send_text("2probe")
            await raw.expect("3probe")
            await raw.send_text("5")
            await settled()
            serving.cancel()
            assert await raw.expect_close() == Closed(1001, "server shutting down")
        await settled()
        assert broker.statistics().sessions == 0
        assert reasons == ["server shutting down"]


@pytest.mark.parametrize("attempt", range(10))  # whether it runs first is the scheduler's choice
async def test_stopping_while_a_session_is_about_to_run(attempt: int) -> None:
    scope = trio.CancelScope()

    def generate_id(request: HttpRequest) -> str:
        scope.cancel()
        return "about-to-run"

    broker = quick_broker(generate_id=generate_id)

    async def serve(task_status: trio.TaskStatus[Server]) -> None:
        with scope:
            await broker.serve("127.0.0.1", 0, task_status=task_status)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            assert (await http(server, "GET", f"{ENGINE_PATH}&transport=polling")).status == 200
    assert broker.engine.clients_count == 0
