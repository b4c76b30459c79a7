"""Who is online, known on every node: told as it changes, caught up when missed, gone with the lease."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from broker import Broker, Limits, Socket
from broker.rooms.shared_presence import PRESENCE_EVENT
from tests.peers import client, quick_broker

from .hub import Hub

Serve = Callable[..., Any]
LEASE = 10.0


@asynccontextmanager
async def node(serve: Serve, hub: Hub, **options: Any) -> AsyncIterator[tuple[Broker, Any]]:
    """Serve a broker that takes everybody for whom they say they are."""
    broker = quick_broker(
        adapter=hub,
        ping_interval=1000.0,
        presence_grace_time=0.0,
        limits=Limits(presence_lease_time=LEASE),
        **options,
    )

    def identify(socket: Socket) -> None:
        socket.identity = socket.handshake.query["user"]

    broker.use(identify)
    broker.of(re.compile("^/room-")).use(identify)
    async with serve(broker) as server:
        yield broker, server


def user(server: Any, name: str, namespace: str = "/") -> Any:
    return client(server, namespace, path=f"/socket.io/?EIO=4&user={name}")


async def test_everybody_is_known_everywhere(virtual_serve: Serve) -> None:
    hub = Hub()
    changes: list[tuple[str, str]] = []
    async with node(virtual_serve, hub) as (a, at_a), node(virtual_serve, hub) as (b, at_b):

        @b.on_presence("join")
        def join(change: Any) -> None:
            changes.append(("join", change.user))

        @b.on_presence("leave")
        def leave(change: Any) -> None:
            changes.append(("leave", change.user))

        async with user(at_a, "ada"), user(at_a, "bob"):
            assert set(b.presence) == {"ada", "bob"} == set(a.presence)
            async with user(at_b, "ada"):
                assert "ada" in a.presence
            await trio.testing.wait_all_tasks_blocked()
            a.to_user("bob").emit("x")
        await trio.testing.wait_all_tasks_blocked()
        assert set(a.presence) == set(b.presence) == set()
        assert sorted(changes) == [("join", "ada"), ("join", "bob"), ("leave", "ada"), ("leave", "bob")]


async def test_a_node_that_comes_later_asks(virtual_serve: Serve) -> None:
    hub = Hub()
    async with AsyncExitStack() as stack:
        _, at_a = await stack.enter_async_context(node(virtual_serve, hub))
        await stack.enter_async_context(user(at_a, "ada"))
        b, _ = await stack.enter_async_context(node(virtual_serve, hub))
        assert set(b.presence) == {"ada"}


async def test_a_namespace_that_is_empty_here_goes_with_the_last_user_elsewhere(virtual_serve: Serve) -> None:
    hub = Hub()
    options = {"cleanup_empty_child_namespaces": True}
    async with (
        node(virtual_serve, hub, **options) as (a, at_a),
        node(virtual_serve, hub, **options) as (_, at_b),
    ):
        async with user(at_a, "ada", "/room-1"), user(at_b, "bob", "/room-1"):
            assert set(a.namespaces["/room-1"].presence) == {"ada", "bob"}
            next(iter(a.namespaces["/room-1"].sockets.values())).disconnect()
            await trio.testing.wait_all_tasks_blocked()
            assert set(a.namespaces["/room-1"].presence) == {"bob"}
        await trio.testing.wait_all_tasks_blocked()
        assert "/room-1" not in a.namespaces


async def test_what_was_missed_is_caught_up(virtual_serve: Serve) -> None:
    hub = Hub()
    async with AsyncExitStack() as stack:
        _, at_a = await stack.enter_async_context(node(virtual_serve, hub))
        b, _ = await stack.enter_async_context(node(virtual_serve, hub))
        async with user(at_a, "eve"):
            assert "eve" in b.presence
            hub.drops = lambda message: True
        await stack.enter_async_context(user(at_a, "ada"))
        assert set(b.presence) == {"eve"}
        hub.drops = lambda message: False
        await trio.sleep(LEASE / 3 + 1)
        assert set(b.presence) == {"ada"}


async def test_a_node_that_is_killed_leaves_no_ghosts(virtual_serve: Serve) -> None:
    hub = Hub()
    async with AsyncExitStack() as stack:
        a, at_a = await stack.enter_async_context(node(virtual_serve, hub))
        b, _ = await stack.enter_async_context(node(virtual_serve, hub))
        await stack.enter_async_context(user(at_a, "ada"))
        await trio.sleep(3 * LEASE)
        assert set(b.presence) == {"ada"}
        killed = hub.nodes[0].uid
        hub.drops = lambda message: message.uid == killed
        await trio.sleep(LEASE * 4 / 3 + 1)
        assert set(b.presence) == set()
        assert set(a.presence) == {"ada"}
        hub.drops = lambda message: False
        await trio.sleep(LEASE)
        assert set(b.presence) == {"ada"}


async def test_nobody_goes_while_this_node_itself_is_out_of_touch(
    virtual_serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    async with AsyncExitStack() as stack:
        _, at_a = await stack.enter_async_context(node(virtual_serve, hub))
        b, _ = await stack.enter_async_context(node(virtual_serve, hub))
        await stack.enter_async_context(user(at_a, "ada"))
        hub.drops = lambda message: True
        monkeypatch.setattr(type(hub.nodes[1]), "trouble", "away")
        assert await b.readiness.problems() == {"bus": "the other nodes are out of reach"}
        await trio.sleep(3 * LEASE)
        assert set(b.presence) == {"ada"}


@pytest.mark.parametrize(
    "told",
    [
        (),
        ("n", "beat", 1),
        (1, "beat", 1, []),
        ("n", "sing", 1, []),
        ("n", "beat", "1", []),
        ("n", "all", 1, [5]),
        ("n", "all", 1, "x"),
    ],
)
async def test_tales_that_make_no_sense(virtual_serve: Serve, told: tuple[Any, ...]) -> None:
    hub = Hub()
    async with node(virtual_serve, hub) as (a, _):
        local: Any = hub.nodes[0].links["/"]._local
        local.server_event((PRESENCE_EVENT, *told), None)
        assert a.statistics().events == {"malformed bus message": 1}
        local.server_event((PRESENCE_EVENT, a.sockets.node, "all", 1, ["me"]), None)
        local.server_event((PRESENCE_EVENT, "n", "ask", 0, ["somebody else"]), None)
        assert set(a.presence) == set()
