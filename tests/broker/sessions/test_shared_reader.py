"""One reader for all: what goes wrong with one session stays with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import DisconnectReason, Limits
from broker.rooms.connection import Connection
from broker.rooms.inbound import Inbound
from tests.peers import BareWebSocket, build_frame, client, quick_broker, settled, until

Serve = Callable[..., Any]


async def test_a_fault_of_ours_ends_one_session_and_no_other(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker(ping_interval=25.0)
    reasons: list[DisconnectReason] = []
    broker.on("disconnect")(lambda socket, reason: reasons.append(reason))
    on_text = Connection.on_text

    def faulty(self: Connection, text: bytes) -> Any:
        if b"fault" in text:
            raise AssertionError("a fault of ours")
        return on_text(self, text)

    monkeypatch.setattr(Connection, "on_text", faulty)
    async with serve(broker) as server, client(server) as other:
        async with client(server) as unlucky:
            await unlucky.emit("fault")
            assert (await unlucky.expect_close()).reason == "forced close"
        await other.emit("echo", 1)
        await other.expect('42["echo",1]')
        assert reasons == [DisconnectReason.FORCED_CLOSE]
    assert "session failed" in caplog.text


async def test_a_fault_behind_a_suspended_handler_ends_one_session(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker(ping_interval=25.0)

    @broker.on("slow")
    async def slow(socket: Any) -> None:
        await settled()

    complete = Inbound.complete

    async def faulty(self: Inbound, *args: Any) -> None:
        await complete(self, *args)
        raise AssertionError("a fault of ours")

    monkeypatch.setattr(Inbound, "complete", faulty)
    async with serve(broker) as server, client(server) as other:
        async with client(server) as unlucky:
            await unlucky.emit("slow")
            assert (await unlucky.expect_close()).reason == "forced close"
        await other.emit("echo", 1)
        await other.expect('42["echo",1]')
    assert "event handling failed" in caplog.text


async def test_a_pause_that_is_lifted_at_once_keeps_the_order(serve: Serve) -> None:
    broker = quick_broker(ping_interval=25.0, limits=Limits(inbox_messages=2))
    got: list[int] = []
    count = 10_000  # more than one chunk of input

    @broker.on("number")
    async def number(socket: Any, value: int) -> None:
        await trio.lowlevel.checkpoint()
        got.append(value)

    async with serve(broker) as server, await BareWebSocket.open(server) as peer:
        await peer.send_frame(1, b"40")
        frames = b"".join(build_frame(1, b'42["number",%d]' % value) for value in range(count))
        await peer.send(frames)
        await until(lambda: len(got) == count or not broker.engine.clients_count)
    assert got == list(range(count))
