"""Whoever is sent away reads why: in the close frame, or behind the CLOSE packet of the last answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, DisconnectReason, Limits, Socket
from protocol import Violation
from tests.peers import Closed, PollingPeer, client, quick_broker, settled

Serve = Callable[..., Any]


def only(broker: Broker) -> Socket:
    (socket,) = broker.sockets.sockets.values()
    return socket


async def expire(broker: Broker) -> None:
    only(broker).refresh(1.0)


async def fall_behind(broker: Broker) -> None:
    only(broker)._connection.session.on_overflow()


async def drain(broker: Broker) -> None:
    await broker.drain(5.0)


ENDS = [
    pytest.param(expire, DisconnectReason.IDENTITY_EXPIRED, 1008, id="expired"),
    pytest.param(fall_behind, DisconnectReason.SLOW_CONSUMER, 1013, id="slow"),
    pytest.param(drain, DisconnectReason.SERVER_SHUTTING_DOWN, 1001, id="drained"),
]
WRONG = [
    ("4x", Violation.UNKNOWN_TYPE),
    ('42["connect"]', Violation.RESERVED_EVENT),
    ("40", Violation.ALREADY_CONNECTED),
    ('42/other,["x"]', Violation.NOT_CONNECTED),
]


@pytest.mark.clause("EIO-CLOSE-3")
@pytest.mark.parametrize(("end", "reason", "code"), ENDS)
async def test_reasons(virtual_serve: Serve, end: Any, reason: DisconnectReason, code: int) -> None:
    broker = quick_broker(ping_interval=25.0, ping_timeout=20.0)
    async with virtual_serve(broker) as server, trio.open_nursery() as nursery:
        async with client(server) as peer:
            nursery.start_soon(end, broker)
            assert await peer.expect_close() == Closed(code, reason.value)
    async with virtual_serve(broker) as server, trio.open_nursery() as nursery:
        polling = await PollingPeer.open(server)
        await polling.join()
        get = await polling.begin_get()
        nursery.start_soon(end, broker)
        assert (await get.receive()).told == {"code": reason.code, "message": reason.value}
        await get.abort()


@pytest.mark.clause("SIO-ERR-3")
@pytest.mark.parametrize(("packet", "violation"), WRONG)
async def test_violations(virtual_serve: Serve, packet: str, violation: Violation) -> None:
    broker = quick_broker(limits=Limits())
    async with virtual_serve(broker) as server:
        async with client(server) as peer:
            await peer.send_text(packet)
            assert await peer.expect_close() == Closed(violation.close_code, violation.text)
        polling = await PollingPeer.open(server)
        await polling.join()
        await polling.send(packet)
        await settled()
        answer = await polling.get()  # none was parked: the next one is told
        assert answer.body.startswith(b"6\x1e1{")
        assert answer.told == {"code": violation.code, "message": violation.text}
