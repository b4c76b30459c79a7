"""Two servers on Node and two brokers in one cluster: every verb from every node reaches every node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define

from broker import RedisAdapter

from .nodes import (
    Member,
    NodeProcess,
    needs_node,
    needs_redis,
    node_member,
    node_program,
    our_member,
    redis_server,
)

pytestmark = [needs_redis, needs_node, pytest.mark.node]
MODES = ["classic", "sharded", "streams"]


@define
class Cluster:
    """Four members, each with one official client of the same name."""

    members: list[Member]
    clients: NodeProcess
    ids: dict[str, str]

    async def until_marked(self, name: str, mark: Any) -> list[Any]:
        heard: list[Any] = []
        for member in self.members:
            if not any(one == ["mark", mark, member.name] for one in heard):
                heard += await self.clients.call("heard", name, ["mark", mark, member.name])
        return [one for one in heard if one[0] != "mark"]


@asynccontextmanager
async def mixed_cluster(mode: Any) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        members = [
            await stack.enter_async_context(our_member(RedisAdapter(redis.url, mode=mode), "ours-1")),
            await stack.enter_async_context(node_member(redis, mode, "node-1")),
            await stack.enter_async_context(our_member(RedisAdapter(redis.url, mode=mode), "ours-2")),
            await stack.enter_async_context(node_member(redis, mode, "node-2")),
        ]
        clients = await stack.enter_async_context(node_program("client.cjs"))
        ids = {member.name: await clients.call("open", member.name, member.url) for member in members}
        for member in members:
            assert (
                await clients.call("call", member.name, "join", "everybody", f"at {member.name}") == "joined"
            )
            await clients.call("open", f"chat {member.name}", member.url + "/chat")
        yield Cluster(members, clients, ids)


@pytest.mark.parametrize("mode", MODES)
async def test_every_verb_from_every_node_reaches_every_node(mode: str) -> None:
    async with mixed_cluster(mode) as cluster:
        names = list(cluster.ids)
        for member in cluster.members:
            await check_emits(cluster, member, names)
            await check_rooms(cluster, member, names)
            await check_questions(cluster, member, names)
        await check_disconnects(cluster, names)


async def check_emits(cluster: Cluster, member: Member, names: list[str]) -> None:
    me = member.name
    await member.do("emit", [], [], "all", me, {"deep": [1, None, "é😀"]})
    await member.do("emit_binary", ["everybody"], [], "bytes", [0, 1, 255])
    for name in names:
        await member.do("emit", [f"at {name}"], [], "room", me, name)
        await member.do("emit", [cluster.ids[name]], [], "private", me, name)
    await member.do("emit", [f"at {names[0]}", f"at {names[1]}"], [], "rooms", me)
    await member.do("emit", [], [f"at {names[0]}"], "except", me)
    await member.do("emit", ["nobody"], [], "nobody", me)
    await member.do("emit_chat", "chat", me)
    for name in names:
        found = await cluster.clients.call("heard", f"chat {name}", ["chat", me])
        assert found == [["chat", me]]
    wanted = {}
    for name in names:
        wanted[name] = [
            ["all", me, {"deep": [1, None, "é😀"]}],
            ["bytes", {"$hex": "0001ff"}],
            ["room", me, name],
            ["private", me, name],
        ]
        if name in names[:2]:
            wanted[name].append(["rooms", me])
        if name != names[0]:
            wanted[name].append(["except", me])
    await expect_unordered(cluster, f"emits of {me}", wanted)


async def expect_unordered(cluster: Cluster, mark: str, wanted: dict[str, list[Any]]) -> None:
    """Channels of rooms and of everybody have no common order at a node on Node, with two connections."""
    for one in cluster.members:
        await one.do("emit", [], [], "mark", mark, one.name)
    for name in cluster.ids:
        heard = await cluster.until_marked(name, mark)
        assert sorted(map(repr, heard)) == sorted(map(repr, wanted.get(name, []))), (mark, name)


async def check_rooms(cluster: Cluster, member: Member, names: list[str]) -> None:
    room = f"new {member.name}"
    await member.do("join", ["everybody"], [f"at {names[3]}"], [room, "other"])
    await until_fetched(cluster, room, names[:3])
    await member.do("leave", [f"at {names[0]}", f"at {names[3]}"], [], [room])
    await until_fetched(cluster, room, names[1:3])
    await member.do("emit", [room], [], "in new room", 1)
    await expect_unordered(
        cluster, f"rooms of {member.name}", {name: [["in new room", 1]] for name in names[1:3]}
    )
    await member.do("leave", [], [], [room, "other"])
    await until_fetched(cluster, room, [])
    found = await member.do("fetch", ["everybody"], [f"at {names[1]}"])
    assert [one[0] for one in found] == sorted(cluster.ids[name] for name in names if name != names[1])
    assert found[0][1] == sorted(found[0][1])


async def until_fetched(cluster: Cluster, room: str, names: list[str]) -> None:
    """Joins and leaves take effect when they arrive: ask every node until all see it so."""
    wanted = sorted(cluster.ids[name] for name in names)
    with trio.fail_after(5):
        for member in cluster.members:
            # Other processes have no event to wait for.
            while [one[0] for one in await member.do("fetch", [room], [])] != wanted:  # noqa: ASYNC110 - other processes
                await trio.sleep(0.01)


async def check_questions(cluster: Cluster, member: Member, names: list[str]) -> None:
    answers = await member.do("call", [], [], "q", "ignored")
    assert answers == sorted(f"{name} says q" for name in names)
    assert await member.do("call", [cluster.ids[names[2]]], [], "one") == [f"{names[2]} says one"]
    assert await member.do("call", ["nobody"], [], "none") == []
    others = sorted(name for name in names if name != member.name)
    assert await member.do("server_call", "question", 5) == [(name, 5) for name in others]
    await member.do("server_emit", "note", "for nodes")
    wanted = {name: [["noted", name, "for nodes"]] for name in others}
    for name in others:
        heard = await cluster.clients.call("heard", name, ["noted", name, "for nodes"])
        assert heard == wanted[name]


async def check_disconnects(cluster: Cluster, names: list[str]) -> None:
    """Each sends the client of the next one away."""
    for position, member in enumerate(cluster.members):
        name = names[(position + 1) % 4]
        await member.do("disconnect", [f"at {name}"], [], True)
        heard = await cluster.clients.call("heard", name, ["disconnected", "io server disconnect"])
        assert heard == [["disconnected", "io server disconnect"]]
