"""Who waits for which ack of one socket, and what each of them gets: exactly one outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import trio

from protocol import ClientReason, DisconnectReason

from .errors import AckTimeout, Disconnected, TooManyAcks

Outcome: TypeAlias = Sequence[Any] | DisconnectReason | ClientReason
Settle: TypeAlias = Callable[[Outcome], None]


class AckTable:
    """The acks that one peer owes. Ids of other sockets mean nothing here. Spec: SIO-ACK-4.

    Args:
        limit: How many acks may be owed at once.
    """

    __slots__ = ("_limit", "_waiters")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiters: dict[int, Settle] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def expect(self, ack_id: int, settle: Settle) -> None:
        """Have `settle` called once, with the values of the ack or with the reason the socket ended.

        Raises:
            TooManyAcks: The peer owes too many already.
        """
        if len(self._waiters) >= self._limit:
            raise TooManyAcks(f"the peer owes {self._limit} acks already")
        self._waiters[ack_id] = settle

    def forget(self, ack_id: int) -> None:
        """Give a waiter up; a late ack is then unknown."""
        self._waiters.pop(ack_id, None)

    def resolve(self, ack_id: int, values: Sequence[Any]) -> bool:
        """Settle the waiter of an id; False if there is none."""
        settle = self._waiters.pop(ack_id, None)
        if settle is None:
            return False
        settle(values)
        return True

    def fail_all(self, reason: DisconnectReason | ClientReason) -> None:
        """Settle all that still wait with the reason."""
        waiters, self._waiters = self._waiters, {}
        for settle in waiters.values():
            settle(reason)


class AckWaiter:
    """One caller that waits for one ack."""

    __slots__ = ("_answered", "_outcome")

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._outcome: Outcome = ()

    def settle(self, outcome: Outcome) -> None:
        """Note the outcome and wake the caller."""
        self._outcome = outcome
        self._answered.set()

    async def wait(self, timeout: float) -> Sequence[Any]:
        """Wait for the outcome.

        Args:
            timeout: Seconds.

        Raises:
            AckTimeout: None came in time.
            Disconnected: The socket ended first.
        """
        with trio.move_on_after(timeout):
            await self._answered.wait()
        if not self._answered.is_set():
            raise AckTimeout(timeout)
        if isinstance(self._outcome, DisconnectReason | ClientReason):
            raise Disconnected(self._outcome)
        return self._outcome


def single_value(values: Sequence[Any]) -> Any:
    """Return the answer as handlers return it: nothing, itself, or a tuple of several. Spec: SIO-ACK-2."""
    if len(values) == 1:
        return values[0]
    return tuple(values) if values else None
