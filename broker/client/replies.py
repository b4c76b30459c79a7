"""One caller that waits for one ack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from broker.flow.acks import Outcome
from broker.flow.errors import AckTimeout, Disconnected
from protocol import ClientReason, DisconnectReason


class Reply:
    """The answer to one event: its values, or why there is none."""

    __slots__ = ("_error", "_settled", "_values")

    def __init__(self) -> None:
        self._settled = trio.Event()
        self._values: Sequence[Any] = ()
        self._error: Exception | None = None

    def settle(self, outcome: Outcome) -> None:
        """Note the values of the ack, or why the socket ended first."""
        if isinstance(outcome, ClientReason | DisconnectReason):
            self.fail(Disconnected(outcome))
            return
        self._values = outcome
        self._settled.set()

    def fail(self, error: Exception) -> None:
        """Note that there will be no answer."""
        self._error = error
        self._settled.set()

    async def wait(self, timeout: float | None) -> Sequence[Any]:
        """Wait for the answer.

        Args:
            timeout: Seconds; None waits as long as it takes.

        Raises:
            AckTimeout: None came in time.
            Disconnected: The socket ended first.
            BufferFull: The event gave way to a newer one.
        """
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await self._settled.wait()
        if not self._settled.is_set():
            assert timeout is not None
            raise AckTimeout(timeout)
        if self._error is not None:
            raise self._error
        return self._values
