"""One client that never reads, among 100 under a flood: nobody else notices, and memory stays bounded."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol import Limits
from tests.broker.flood_server import WINDOW
from tests.peers import BareWebSocket, build_frame
from tests.programs import run_program

PROGRAM = "tests.broker.flood_server"
ROOT = Path(__file__).parents[2]
READERS = 99
MESSAGES = 6_000
PADDING = 1_000
SLACK_BYTES = 4 * 1_048_576
TIME_LIMIT = 30.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")


def frame_of(text: str) -> bytes:
    """Return a server's frame, written as RFC 6455 has it."""
    payload = text.encode()
    head = (
        bytes([0x81, len(payload)]) if len(payload) < 126 else b"\x81\x7e" + len(payload).to_bytes(2, "big")
    )
    return head + payload


def expected_stream() -> tuple[bytes, list[int]]:
    """Return all bytes that a reader gets, and where each mark ends."""
    stream = bytearray()
    marks = []
    for value in range(MESSAGES):
        stream += frame_of(f'42["number","{value:07}","{"x" * PADDING}"]')
        if value % WINDOW == WINDOW - 1:
            stream += frame_of(f'42{len(marks)}["mark"]')
            marks.append(len(stream))
    return bytes(stream), marks


class Reader:
    """A client that compares what it gets with what it ought to get, byte by byte, and acks the marks."""

    def __init__(self, websocket: BareWebSocket, stream: memoryview, marks: list[int]) -> None:
        self._websocket = websocket
        self._stream = stream
        self._marks = marks
        self.read = 0

    async def run(self) -> None:
        acked = 0
        while self.read < len(self._stream):
            data = await self._websocket.peer.stream.receive_some(262_144)
            end = self.read + len(data)
            assert data, f"closed after {self.read} bytes"
            assert data == self._stream[self.read : end], f"wrong somewhere behind byte {self.read}"
            self.read = end
            while acked < len(self._marks) and self._marks[acked] <= end:
                await self._websocket.send(build_frame(1, f"43{acked}[]".encode()))
                acked += 1


async def joined(port: int) -> BareWebSocket:
    """Open a WebSocket that has joined the default namespace, and has read all that was sent so far."""
    websocket = await BareWebSocket.open(port)
    assert await websocket.receive_frame() is not None
    await websocket.send_frame(1, b"40")
    answer = await websocket.receive_frame()
    assert answer is not None
    assert answer.payload.startswith(b"40{")
    return websocket


def set_receive_buffer(websocket: BareWebSocket, size: int) -> None:
    stream = websocket.peer.stream
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


async def read_line(stream: trio.abc.ReceiveStream) -> dict[str, Any]:
    """Read one line of JSON; the process prints no second one before it is asked to."""
    line = b""
    while not line.endswith(b"\n"):
        more = await stream.receive_some()
        assert more, f"the server has ended: {line!r}"
        line += more
    return dict(json.loads(line))


async def read_rest(websocket: BareWebSocket) -> bytes:
    """Read what the kernel still has for a client that has not read."""
    data = bytearray()
    try:
        while more := await websocket.peer.stream.receive_some(262_144):
            data += more
    except trio.BrokenResourceError:
        pass
    return bytes(data)


async def flood(process: trio.Process, stream: bytes, marks: list[int]) -> tuple[dict[str, Any], bytes]:
    """Let everybody in and flood; return the figures, and what the stalled client could have read."""
    assert process.stdout is not None
    port = (await read_line(process.stdout))["port"]
    stalled = await joined(port)
    set_receive_buffer(stalled, 4_096)
    await stalled.send_frame(1, b'42["stall"]')
    websockets = [await joined(port) for _ in range(READERS)]
    async with trio.open_nursery() as nursery:
        for websocket in websockets:
            nursery.start_soon(Reader(websocket, memoryview(stream), marks).run)
        await websockets[0].send_frame(1, b'42["flood"]')
    figures = await read_line(process.stdout)
    set_receive_buffer(stalled, 4_194_304)  # through a small window the rest would take minutes
    rest = await read_rest(stalled)
    for websocket in (stalled, *websockets):
        await websocket.peer.abort()
    return figures, rest


async def test_one_that_never_reads_among_a_hundred() -> None:
    stream, marks = expected_stream()
    command = [sys.executable, "-m", PROGRAM, str(MESSAGES), str(PADDING)]
    with trio.fail_after(TIME_LIMIT):
        async with trio.open_nursery() as nursery:
            run = partial(run_program, cwd=ROOT, stdout=subprocess.PIPE, check=False)
            process: trio.Process = await nursery.start(run, command)
            figures, rest = await flood(process, stream, marks)
            nursery.cancel_scope.cancel()

    # The readers have got everything, in order: `Reader` has compared each byte. The one that did not read:
    assert figures["reasons"] == ["slow consumer"]
    assert figures["disconnects"] == {"slow consumer": 1}
    assert figures["sockets"] == READERS
    received = len(rest) // len(frame_of(f'42["number","{0:07}","{"x" * PADDING}"]'))
    missing = MESSAGES - received
    dropped = figures["statistics"]
    print(f"\n{json.dumps(figures)}\nmissing {missing}")
    # To the message: what the counters have, and what was sent when it was no member any more.
    assert missing == sum(dropped.values()) + figures["gone"]
    assert set(dropped) <= {"slow consumer", "closed"}
    assert dropped.get("closed", 0) == max(0, figures["closed"] - 1)  # the first was one too many
    assert figures["queued"] + figures["closed"] + figures["gone"] == MESSAGES * (READERS + 1)
    budget = Limits().outbox_hard_bytes
    assert figures["queued_highest_bytes"] <= budget
    assert figures["growth_bytes"] <= budget + SLACK_BYTES
