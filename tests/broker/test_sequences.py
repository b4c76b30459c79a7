"""The vectors with times, against the whole broker, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker
from broker.conformance.frames import CLOSE, TEXT, build, take
from broker.conformance.http import ResponseReader, request_head
from broker.conformance.websocket import upgrade_headers
from protocol.vectors import Vector, load_vectors
from tests.peers import Door, PollingPeer

Step = dict[str, Any]
SLACK = 0.05
"""Seconds that the network in memory may take."""


class Wire:
    """One WebSocket that writes down what the server does and when."""

    def __init__(self, stream: trio.abc.Stream, name: str, start: float, seen: list[Step]) -> None:
        self.stream, self.name, self.start, self.seen = stream, name, start, seen
        self.rest = b""

    @classmethod
    async def open(cls, door: Door, name: str, query: str, start: float, seen: list[Step]) -> Wire:
        stream = await door.connect()
        await stream.send_all(request_head("GET", f"/socket.io/?{query}", door.authority, upgrade_headers()))
        reader = ResponseReader(stream)
        assert (await reader.receive()).status == 101
        wire = cls(stream, name, start, seen)
        wire.rest = reader.rest
        return wire

    def note(self, **what: Any) -> None:
        self.seen.append({"at": trio.current_time() - self.start, "on": self.name, **what})

    async def watch(self) -> None:
        buffer = bytearray(self.rest)
        while True:
            while (frame := take(buffer)) is not None:
                if frame.opcode == CLOSE:
                    self.note(ended=frame.payload[2:].decode(), code=int.from_bytes(frame.payload[:2], "big"))
                    return
                self.note(send=frame.payload.decode())
            data = await self.stream.receive_some()
            if not data:
                return
            buffer += data

    async def send(self, text: str) -> None:
        await self.stream.send_all(build(TEXT, text.encode()))


async def play(given: Step, door: Door, seen: list[Step]) -> PollingPeer | None:
    """Do what the vector's client does, at its times."""
    start = trio.current_time()
    polling: PollingPeer | None = None
    wires: dict[str, Wire] = {}
    async with trio.open_nursery() as nursery:

        async def connect(name: str, query: str) -> None:
            wires[name] = await Wire.open(door, name, query, start, seen)
            nursery.start_soon(wires[name].watch)

        if given["transport"] == "websocket":
            await connect("session", "EIO=4&transport=websocket")
        else:
            polling = await PollingPeer.open(door)
        for step in given["client"]:
            await trio.sleep_until(start + step["at"])
            name = step.get("on", "session")
            if "open" in step:
                assert polling is not None
                await connect(name, f"EIO=4&transport=websocket&sid={polling.sid}")
            elif name in wires:
                await wires[name].send(step["send"])
            else:
                assert polling is not None
                await polling.send(step["send"])
        await trio.sleep_until(start + given["until"])
        nursery.cancel_scope.cancel()
    for wire in wires.values():
        await trio.aclose_forcefully(wire.stream)
    return polling


def assert_same(seen: Step, wanted: Step) -> None:
    assert wanted["at"] - SLACK <= seen["at"] <= wanted["at"] + SLACK, (seen, wanted)
    assert seen["on"] == wanted.get("on", "session")
    if "send" in wanted:
        assert seen["send"].startswith(wanted["send"])
    else:
        assert (seen["ended"], seen["code"]) == (wanted["ended"], wanted["code"])


@pytest.mark.parametrize(
    "vector",
    [pytest.param(one, id=one.id, marks=pytest.mark.clause(one.clause)) for one in load_vectors("sequence")],
)
async def test_sequence(virtual_serve: Callable[..., Any], vector: Vector) -> None:
    seen: list[Step] = []
    broker = Broker()
    broker.of("/")
    async with virtual_serve(broker) as door:
        polling = await play(vector.given, door, seen)
        wanted = list(vector.expect["server"])
        if polling is not None and "ended" in wanted[-1] and "code" not in wanted[-1]:
            wanted.pop()  # without a GET nobody sees it, but the session is unknown from then on
            assert (await polling.post("6")).json["code"] == 1
    assert len(seen) == len(wanted), seen
    for found, item in zip(seen, wanted, strict=True):
        assert_same(found, item)
