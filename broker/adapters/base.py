"""The seam between the namespaces of this node and a bus to the other nodes: what each asks of the other.

Everything on the way of an event is a plain function: a bus takes a message or says that it did not, and
hands what it receives to the namespace at once. Only questions wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import trio
from attrs import define, field, frozen

from protocol.bus.options import BroadcastOptions
from protocol.limits import Limits
from protocol.recovery import Offset

Item = TypeVar("Item")
Answered = Callable[[Any], None]


class Answers(list[Item]):
    """What the nodes of a cluster answered: a list that says who is missing in it.

    Attributes:
        silent: The nodes that did not answer in time, by id; `"?"` stands for one whose id is not known.
    """

    def __init__(self, items: Iterable[Item] = (), silent: Iterable[str] = ()) -> None:
        super().__init__(items)
        self.silent = tuple(silent)

    @property
    def complete(self) -> bool:
        """Whether every node answered."""
        return not self.silent


@define
class RemoteAcks:
    """What came of a broadcast with acks at the other nodes.

    Attributes:
        responses: The first value of each ack, in the order of arrival; the bus does not say whose it is.
        expected: How many clients were asked.
        silent: Nodes that did not say how many they asked; as in `Answers`.
    """

    responses: list[Any] = field(factory=list)
    expected: int = 0
    silent: tuple[str, ...] = ()


@frozen
class Gap:
    """A time in which messages of other nodes may not have reached this one, or ours not them.

    Attributes:
        cause: Why, in a few words.
        seconds: How long it lasted, up to its report; it began when the bus was last heard, or with the
            oldest publication in doubt if that is older.
        unconfirmed: Publications of this node of which it is not known whether they arrived.
        lost: Publications of this node that were given up.
        replayed: Whether what the others sent meanwhile has been fetched after it.
    """

    cause: str
    seconds: float
    unconfirmed: int = 0
    lost: int = 0
    replayed: bool = False


@frozen
class BusHost:
    """What a bus gets of its broker.

    Attributes:
        limits: Bounds in force.
        events: Counter of what comes to no good end, by cause.
        report: Takes a gap once it is over.
    """

    limits: Limits
    events: Counter[str]
    report: Callable[[Gap], None]

    @property
    def depth(self) -> int:
        """How deep what comes may nest: a message around what an application sent."""
        return self.limits.json_depth + 4


class LocalNamespace(Protocol):
    """What a bus may ask of a namespace of this node; nothing of it waits or raises.

    What it passes has the shape that the signatures say; names and values may be any a peer can think of.
    """

    name: str

    def deliver(self, event: Sequence[Any], options: BroadcastOptions, offset: Offset | None = None) -> None:
        """Send an event, name and arguments, to sockets of this node.

        Args:
            event: Name and arguments.
            options: Whom it is for.
            offset: What a shared log has numbered it.
        """

    def restart_log(self, offset: Offset) -> None:
        """Take note that events before this position may be missing here."""

    def ask(self, event: Sequence[Any], options: BroadcastOptions, timeout: float, answered: Answered) -> int:
        """Send an event with ack to sockets of this node.

        Args:
            event: Name and arguments.
            options: Whom it is for.
            timeout: Seconds that acks may take.
            answered: Called with the first value of each ack in time; not before this has returned.

        Returns:
            How many sockets were asked.
        """

    def sockets_join(self, options: BroadcastOptions, rooms: Sequence[str]) -> None:
        """Put sockets of this node into rooms."""

    def sockets_leave(self, options: BroadcastOptions, rooms: Sequence[str]) -> None:
        """Take sockets of this node out of rooms."""

    def disconnect_sockets(self, options: BroadcastOptions, close: bool) -> None:
        """Make sockets of this node leave the namespace, or close their sessions."""

    def describe(self, options: BroadcastOptions) -> list[dict[str, Any]]:
        """Tell of sockets of this node: `id`, `handshake`, `rooms`, `data`, as they travel on the bus."""

    def has(self, room: str) -> bool:
        """Tell whether a room, or the socket of that id, is here."""

    def all_rooms(self) -> list[str]:
        """Return every room that is here, ids of sockets among them."""

    def server_event(self, event: Sequence[Any], answer: Answered | None) -> None:
        """Run the handler of an event of another node.

        Args:
            event: Name and arguments.
            answer: Called once with what the handler returns, or with None if there is none; None: no answer
                is wanted.
        """


class Link(Protocol):
    """What a namespace may ask of a bus. A bus passes nothing back of what the namespace itself has sent.

    What returns a bool says whether the bus has taken it: True does not mean that it arrives.
    """

    def broadcast(self, event: Sequence[Any], options: BroadcastOptions) -> bool:
        """Send an event to sockets of the other nodes. Never waits.

        Raises:
            TypeError: An argument has no form on the bus.
        """

    def sockets_join(self, options: BroadcastOptions, rooms: Sequence[str]) -> bool:
        """Put sockets of the other nodes into rooms."""

    def sockets_leave(self, options: BroadcastOptions, rooms: Sequence[str]) -> bool:
        """Take sockets of the other nodes out of rooms."""

    def disconnect_sockets(self, options: BroadcastOptions, close: bool) -> bool:
        """Make sockets of the other nodes leave the namespace, or close their sessions."""

    async def broadcast_with_ack(
        self, event: Sequence[Any], options: BroadcastOptions, timeout: float
    ) -> RemoteAcks:
        """Send an event with ack to sockets of the other nodes, and wait until all have answered.

        Args:
            event: Name and arguments.
            options: Whom it is for.
            timeout: Seconds to wait; the other nodes are told.

        Raises:
            TypeError: An argument has no form on the bus.
        """

    async def fetch_sockets(self, options: BroadcastOptions) -> Answers[dict[str, Any]]:
        """Ask the other nodes for their sockets; each as `LocalNamespace.describe` tells of it."""

    def server_side_send(self, event: Sequence[Any]) -> bool:
        """Send an event to the other nodes themselves, and want no answers.

        Raises:
            TypeError: An argument has no form on the bus.
        """

    async def server_side_emit(self, event: Sequence[Any], timeout: float) -> Answers[Any]:
        """Send an event to the other nodes themselves, and gather their answers.

        Args:
            event: Name and arguments.
            timeout: Seconds to wait.

        Raises:
            TypeError: An argument has no form on the bus.
        """

    def room_created(self, room: str) -> None:
        """Take note that a room, or the socket of that id, has its first member here."""

    def room_deleted(self, room: str) -> None:
        """Take note that nobody is in a room here any more."""

    def close(self) -> None:
        """Take note that the namespace is no more."""


class Bus(Protocol):
    """The bus of one broker."""

    def link(self, local: LocalNamespace) -> Link:
        """Connect a namespace; also before `run`."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the bus until cancelled; started once the other nodes can be reached.

        Raises:
            BusError: They cannot be, and will not be by waiting.
        """

    @property
    def trouble(self) -> str | None:
        """Why this node should get no new clients now, in a few words; None if all is well."""


class Adapter(Protocol):
    """What `Settings.adapter` holds: a description of a bus, which makes one for each broker."""

    def bus(self, host: BusHost) -> Bus:
        """Make the bus of a broker."""
