"""Wherever a connection is cut: the client has seen a prefix, gets the rest once and in order, or is told.

The client is a model of the reference's: it takes any string at the end of an event without an ack for its
offset, keeps that offset through refused recoveries, and comes back with its pid whatever has happened.
"""

from __future__ import annotations

import json
from typing import Any

import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from broker import AckTimeout, Broker, Disconnected, Recovery, Socket
from broker.testing import Harness, WebSocketPeer, open_harness
from broker.testing.faults import Wire
from broker.testing.peers import PeerClosed

ROOMS = ("a", "b")
WINDOW = 20.0

EMITS = st.one_of(
    st.tuples(
        st.just("emit"), st.sampled_from(["all", "a", "b", "ab", "not a", "a not b", "direct", "bytes"])
    ),
    st.tuples(st.just("spoil"), st.sampled_from(["volatile", "direct volatile", "ack", "broadcast ack"])),
    st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from(ROOMS)),
)
CUTS = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 400)),
    st.tuples(st.just("come back"), st.sampled_from([0.0, 0.0, 0.5, 5.0, WINDOW + 50])),
    st.tuples(st.just("walk away"), st.just(0)),
    st.tuples(st.just("settle"), st.just(0)),
)
STEPS = st.lists(st.one_of(EMITS, EMITS, EMITS, CUTS), min_size=5, max_size=60)


class Client:
    """What a stock client knows, over all its connections."""

    def __init__(self) -> None:
        self.pid: str | None = None
        self.offset: str | None = None
        self.connected = False
        self.lives: list[list[int]] = []
        self.begins: list[int] = []
        self.words: list[str] = []
        self._early: list[tuple[list[Any], bool]] = []

    def take(self, packet: str | bytes, sent: int) -> str | None:
        """Take a packet; return an answer to it."""
        if isinstance(packet, bytes):
            return None
        if packet.startswith("40"):
            self._enter(json.loads(packet[2:]), sent)
            return None
        head, _, body = packet.partition("[")
        data = json.loads("[" + body)
        ack = head[2:] if head[1] == "2" else head.partition("-")[2]
        if self.connected:
            self._see(data, bool(ack))
        else:
            self._early.append((data, bool(ack)))
        return f"43{ack}[]" if ack else None

    def _enter(self, answer: dict[str, Any], sent: int) -> None:
        recovered = answer["pid"] == self.pid
        assert recovered == ("recovery" not in answer) or self.pid is None
        if not recovered:
            self.lives.append([])
            self.begins.append(sent)
            assert not self._early
        self.words.append("recovered" if recovered else answer.get("recovery", "new"))
        self.pid = answer["pid"]
        self.connected = True
        for early in self._early:
            self._see(*early)
        self._early.clear()

    def _see(self, data: list[Any], ack: bool) -> None:
        if data[0] == "kept":
            self.lives[-1].append(data[1])
        if self.pid and not ack and isinstance(data[-1], str):
            self.offset = data[-1]


