"""Who is online: a user joins once and leaves once, however many sockets, whatever way they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, Namespace, PresenceChange, Socket
from broker.rooms.presence import PresenceChanges
from tests.duplex import TRANSPORTS, duplex
from tests.peers import quick_broker, settled, websocket

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]
GRACE = 5.0


def make_broker(**options: Any) -> Broker:
    """Return a broker whose clients say who they are."""
    broker = quick_broker(**{"ping_interval": 25.0, "ping_timeout": 20.0, **options})
    identify(broker)
    return broker


def identify(namespace: Any) -> None:
    """Take the word of the clients for who they are."""

    @namespace.use
    def authenticate(socket: Socket) -> None:
        socket.identity = socket.handshake.auth["user"]


class Log:
    """What handlers were told, as `+ada` and `-ada`."""

    def __init__(self, namespace: Any) -> None:
        self.lines: list[str] = []

        @namespace.on_presence("join")
        async def joined(change: PresenceChange) -> None:
            await trio.lowlevel.checkpoint()
            self.lines.append(f"+{change.user}")

        @namespace.on_presence("leave")
        def left(change: PresenceChange) -> None:
            self.lines.append(f"-{change.user}")


async def test_three_sockets_are_one_user(virtual_serve: Serve) -> None:
    broker = make_broker()
    log = Log(broker)
    async with virtual_serve(broker) as server:
        async with websocket(server) as first, websocket(server) as second, websocket(server) as third:
            for peer in (first, second, third):
                await peer.opened()
                await peer.join(auth={"user": "ada"})
            assert list(broker.presence) == ["ada"]
            assert "ada" in broker.presence
            assert len(broker.sockets.presence) == 1
            await first.abort()
            await third.close()
            await trio.sleep(2 * GRACE)
            assert list(broker.presence) == ["ada"]
            assert log.lines == ["+ada"]
        await trio.sleep(GRACE - 0.1)
        assert log.lines == ["+ada"]
        await trio.sleep(0.2)
        assert log.lines == ["+ada", "-ada"]
        assert not broker.presence


async def test_who_comes_back_in_time_has_never_left(virtual_serve: Serve) -> None:
    broker = make_broker()
    log = Log(broker)
    async with virtual_serve(broker) as server:
        for _ in range(3):
            async with websocket(server) as peer:
                await peer.opened()
                await peer.join(auth={"user": "ada"})
                await peer.abort()
            await trio.sleep(GRACE - 0.5)
            assert "ada" in broker.presence
        await trio.sleep(1)
        assert log.lines == ["+ada", "-ada"]
        assert len(broker._engine.alarms) == 0


@pytest.mark.parametrize("how", ["client", "server"])
async def test_who_leaves_for_good_has_no_grace(virtual_serve: Serve, how: str) -> None:
    broker = make_broker()
    log = Log(broker)
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada"})
        if how == "client":
            await peer.send_text("41")
        else:
            await broker.to_user("ada").disconnect_sockets()
        await settled()
        assert log.lines == ["+ada", "-ada"]


@both
@pytest.mark.parametrize("how", ["silent", "violation", "stopped", "expired", "stalled"])
async def test_no_ghosts(virtual_serve: Serve, transport: str, how: str) -> None:
    """Ends that nobody announces; `test_any_ending` of the sessions has them all."""
    broker = make_broker(presence_grace_time=0)
    log = Log(broker)
    async with virtual_serve(broker) as server, duplex(server, transport) as peer:
        await peer.join(auth={"user": "ada"})
        await settled()
        assert log.lines == ["+ada"]
        (socket,) = broker.sockets.sockets.values()
        if how == "violation":
            await peer.send("4x")
        elif how == "expired":
            socket.refresh(1.0)
        elif how == "stopped":
            socket.disconnect(close=True)
        elif how == "stalled":
            socket.outbox.stall()
        else:
            await trio.sleep(60)
        await settled()
        assert log.lines == ["+ada", "-ada"]
        assert not broker.presence


async def test_no_ghost_of_who_goes_while_being_let_in(virtual_serve: Serve) -> None:
    broker = make_broker()
    log = Log(broker)
    entered = trio.Event()

    @broker.use
    async def slow(socket: Socket) -> None:
        entered.set()
        await trio.sleep_forever()

    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text('40{"user":"ada"}')
        await entered.wait()
        assert "ada" not in broker.presence
        await peer.abort()
        await settled()
    assert log.lines == []


async def test_the_end_of_the_broker_is_told(virtual_serve: Serve) -> None:
    broker = make_broker()
    log = Log(broker)
    changes: list[PresenceChange] = []

    async def follow() -> None:
        changes.extend([change async for change in broker.presence])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await settled()
        async with virtual_serve(broker) as server, websocket(server) as peer, websocket(server) as gone:
            for one, user in ((peer, "ada"), (gone, "bob")):
                await one.opened()
                await one.join(auth={"user": user})
            await gone.abort()
            await settled()
        # Leaving `virtual_serve` ended the iteration too, or the nursery would wait.
    assert sorted(log.lines) == ["+ada", "+bob", "-ada", "-bob"]
    assert sorted((change.kind, change.user) for change in changes) == [
        ("join", "ada"),
        ("join", "bob"),
        ("leave", "ada"),
        ("leave", "bob"),
    ]
    assert changes[0].namespace is broker.sockets
    assert not broker.presence


async def test_changes_that_wait_are_bounded_by_the_users(virtual_serve: Serve) -> None:
    broker = make_broker(presence_grace_time=0)
    async with virtual_serve(broker):
        presence = broker.presence
        changes = aiter(presence)
        for _ in range(1_000):
            presence.enter("ada")
            presence.leave("ada", for_good=True)
            presence.enter("bob")
            presence.leave("bob", for_good=True)
        presence.enter("bob")
        assert len(changes._pending) == 1
        change = await anext(changes)
        assert (change.kind, change.user) == ("join", "bob")
        presence.leave("bob", for_good=True)
        assert (await anext(changes)).kind == "leave"


async def test_an_iterator_that_nobody_holds_is_forgotten(virtual_serve: Serve) -> None:
    broker = make_broker()
    async with virtual_serve(broker):
        changes: PresenceChanges | None = aiter(broker.presence)
        assert changes is not None
        assert aiter(changes) is changes
        assert len(broker.presence._followers) == 1
        del changes
        assert len(broker.presence._followers) == 0


async def test_a_handler_that_fails_disturbs_nobody(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    broker = make_broker(presence_grace_time=0)

    @broker.on_presence("join")
    async def failing(change: PresenceChange) -> None:
        raise RuntimeError(change.user)

    log = Log(broker)
    with pytest.raises(ValueError, match="join and leave, not 'gone'"):
        broker.on_presence("gone")  # type: ignore[arg-type]
    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada"})
        await settled()
        assert log.lines == ["+ada"]
        assert broker.statistics().events["failed"] == 1
        assert "presence handler of / failed" in caplog.text


async def test_a_handler_that_fails_while_the_broker_closes(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker()

    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("secret")

    @broker.on_presence("join")
    async def failing(change: PresenceChange) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clean_up_badly)
            await trio.sleep_forever()

    with caplog.at_level("CRITICAL", logger="broker"):
        async with broker:
            broker.presence.enter("ada")
            await settled()
    assert broker.statistics().events == {"failed": 1}


async def test_a_slow_handler_hears_in_order_and_misses_only_what_was_undone(virtual_serve: Serve) -> None:
    broker = make_broker(presence_grace_time=0)
    heard: list[str] = []
    go_on = trio.Event()

    @broker.on_presence("join")
    @broker.on_presence("leave")
    async def slow(change: PresenceChange) -> None:
        heard.append(f"{change.kind} {change.user}")
        await go_on.wait()

    async with virtual_serve(broker):
        presence = broker.presence
        presence.enter("ada")
        await settled()
        presence.leave("ada", for_good=True)
        presence.enter("bob")
        presence.enter("cleo")
        presence.leave("bob", for_good=True)
        go_on.set()
        await settled()
        assert heard == ["join ada", "leave ada", "join cleo"]


async def test_a_namespace_stays_while_its_users_are_expected_back(virtual_serve: Serve) -> None:
    broker = make_broker(cleanup_empty_child_namespaces=True)
    family = broker.of(re.compile(r"^/dyn-\d+$"))
    identify(family)
    log = Log(family)
    names: list[str] = []
    family.on_presence("leave")(lambda change: names.append(change.namespace.name))
    async with virtual_serve(broker) as server:
        async with websocket(server) as peer:
            await peer.opened()
            await peer.join("/dyn-1", auth={"user": "ada"})
            namespace = broker.namespaces["/dyn-1"]
            assert isinstance(namespace, Namespace)
            await peer.abort()
        await trio.sleep(GRACE - 0.5)
        assert broker.namespaces["/dyn-1"] is namespace
        await trio.sleep(1)
        assert "/dyn-1" not in broker.namespaces
        assert log.lines == ["+ada", "-ada"]
        assert names == ["/dyn-1"]


async def test_users_of_other_nodes(virtual_serve: Serve) -> None:
    """The seam for a cluster: nodes say who is online with them, and a node can be forgotten as a whole."""
    broker = make_broker(presence_grace_time=0)
    log = Log(broker)
    async with virtual_serve(broker):
        presence = broker.presence
        local: list[str] = []
        presence.on_local.append(lambda kind, user: local.append(f"{kind} {user}"))
        presence.appear("ada", "node-2")
        presence.appear("bob", "node-2")
        presence.enter("ada")
        await settled()
        assert (log.lines, local) == (["+ada", "+bob"], ["join ada"])
        assert (list(presence), presence.local) == (["ada", "bob"], {"ada"})
        presence.vanish("cleo", "node-2")
        presence.forget_node("node-2")
        await settled()
        assert log.lines == ["+ada", "+bob", "-bob"]
        presence.appear("ada", "node-3")
        presence.leave("ada", for_good=True)
        await settled()
        assert (log.lines, local) == (["+ada", "+bob", "-bob"], ["join ada", "leave ada"])
        presence.vanish("ada", "node-3")
        await settled()
        assert log.lines == ["+ada", "+bob", "-bob", "-ada"]
