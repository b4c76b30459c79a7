"""Redis goes away, hangs, lies or is something else: what a node does, and what it says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from attrs import frozen

from broker import Broker, BusUnavailable, ConfigError, Gap, Limits, RedisAdapter, Socket
from tests.peers import RawWebSocket, client, serving

from .faults import proxy
from .nodes import RedisServer, free_port, needs_redis, redis_server

pytestmark = needs_redis
QUICK: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.4, "connect_timeout": 0.4}
PATIENT: dict[str, Any] = {"ping_timeout": 60.0, "connect_timeout": 60.0}
"""For tests in which nothing breaks: a busy machine breaks nothing either."""
MODES = ["classic", "sharded", "streams"]
DEADLINE = 10.0


@frozen
class Node:
    broker: Broker
    peer: RawWebSocket
    socket: Socket
    gaps: list[Gap]

    @property
    def trouble(self) -> str | None:
        bus = self.broker._directory.bus
        assert bus is not None
        return bus.trouble

    @property
    def events(self) -> Any:
        return self.broker.statistics().events


@asynccontextmanager
async def node(
    url: str, mode: Any = "classic", limits: Limits | None = None, **options: Any
) -> AsyncIterator[Node]:
    adapter = RedisAdapter(url, mode=mode, **{**QUICK, **options})
    broker = Broker(adapter=adapter, limits=limits or Limits())
    gaps: list[Gap] = []
    broker.on_gap(gaps.append)
    async with serving(broker) as server, client(server) as peer:
        (socket,) = broker.sockets.sockets.values()
        yield Node(broker, peer, socket, gaps)


async def until(holds: Callable[[], Any]) -> None:
    """Wait for what another process, or time, brings about."""
    with trio.fail_after(DEADLINE):
        while not holds():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.01)


async def until_linked(a: Node, b: Node) -> None:
    """Wait until what one sends reaches the other, and take what came until then."""
    number = 0
    for source, target in ((a, b), (b, a)):
        with trio.fail_after(DEADLINE):
            while True:
                number += 1
                source.broker.to(target.socket.id).emit("linked", number)
                with trio.move_on_after(0.05):
                    while await target.peer.receive() != f'42["linked",{number}]':
                        pass
                    break


@asynccontextmanager
async def linked(mode: str, **options: Any) -> AsyncIterator[tuple[RedisServer, Node, Node]]:
    """Run a Redis server and two nodes that hear each other."""
    async with (
        redis_server() as redis,
        node(redis.url, mode, **options) as a,
        node(redis.url, mode, **options) as b,
    ):
        await until_linked(a, b)
        yield redis, a, b


@pytest.mark.parametrize("mode", MODES)
async def test_redis_is_stopped_and_comes_back_empty(mode: str) -> None:
    async with linked(mode) as (redis, a, b):
        await redis.stop()
        await until(lambda: a.trouble and b.trouble)
        assert a.broker.local.emit("here", 1).queued == 1
        await a.peer.expect('42["here",1]')
        assert (await a.broker.fetch_sockets()).silent == ("?",)
        for number in range(10):
            assert a.broker.emit("meanwhile", number).unpublished == 0
            await a.peer.expect(f'42["meanwhile",{number}]')
        await redis.start()
        await until(lambda: a.gaps and b.gaps and not a.trouble and not b.trouble)
        assert a.gaps[0].seconds > 0
        assert a.events["bus gap"] == 1
        if mode == "streams":
            for number in range(10):
                await b.peer.expect(f'42["meanwhile",{number}]')
        await until_linked(a, b)
        assert len(await a.broker.fetch_sockets()) == 2


async def test_a_stream_loses_nothing_while_a_connection_is_away() -> None:
    async with redis_server() as redis, proxy(redis.port) as way:
        async with node(redis.url, "streams") as a, node(f"redis://127.0.0.1:{way.port}", "streams") as b:
            await until_linked(a, b)
            for round_number in range(3):
                way.cut()
                for number in range(20):
                    a.broker.to(b.socket.id).emit("all", round_number, number)
                for number in range(20):
                    await b.peer.expect(f'42["all",{round_number},{number}]')
            await until(lambda: b.gaps)
            assert all(gap.replayed for gap in b.gaps)


@pytest.mark.parametrize("namespace", ["/chat", "/tenant-1"])
async def test_several_streams(namespace: str) -> None:
    """The hash of `/tenant-1` is negative, and so is the number of its stream, as in the reference."""
    async with redis_server() as redis, node(redis.url, "streams", stream_count=3, **PATIENT) as a:
        async with node(redis.url, "streams", stream_count=3, **PATIENT) as b:
            a.broker.of(namespace)
            b.broker.of(namespace)
            await b.peer.send_text(f"40{namespace},")
            assert str(await b.peer.receive()).startswith(f"40{namespace},")
            a.broker.of(namespace).emit("x")
            await b.peer.expect(f'42{namespace},["x"]')


async def test_what_a_stream_let_go_before_it_was_read_is_reported() -> None:
    """The trimming overtakes a node that is slower than the others send, though its connection stands."""
    async with linked("streams", **PATIENT) as (redis, a, b):
        add = (
            "for number = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], 'MAXLEN', 200, '*',"
            " 'uid', 'u', 'nsp', '/', 'type', '2') end"
        )
        await redis.ask("EVAL", add, "1", "socket.io", "150")
        await until_linked(a, b)
        assert (a.gaps, b.gaps) == ([], [])
        await redis.ask("EVAL", add, "1", "socket.io", "1000")
        await until(lambda: a.gaps and b.gaps)
        assert not a.gaps[0].replayed
        await until_linked(a, b)
        assert len(a.gaps) == len(b.gaps) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_redis_hangs(mode: str) -> None:
    async with linked(mode) as (redis, a, b):
        before = await redis.ask("CLIENT", "LIST")
        redis.hang()
        started = trio.current_time()
        await until(lambda: a.trouble and b.trouble)
        assert trio.current_time() - started < 5
        redis.wake()
        await until(lambda: not a.trouble and not b.trouble and a.gaps and b.gaps)
        await until_linked(a, b)
        after = await redis.ask("CLIENT", "LIST")
        assert after.count("name=broker-") == before.count("name=broker-")


async def test_a_read_that_nobody_waits_for_does_not_hold_up_the_end() -> None:
    async with redis_server() as redis:
        adapter = RedisAdapter(redis.url, mode="streams", **PATIENT)
        broker = Broker(adapter=adapter, limits=Limits(close_timeout=60.0))
        async with broker:
            redis.hang()
            begun = trio.current_time()
        assert trio.current_time() - begun < DEADLINE
        redis.wake()


@pytest.mark.parametrize("mode", MODES)
async def test_a_broker_that_is_opened_again_waits_for_no_old_answers(mode: Any) -> None:
    async with redis_server() as redis, node(redis.url, mode, **PATIENT) as a:
        adapter = RedisAdapter(redis.url, mode=mode, **PATIENT)
        broker = Broker(adapter=adapter, limits=Limits(close_timeout=0.1))
        gaps: list[Gap] = []
        broker.on_gap(gaps.append)
        async with broker:
            redis.hang()
            broker.of("/late")
            broker.emit("late")
            await trio.testing.wait_all_tasks_blocked()
        redis.wake()
        async with broker:
            assert (await broker.fetch_sockets()).complete
            assert (await broker.of("/late").fetch_sockets()).complete
            broker.to(a.socket.id).emit("again")
            while await a.peer.receive() != '42["again"]':
                pass
        assert gaps == []


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_emitted_while_the_broker_is_not_open_is_not_published(mode: Any) -> None:
    async with redis_server() as redis, node(redis.url, mode, **PATIENT) as a:
        broker = Broker(adapter=RedisAdapter(redis.url, mode=mode, **PATIENT))
        assert broker.emit("too early").unpublished == 1
        async with broker:
            assert broker.emit("in time").unpublished == 0
        assert broker.emit("too late").unpublished == 1
        async with broker:
            assert broker.emit("again").unpublished == 0
            await a.peer.expect('42["in time"]')
            await a.peer.expect('42["again"]')


async def test_many_short_outages_leave_one_connection() -> None:
    async with redis_server() as redis, proxy(redis.port) as way:
        async with node(f"redis://127.0.0.1:{way.port}") as a:
            for number in range(30):
                way.cut()
                await until(lambda number=number: len(a.gaps) == number + 1 and not a.trouble)
            assert way.opened == 31
            assert (await redis.ask("CLIENT", "LIST")).count("name=broker-") == 1
            assert max(gap.seconds for gap in a.gaps) < 5


async def test_a_node_that_hears_nothing_connects_anew() -> None:
    async with redis_server() as redis, proxy(redis.port) as way:
        async with node(f"redis://127.0.0.1:{way.port}") as a:
            await trio.sleep(0.3)
            assert a.trouble is None
            way.deaf = True
            await until(lambda: a.trouble)
            assert "does not come back" in str(a.trouble)
            way.deaf = False
            await until(lambda: a.gaps and not a.trouble)
            assert a.events["deaf to the bus"] >= 1


async def test_what_waits_for_the_bus_is_bounded() -> None:
    async with redis_server() as redis, node(redis.url, limits=Limits(bus_buffer_bytes=2000)) as a:
        await redis.stop()
        await until(lambda: a.trouble)
        results = [a.broker.emit("x", "y" * 100).unpublished for _ in range(30)]
        assert results[0] == 0
        assert results[-1] == 1
        with pytest.raises(BusUnavailable):
            await a.broker.sockets_join("r" * 300)
        lost = sum(results) + 1
        assert a.events["bus buffer full"] == lost
        await redis.start()
        await until(lambda: a.gaps)
        assert a.gaps[0].lost == lost


async def test_publications_that_nobody_confirmed_are_reported() -> None:
    async with redis_server() as redis, node(redis.url) as a:
        redis.hang()
        for number in range(5):
            a.broker.emit("x", number)
        await until(lambda: a.trouble)
        redis.wake()
        await until(lambda: a.gaps)
        assert a.gaps[0].unconfirmed == 5
        assert a.events["unconfirmed bus message"] == 5


async def test_publications_that_redis_refuses_are_reported() -> None:
    async with linked("streams", **PATIENT) as (redis, a, b):
        await redis.ask("CONFIG", "SET", "maxmemory", "1")
        for number in range(3):
            a.broker.emit("no room", number)
        await until(lambda: sum(gap.lost for gap in a.gaps) == 3)
        await redis.ask("CONFIG", "SET", "maxmemory", "0")
        assert "maxmemory" in a.gaps[0].cause
        assert a.trouble is None
        a.broker.emit("room")
        await b.peer.expect('42["room"]')


async def test_a_gap_begins_with_what_is_in_doubt_though_more_was_heard_since() -> None:
    async with redis_server() as redis, proxy(redis.port) as way:
        async with node(f"redis://127.0.0.1:{way.port}") as a, node(redis.url) as b:
            await until_linked(a, b)
            way.mute = True
            a.broker.emit("x")
            published = trio.current_time()
            await trio.sleep(0.05)  # what the gap must count is longer than a new connection takes
            b.broker.to(a.socket.id).emit("heard")
            await a.peer.expect('42["x"]')
            await a.peer.expect('42["heard"]')
            way.mute = False
            in_doubt = trio.current_time() - published
            way.cut()
            await until(lambda: a.gaps)
            assert a.gaps[0].unconfirmed >= 1
            assert a.gaps[0].seconds >= in_doubt


@pytest.mark.parametrize("mode", MODES)
async def test_strange_messages_are_counted(mode: str) -> None:
    limits = Limits(bus_message_bytes=1000)
    async with redis_server() as redis, node(redis.url, mode, limits) as a:
        verb = "SPUBLISH" if mode == "sharded" else "PUBLISH"
        channels = ["socket.io#/#"]
        if mode == "classic":
            channels += ["socket.io-request#/#", "socket.io-response#/#"]
        for channel in channels:
            await redis.ask(verb, channel, "{nonsense")
            await redis.ask(verb, channel, "x" * 1001)
        if mode == "streams":
            await redis.ask("XADD", "socket.io", "*", "uid", "u", "nsp", "/", "type", "3", "data", "{}")
            await redis.ask("XADD", "socket.io", "*", "uid", "u", "data", "x" * 1001)
        number = len(channels) + (mode == "streams")
        await until(lambda: a.events["malformed bus message"] == number)
        await until(lambda: a.events["oversized bus message"] == number)
        assert a.trouble is None


async def test_a_message_of_no_end_ends_the_connection() -> None:
    async with redis_server() as redis, node(redis.url, limits=Limits(bus_message_bytes=10_000)) as a:
        big = b"x" * 400_000
        head = b"*3\r\n$7\r\nPUBLISH\r\n$12\r\nsocket.io#/#\r\n$%d\r\n" % len(big)
        stream = await trio.open_tcp_stream("127.0.0.1", redis.port)
        async with stream:
            await stream.send_all(head + big + b"\r\n")
            await until(lambda: a.gaps)
        assert a.events["oversized bus message"] >= 1


async def test_many_messages_at_once_are_not_one_that_is_too_large() -> None:
    limits = Limits(bus_message_bytes=10_000)
    async with (
        redis_server() as redis,
        node(redis.url, "streams", **PATIENT) as a,
        node(redis.url, "streams", limits, **PATIENT) as b,
    ):
        await until_linked(a, b)
        for number in range(100):
            a.broker.emit("much", number, "x" * 5_000)
        for number in range(100):
            await b.peer.expect(f'42["much",{number},"{"x" * 5_000}"]')
        assert not b.gaps


async def test_a_stranger_who_counts_as_a_node_is_silent() -> None:
    async with redis_server() as redis, node(redis.url, request_timeout=0.3) as a:
        stream = await trio.open_tcp_stream("127.0.0.1", redis.port)
        async with stream:
            await stream.send_all(b"SUBSCRIBE socket.io-request#/#\r\n")
            await stream.receive_some()
            found = await a.broker.fetch_sockets()
            assert (len(found), found.silent) == (1, ("?",))


@pytest.mark.parametrize("mode", ["classic", "sharded"])
async def test_silent_nodes_are_named(mode: str) -> None:
    async with (
        redis_server() as redis,
        node(redis.url, mode, request_timeout=0.3) as a,
        node(redis.url, mode) as b,
    ):
        await until_linked(a, b)
        bus: Any = b.broker._directory.bus
        bus._routes._takers = {}
        found = await a.broker.fetch_sockets()
        assert found.silent == (bus.uid,)


async def test_only_rooms_with_members_are_heard() -> None:
    async with redis_server() as redis, node(redis.url) as a:
        a.socket.join("room", "other")
        a.socket.leave("other")

        async def hears(*wanted: str) -> None:
            with trio.fail_after(DEADLINE):
                while True:
                    found = set((await redis.ask("PUBSUB", "CHANNELS", "socket.io#*")).split())
                    if found == set(wanted):
                        return
                    await trio.sleep(0.01)

        await hears("socket.io#/#", "socket.io#/#room#", f"socket.io#/#{a.socket.id}#")
        a.socket.disconnect()
        await hears()


# -- what cannot work is refused with words ----------------------------------------


async def refused(adapter: RedisAdapter) -> str:
    broker = Broker(adapter=adapter)
    with pytest.raises(Exception, match=r".") as caught:
        async with broker:
            pass
    assert not broker.is_open
    return f"{type(caught.value).__name__}: {caught.value}"


async def test_passwords() -> None:
    async with redis_server("--requirepass", "s3cret") as redis:
        port = redis.port
        assert "wants a password" in await refused(RedisAdapter(f"redis://127.0.0.1:{port}"))
        words = await refused(RedisAdapter(f"redis://:wrong@127.0.0.1:{port}"))
        assert words.startswith("BusRefused")
        assert "does not know this user" in words
        assert "wrong@" not in words
        async with Broker(adapter=RedisAdapter(f"redis://:s3cret@127.0.0.1:{port}/3")):
            pass
        words = await refused(RedisAdapter(f"redis://default:s3cret@127.0.0.1:{port}/99"))
        assert "choosing the database" in words


async def test_a_node_of_a_redis_cluster_is_refused() -> None:
    async with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as redis:
        for mode in ("classic", "sharded", "streams"):
            words = await refused(RedisAdapter(redis.url, mode=mode))  # type: ignore[arg-type]
            assert "Redis Cluster" in words
            assert "docs/scaling.md" in words


async def test_a_replica_is_no_bus() -> None:
    async with (
        redis_server() as master,
        redis_server("--replicaof", "127.0.0.1", str(master.port)) as replica,
    ):
        words = await refused(RedisAdapter(replica.url, start_timeout=0.3))
        assert "replica" in words


async def test_a_server_that_is_not_there() -> None:
    async with redis_server() as redis:
        pass
    words = await refused(RedisAdapter(redis.url, start_timeout=0.2))
    assert words.startswith(f"BusUnavailable: no connection to Redis at 127.0.0.1:{redis.port}")


async def test_a_server_that_speaks_something_else() -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, greet, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        words = await refused(RedisAdapter(f"redis://127.0.0.1:{port}", start_timeout=0.3))
        assert "not the Redis protocol" in words
        nursery.cancel_scope.cancel()


async def test_unix_sockets(tmp_path: Any) -> None:
    async with redis_server() as redis:
        async with node(f"unix://{redis.directory}/redis.sock?db=2") as a:
            assert a.trouble is None
            assert "redis.sock" in repr(a.broker.settings.adapter)


async def test_tls(tmp_path: Any) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key, chain, root = (str(tmp_path / name) for name in ("key.pem", "chain.pem", "root.pem"))
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    authority.cert_pem.write_to_path(root)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", chain, "--tls-key-file", key,
               "--tls-ca-cert-file", root, "--tls-auth-clients", "no")  # fmt: skip
    async with redis_server(*options):
        context = ssl.create_default_context()
        words = await refused(RedisAdapter(f"rediss://127.0.0.1:{port}", start_timeout=0.3))
        assert "CERTIFICATE_VERIFY_FAILED" in words
        authority.configure_trust(context)
        async with node(f"rediss://127.0.0.1:{port}", ssl_context=context) as a:
            assert a.trouble is None


def test_a_url_is_no_adapter() -> None:
    with pytest.raises(ConfigError, match=r"such as RedisAdapter\(url\), not a str") as caught:
        Broker(adapter="redis://:s3cret@localhost")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://localhost", {}, "begins with redis://"),
        ("redis+sentinel://localhost", {}, "Sentinel"),
        ("redis://a:1,b:2", {}, "one server"),
        ("redis://[::1", {}, "the host in the Redis URL cannot be read"),
        ("redis://a:x", {}, "are numbers"),
        ("redis://a/x", {}, "are numbers"),
        ("redis://a", {"mode": "magic"}, "mode is one of classic, sharded, streams"),
        ("redis://a", {"subscription_mode": "magic"}, "subscription_mode is one of"),
        ("redis://a", {"ping_interval": 0}, "ping_interval is greater than 0"),
        ("redis://a", {"return_timeout": -1}, "return_timeout is a number of seconds"),
        ("redis://a", {"return_timeout": float("inf")}, "return_timeout is a number of seconds"),
    ],
)
def test_options_that_cannot_be(url: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RedisAdapter(url, **options)


async def test_a_subscription_that_is_refused_is_told_from_the_answers_of_others() -> None:
    rule = ("on", "nopass", "+@all", "~*", "resetchannels", "&socket.io#/#*", "&socket.io-*")
    async with redis_server() as redis:
        await redis.ask("ACL", "SETUSER", "default", *rule)
        async with node(redis.url) as a:
            a.socket.join("fine")
            await a.broker.fetch_sockets()
            await redis.ask("ACL", "SETUSER", "default", "resetchannels", "&socket.io-*")
            assert "NOPERM" in await redis.ask("PUBLISH", "socket.io#/#", "x")
            a.broker.emit("first")
            a.socket.join("another")
            found = await a.broker.fetch_sockets()
            await until(lambda: a.trouble)
            assert found.silent in ((), ("?",))
            assert a.events["refused publication"] <= 1
