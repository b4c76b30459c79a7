"""What may happen before a connect handler has ended, and listeners that come after it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, ConnectRefused, Limits, Namespace, Socket
from tests.peers import PollingPeer, client, quick_broker, settled, websocket

Serve = Callable[..., Any]


class Slow:
    """A broker with a connect handler that waits, and events that may run at the same time."""

    def __init__(self, **options: Any) -> None:
        self.broker: Broker = quick_broker(**options)
        self.log: list[str] = []
        self.ready = trio.Event()
        self.let_go = trio.Event()

        @self.broker.on("connect")
        async def connect(socket: Socket) -> None:
            try:
                await self.ready.wait()
            finally:
                self.log.append("connect ends")

        @self.broker.on("side", concurrency=3)
        async def side(socket: Socket, number: int) -> int:
            self.log.append(f"side {number}")
            await self.let_go.wait()
            return number

        @self.broker.on("plain")
        def plain(socket: Socket) -> None:
            self.log.append("plain")


async def send_all(peer: Any, count: int = 5) -> None:
    await peer.send_text('42["plain"]')
    for number in range(count):
        await peer.send_text(f'42{number}["side",{number}]')
    await settled()


async def test_no_event_is_handled_before_the_connect_handler_has_ended(serve: Serve) -> None:
    slow = Slow()
    async with serve(slow.broker) as server, client(server) as peer:
        await send_all(peer)
        assert slow.log == []
        slow.ready.set()
        await settled()
        assert slow.log[0] == "connect ends"
        assert sorted(slow.log[1:]) == ["plain", "side 0", "side 1", "side 2"]  # three at a time
        slow.let_go.set()
        acks = {str(await peer.receive()) for _ in range(5)}
        assert acks == {f"43{number}[{number}]" for number in range(5)}
        await peer.send_text('427["side",7]')
        await peer.expect("437[7]")
        (socket,) = slow.broker.sockets.sockets.values()
        assert socket.is_idle


async def test_the_ceiling_over_all_handlers_holds_for_those_who_waited(serve: Serve) -> None:
    slow = Slow(limits=Limits(handlers_per_socket=2))
    async with serve(slow.broker) as server, client(server) as peer:
        await send_all(peer, 3)
        slow.ready.set()
        await settled()
        assert sum(line.startswith("side") for line in slow.log) == 2
        slow.let_go.set()
        assert {str(await peer.receive()) for _ in range(3)} == {
            f"43{number}[{number}]" for number in range(3)
        }


@pytest.mark.parametrize("how", ["abort", "leave", "server"])
async def test_who_goes_meanwhile_leaves_nothing_running(serve: Serve, how: str) -> None:
    slow = Slow()
    async with serve(slow.broker) as server, client(server) as peer:
        (socket,) = slow.broker.sockets.sockets.values()
        await send_all(peer)
        if how == "abort":
            await peer.abort()
        elif how == "leave":
            await peer.send_text("41")
        else:
            socket.disconnect()
        await settled()
        assert slow.log == ["connect ends"]
        assert socket.is_idle


async def test_a_connect_handler_that_sends_the_client_away(serve: Serve) -> None:
    slow = Slow()
    slow.broker.off("connect")

    @slow.broker.on("connect")
    async def connect(socket: Socket) -> None:
        await slow.ready.wait()
        socket.disconnect(close=True)

    async with serve(slow.broker) as server, client(server) as peer:
        await send_all(peer)
        slow.ready.set()
        await peer.expect("41")
        assert (await peer.expect_close()).code == 1000
        assert slow.log == []


async def test_a_listener_for_namespaces_that_fails_keeps_nobody_out(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker()
    family = broker.of(re.compile("^/dyn-"))

    @broker.on_new_namespace
    def failing(namespace: Namespace) -> None:
        raise ValueError("secret")

    async with serve(broker) as server, client(server) as peer:
        await peer.join("/dyn-1")
        assert set(family.children) == {"/dyn-1"}
    assert broker.statistics().events == {"failed": 1}
    assert "listener for new namespaces failed" in caplog.text


@pytest.mark.parametrize("name", ["/", "/dyn-1"])
async def test_who_comes_back_at_once_comes_after_the_goodbye(serve: Serve, name: str) -> None:
    broker = quick_broker(cleanup_empty_child_namespaces=True)
    told: list[str] = []
    namespace = broker.of("/") if name == "/" else broker.of(re.compile("^/dyn-"))
    go_on = trio.Event()

    @namespace.on("connect")
    def connect(socket: Socket) -> None:
        told.append(f"connect {socket.handshake.auth['number']}")

    @namespace.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        await go_on.wait()
        told.append(f"disconnect {socket.handshake.auth['number']}")

    prefix = "" if name == "/" else f"{name},"
    async with serve(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join(name, {"number": 0})
        await peer.send(f"41{prefix}", f'40{prefix}{{"number":1}}')
        await settled()
        assert told == ["connect 0"]
        await peer.send(f"41{prefix}", f'40{prefix}{{"number":2}}')
        await settled()
        assert told == ["connect 0"]
        go_on.set()
        assert (await peer.receive()).startswith(f"40{prefix}")
        assert told == ["connect 0", "disconnect 0", "connect 2"]
        assert broker.of(name).emit("x").queued == 1
        await peer.expect(f'42{prefix}["x"]')
        await peer.send(f"41{prefix}", f'40{prefix}{{"number":3}}', "1")
        await settled()
        assert told[3:] == ["disconnect 2"], "the client has gone before that"


@pytest.mark.parametrize("refusal", [("no", object()), ("no", b"bytes"), (ValueError("no"),)])
async def test_a_refusal_that_cannot_be_sent(
    serve: Serve, caplog: pytest.LogCaptureFixture, refusal: Any
) -> None:
    broker = quick_broker()

    @broker.of("/closed").use
    def refuse(socket: Socket) -> None:
        raise ConnectRefused(*refusal)

    async with serve(broker) as server, client(server) as peer:
        await peer.send_text("40/closed,")
        await peer.expect('44/closed,{"message":"no"}')
        await peer.send_text("40/closed,")
        await peer.expect('44/closed,{"message":"no"}')
    assert caplog.messages == ["a refusal cannot be sent as it is"] * 2


async def test_refusals_out_of_a_nursery(serve: Serve) -> None:
    broker = quick_broker()

    @broker.of("/closed").use
    async def refuse(socket: Socket) -> None:
        async with trio.open_nursery():
            raise ConnectRefused("no", 1)

    @broker.of("/fickle").on("connect")
    async def send_away(socket: Socket) -> None:
        async with trio.open_nursery():
            raise ConnectRefused("no")

    async with serve(broker) as server, client(server) as peer:
        await peer.send_text("40/closed,")
        await peer.expect('44/closed,{"message":"no","data":1}')
        await peer.join("/fickle")
        await peer.expect("41/fickle,")
    assert broker.statistics().events["failed"] == 0


async def test_a_listener_hears_sockets_that_were_there_before(serve: Serve) -> None:
    broker = quick_broker()
    family = broker.of(re.compile("^/dyn-"))
    family.on("echo")(lambda socket, *args: None)
    heard: list[Any] = []
    async with serve(broker) as server, client(server) as peer:
        await peer.join("/dyn-1")
        await peer.emit("echo", 1)
        await peer.expect('42["echo",1]')
        broker.on_any(lambda event, *args: heard.append((event, *args)))
        family.on_any(lambda event, *args: heard.append(("family", event, *args)))
        await peer.emit("echo", 2)
        await peer.expect('42["echo",2]')
        await peer.send_text('42/dyn-1,["echo",3]')
        await settled()
        assert heard == [("echo", 2), ("family", "echo", 3)]


async def test_a_listener_hears_sockets_that_are_being_let_in(serve: Serve) -> None:
    broker = quick_broker()
    entered, go_on = trio.Event(), trio.Event()
    heard: list[Any] = []

    @broker.use
    async def slow(socket: Socket) -> None:
        entered.set()
        await go_on.wait()

    async with serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("40")
        await entered.wait()
        broker.on_any(lambda event, *args: heard.append((event, *args)))
        go_on.set()
        assert str(await peer.receive()).startswith("40")
        await peer.emit("echo", 1)
        await peer.expect('42["echo",1]')
    assert heard == [("echo", 1)]
