"""Any interleaving of packets, polls, upgrade steps and aborts of one client, through the whole broker.

Whatever it does: nothing crashes, nothing is left, the disconnect handler runs once for each socket that was
let in, and what the broker has queued arrives in order, without a gap, unless the session has ended.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from broker import Broker, Limits, Socket

HEADER = '451-["echo",{"_placeholder":true,"num":0}]'
POSTS = (
    "40",
    '42["echo",1]',
    '421["echo"]',
    HEADER,
    "bAQID",
    "431[]",
    "41",
    "3",
    "6",
    "2",
    "1",
    "junk",
    "42[",
    "",
)
FRAMES = ("2probe", "5", '42["echo",1]', "40", HEADER, "3", "6", "2", "1", "junk", "41")

STEPS = st.one_of(
    st.tuples(st.just("post"), st.sampled_from(POSTS)),
    st.tuples(st.just("frame"), st.sampled_from(FRAMES)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.3, 2.0])),
    st.sampled_from([("get", ""), ("abort get", ""), ("socket", ""), ("drop socket", ""), ("binary", "")]),
    st.sampled_from([("emit", ""), ("emit", ""), ("kick", "")]),
)
# Without luck few interleavings get as far as an upgrade, so some begin behind parts of one.
BEGINNINGS = st.sampled_from(
    [
        [],
        [("post", "40"), ("get", "")],
        [("post", "40"), ("get", ""), ("socket", ""), ("frame", "2probe"), ("wait", 0.0)],
        [("post", "40"), ("get", ""), ("socket", ""), ("frame", "2probe"), ("wait", 0.3), ("frame", "5")],
    ]
)


class Peer:
    """One client of the ASGI application; its `numbers` are the pushed events it has received."""

    def __init__(self, broker: Broker, nursery: trio.Nursery) -> None:
        self.broker = broker
        self.app = broker.asgi()
        self.nursery = nursery
        self.sid = ""
        self.numbers: list[int] = []
        self.sent: list[int] = []
        self.polls: list[trio.CancelScope] = []
        self.to_broker: trio.MemorySendChannel[dict[str, Any]] | None = None

    async def request(self, method: str, body: str = "") -> tuple[int, str]:
        """Send one request; cancelling it is the client hanging up."""
        gone, answered = trio.Event(), trio.Event()
        query = "EIO=4&transport=polling" + (f"&sid={self.sid}" if self.sid else "")
        scope = {"type": "http", "method": method, "path": "/socket.io/", "headers": []}
        inbox = [{"type": "http.request", "body": body.encode(), "more_body": False}]
        answer: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:  # noqa: ASYNC124 - ASGI wants it async
            if not gone.is_set():
                answer.append(message)

        async def serve() -> None:
            await self.app({**scope, "query_string": query.encode()}, receive, send)
            answered.set()

        self.nursery.start_soon(serve)
        try:
            await answered.wait()
        finally:
            gone.set()
        return answer[0]["status"], answer[1]["body"].decode()

    async def poll(self) -> None:
        """Send a GET and take what comes."""
        with trio.CancelScope() as scope:
            self.polls.append(scope)
            status, body = await self.request("GET")
            if status == 200:
                for packet in body.split("\x1e"):
                    self.take(packet)
        self.polls.remove(scope)

    async def websocket(self) -> None:
        """Hold a WebSocket for the session until it is closed."""
        self.to_broker, receive = trio.open_memory_channel[dict[str, Any]](math.inf)
        self.to_broker.send_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": "/socket.io/", "headers": []}
        query = f"EIO=4&transport=websocket&sid={self.sid}"

        async def send(message: dict[str, Any]) -> None:  # noqa: ASYNC124 - ASGI wants it async
            if message["type"] == "websocket.send" and message.get("text"):
                self.take(message["text"])

        await self.app({**scope, "query_string": query.encode()}, receive.receive, send)

    def tell(self, message: dict[str, Any]) -> None:
        """Send over the WebSocket, if there is one."""
        if self.to_broker is not None:
            self.to_broker.send_nowait({"type": "websocket.receive", **message})

    def take(self, packet: str) -> None:
        """Note a pushed number."""
        if packet.startswith('42["push",'):
            self.numbers.append(json.loads(packet[2:])[1])

    async def do(self, what: str, detail: Any) -> None:
        """Carry out one step; none waits for an answer but `wait`."""
        if what == "post":
            self.nursery.start_soon(self.request, "POST", detail)
        elif what == "get":
            self.nursery.start_soon(self.poll)
        elif what == "abort get":
            for scope in self.polls:
                scope.cancel()
        elif what == "socket":
            self.nursery.start_soon(self.websocket)
        elif what == "drop socket" and self.to_broker is not None:
            self.to_broker.send_nowait({"type": "websocket.disconnect", "code": 1006})
            self.to_broker = None
        elif what == "frame":
            self.tell({"text": detail})
        elif what == "binary":
            self.tell({"bytes": b"\1\2\3"})
        elif what == "emit":
            self.push()
        elif what == "kick":
            self.kick()
        await trio.testing.wait_all_tasks_blocked()
        if what == "wait":
            await trio.sleep(detail)

    def push(self) -> None:
        """Have the broker send the next number."""
        number = len(self.sent) + 1
        if self.broker.emit("push", number).queued:
            self.sent.append(number)

    def kick(self) -> None:
        """Have the application send the client away from its namespace."""
        for socket in list(self.broker.sockets.sockets.values()):
            socket.disconnect()


async def play(steps: list[tuple[str, Any]]) -> None:
    """Play one interleaving, and hold what must hold."""
    limits = Limits(assembly_timeout=1.0, close_timeout=0.5, cleanup_timeout=0.5)
    broker = Broker(
        ping_interval=1.0, ping_timeout=0.5, connect_timeout=3.0, upgrade_timeout=1.0, limits=limits
    )
    joined: list[str] = []
    left: list[str] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        joined.append(socket.id)

    @broker.on("disconnect")
    def disconnect(socket: Socket) -> None:
        left.append(socket.id)

    @broker.on("echo")
    async def echo(socket: Socket, *args: Any) -> int:
        await trio.sleep(0.01)
        return len(args)

    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        async with broker:
            peer = Peer(broker, nursery)
            peer.sid = json.loads((await peer.request("GET"))[1].split("\x1e")[0][1:])["sid"]
            for what, detail in steps:
                await peer.do(what, detail)
                assert peer.numbers == peer.sent[: len(peer.numbers)], "lost, doubled or out of order"
            await _fetch_the_rest(peer)
            if joined and not left:
                assert peer.numbers == peer.sent, "lost without a word"
        assert broker.statistics().sessions == 0
        nursery.cancel_scope.cancel()
    assert sorted(joined) == sorted(left)
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def _fetch_the_rest(peer: Peer) -> None:
    """Poll until nothing waits any more, as long as the session lives on polling."""
    await trio.sleep(0.2)
    while not peer.polls and peer.numbers != peer.sent and (await _status(peer)) == 200:
        with trio.move_on_after(0.2):
            await peer.poll()


async def _status(peer: Peer) -> int:
    return (await peer.request("POST", "6"))[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(beginning=BEGINNINGS, steps=st.lists(STEPS, max_size=25))
def test_any_interleaving(
    beginning: list[tuple[str, Any]], steps: list[tuple[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    trio.run(play, [*beginning, *steps], clock=MockClock(autojump_threshold=0.001))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
