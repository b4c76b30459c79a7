"""What the tests of endings ask: why did it end, and was it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from broker import Broker, DisconnectReason, Socket
from tests.peers import quick_broker

SOON = 0.4
"""Seconds that something immediate may take on a busy machine; too short for any ping timeout."""


def calm_broker(**options: Any) -> Broker:
    """Return `quick_broker` with the default heartbeat, which no test lives to see."""
    return quick_broker(**{"ping_interval": 25.0, "ping_timeout": 20.0, **options})


@contextmanager
def soon() -> Iterator[None]:
    """Hold that the block takes no time to speak of."""
    began = trio.current_time()
    yield
    assert trio.current_time() - began < SOON


class Ends:
    """Why the sockets of a broker ended, in order."""

    def __init__(self, broker: Broker) -> None:
        self._send, self._receive = trio.open_memory_channel[DisconnectReason](100)

        @broker.on("disconnect")
        def disconnect(socket: Socket, reason: DisconnectReason) -> None:
            self._send.send_nowait(reason)

    async def expect(self, reason: str, within: float = SOON) -> None:
        """Hold that the next ending has this reason."""
        with trio.fail_after(within):
            ended = await self._receive.receive()
        assert ended == reason


def refused(response: Any, status: int, code: int) -> None:
    """Hold that a response is this refusal."""
    assert (response.status, response.json["code"]) == (status, code), response