class World:
    """A broker, the client, and what it should have seen."""

    def __init__(self, harness: Harness, nursery: trio.Nursery) -> None:
        assert harness.broker is not None
        self.broker = harness.broker
        self.client = Client()
        self.sent: list[tuple[int, bool]] = []  # number, and whether it was for the client
        self._harness = harness
        self._nursery = nursery
        self._reading = trio.CancelScope()
        self._wire: Wire | None = None
        self._peers: list[WebSocketPeer] = []

    async def come_back(self) -> None:
        if self.client.connected:
            return
        self._reading.cancel()
        self._wire = self._harness.network.new_wire(f"connection {len(self._peers)}")
        peer = await self._harness.peer(wire=self._wire, pongs=True)
        peer.patience = 1e9
        self._peers.append(peer)
        await peer.opened()
        known = {"pid": self.client.pid, "offset": self.client.offset}
        await peer.send("40", {key: value for key, value in known.items() if value is not None})
        self._reading = trio.CancelScope()
        self._nursery.start_soon(self._read, peer, self._reading)

    async def _read(self, peer: WebSocketPeer, scope: trio.CancelScope) -> None:
        with scope:
            try:
                while True:
                    answer = self.client.take(await peer.receive(), len(self.sent))
                    if answer is not None:
                        await peer.send(answer)
            except (PeerClosed, trio.BrokenResourceError):
                self.client.connected = False

    def socket(self) -> Socket | None:
        return next(iter(self.broker.sockets.sockets.values()), None)

    def rooms(self) -> frozenset[str]:
        """The rooms that the client is in, or would be if it came back."""
        recoveries = self.broker._directory.recoveries
        assert recoveries is not None
        socket = self.socket()
        if socket is not None:
            return socket.rooms
        kept = recoveries.store._lost  # type: ignore[attr-defined] # in memory
        return kept[self.client.pid].rooms if self.client.pid in kept else frozenset()

    def emit(self, what: str) -> None:
        number = len(self.sent)
        rooms, own = self.rooms(), self.socket()
        if what == "direct":
            if own is not None:
                self.sent.append((number, True))
                own.emit("kept", number, "text")
            return
        if what in ("all", "bytes"):
            self.sent.append((number, True))
            self.broker.emit("kept", number, b"\x00" if what == "bytes" else "text")
            return
        to, _, but = what.partition("not")
        targets = set(to.strip())
        meant = (not targets or bool(targets & rooms)) and not (but.strip() and but.strip() in rooms)
        self.sent.append((number, meant))
        self.broker.to(*targets).except_(*but.split()).emit("kept", number)

    async def spoil(self, what: str) -> None:
        socket = self.socket()
        if what == "volatile":
            self.broker.volatile.emit("volatile", "a text")
        elif what == "direct volatile" and socket is not None:
            socket.volatile.emit("volatile", "a text")
        elif what == "ack" and socket is not None:
            try:
                await socket.call("asked", "a text", timeout=0.1)
            except (AckTimeout, Disconnected):
                pass
        elif what == "broadcast ack":
            await self.broker.call("asked", "a text", timeout=0.1)

    async def step(self, verb: str, detail: Any) -> None:
        socket = self.socket()
        if verb == "emit":
            self.emit(detail)
        elif verb == "spoil":
            await self.spoil(detail)
        elif verb in ("join", "leave") and socket is not None:
            getattr(socket, verb)(detail)
        elif verb == "cut" and self._wire is not None:
            self._wire.cut_after(detail)
            await self._harness.settled()
        elif verb == "walk away":
            # Its network is gone; the broker does not know.
            self._reading.cancel()
            self.client.connected = False
        elif verb == "come back":
            await trio.sleep(detail)
            await self.come_back()
            await trio.sleep(3)
        elif verb == "settle":
            await self._harness.settled()

    def judge(self) -> None:
        client = self.client
        ends = [*client.begins[1:], len(self.sent)]
        for at, seen in enumerate(client.lives):
            meant = [number for number, mine in self.sent[client.begins[at] : ends[at]] if mine]
            assert seen == meant[: len(seen)], "a gap, a repetition, or what was not meant for it"
        assert seen == meant, "the last of it is missing"
        assert "unknown" not in client.words, "refused without need"


async def play(steps: list[tuple[str, Any]], max_events: int) -> None:
    broker = Broker(recovery=Recovery(window=WINDOW, max_events=max_events))
    async with open_harness(broker) as harness, trio.open_nursery() as nursery:
        world = World(harness, nursery)
        await world.come_back()
        await trio.sleep(1)
        for verb, detail in steps:
            await world.step(verb, detail)
        # Whatever was cut in the middle is cut now.
        await world.step("walk away", 0)
        await world.come_back()
        await trio.sleep(5)
        world.judge()
        for word in set(world.client.words):
            event(word)
        nursery.cancel_scope.cancel()


def run(steps: list[tuple[str, Any]], max_events: int = 1_000) -> None:
    trio.run(play, steps, max_events, clock=MockClock(autojump_threshold=0))


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_a_prefix_and_a_replay(steps: list[tuple[str, Any]]) -> None:
    run(steps)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_or_it_is_told_when_the_log_is_short(steps: list[tuple[str, Any]]) -> None:
    run(steps, 3)
