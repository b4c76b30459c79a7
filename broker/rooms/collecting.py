"""Gathers the acks of one broadcast: one outcome for each member."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field, frozen

from broker.flow.acks import Outcome, single_value
from broker.flow.encoded import EncodedMessage
from broker.flow.errors import TooManyAcks
from protocol import DisconnectReason

if TYPE_CHECKING:
    from .socket import Socket


@frozen
class BroadcastAcks:
    """Who answered a broadcast, and who did not.

    The bus between nodes does not say whose ack is whose: for sockets of other nodes the id is empty.

    Attributes:
        responses: Socket id and value, in the order of arrival.
        missing: Ids that did not answer in time.
        disconnected: Ids that left first; those of other nodes count as missing.
        silent: Nodes that did not say in time whom they asked, by id; `"?"` if that is not known.
    """

    responses: list[tuple[str, Any]] = field(factory=list)
    missing: list[str] = field(factory=list)
    disconnected: list[str] = field(factory=list)
    silent: list[str] = field(factory=list)

    @property
    def complete(self) -> bool:
        """Whether everyone answered."""
        return not self.missing and not self.disconnected and not self.silent


@define
class Collector:
    """Asks sockets of this node with one ack id, and is told each outcome.

    Attributes:
        ack_id: The id.
        settled: Called with socket id and outcome: the values of the ack, or the reason why the socket ended.
        done: Set once nobody is waited for.
        waiting: Those who have not answered, by id.
    """

    ack_id: int
    settled: Callable[[str, Outcome], None]
    done: trio.Event = field(factory=trio.Event)
    waiting: dict[str, Socket] = field(factory=dict)

    def ask(self, sockets: Iterable[Socket], message: EncodedMessage) -> list[str]:
        """Send the message to each; return the ids of those who owe too many acks already."""
        message.build_frame()
        refused: list[str] = []
        for socket in sockets:
            try:
                socket.acks.expect(self.ack_id, partial(self._settle, socket.id))
            except TooManyAcks:
                refused.append(socket.id)
                socket.namespace.engine.counters.acks["too many"] += 1
                continue
            self.waiting[socket.id] = socket
            socket.offer(message)
        if not self.waiting:
            self.done.set()
        return refused

    def _settle(self, socket_id: str, outcome: Outcome) -> None:
        socket = self.waiting.pop(socket_id)
        if isinstance(outcome, DisconnectReason):
            socket.namespace.engine.counters.acks["disconnected"] += 1
        if not self.waiting:
            self.done.set()
        self.settled(socket_id, outcome)

    def stop(self) -> list[str]:
        """Wait for nobody any more; return the ids of those who have not answered."""
        for socket in self.waiting.values():
            socket.acks.forget(self.ack_id)
            socket.namespace.engine.counters.acks["timeout"] += 1
        missing = list(self.waiting)
        self.waiting.clear()
        return missing


def note_outcome(acks: BroadcastAcks, socket_id: str, outcome: Outcome) -> None:
    """Write an outcome down."""
    if isinstance(outcome, Sequence) and not isinstance(outcome, str):
        acks.responses.append((socket_id, single_value(outcome)))
    else:
        acks.disconnected.append(socket_id)
