"""Requests to other nodes that wait for answers: one for each node, or one for each client they asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from broker.flow.errors import BrokerError

UNKNOWN_NODE: Final = "?"


class TooManyRequests(BrokerError):
    """As many questions wait for other nodes as may; see `Limits.bus_requests`."""


class Request:
    """One question.

    Attributes:
        values: What has been answered so far.
        nodes: How many other nodes are to answer; None until it is known.
        clients: How many clients they have asked, as far as they said; only if clients are asked.
        done: Set once everything that is to come has come.
    """

    __slots__ = ("_answered", "_asks_clients", "_gone", "clients", "done", "nodes", "values")

    def __init__(self, asks_clients: bool = False) -> None:
        self.values: list[Any] = []
        self.nodes: int | None = None
        self.clients = 0
        self.done = trio.Event()
        self._answered: list[str] = []
        self._gone: set[str] = set()
        self._asks_clients = asks_clients

    @property
    def has_answers(self) -> bool:
        """Whether any node has answered."""
        return bool(self._answered)

    def expect(self, nodes: int) -> None:
        """Say how many nodes are to answer."""
        self.nodes = nodes
        self._look()

    def node_answered(self, uid: str, values: Iterable[Any] = (), clients: int = 0) -> bool:
        """Take the answer of a node; False if it has answered already. Nameless nodes are not told apart."""
        if uid != UNKNOWN_NODE and uid in self._answered:
            return False
        self._answered.append(uid)
        self.values += values
        self.clients += clients
        self._look()
        return True

    def client_answered(self, value: Any) -> None:
        """Take the answer of one client."""
        self.values.append(value)
        self._look()

    def node_left(self, uid: str) -> None:
        """Wait no longer for a node that is gone."""
        if uid not in self._answered:
            self._gone.add(uid)
            self._look()

    def _look(self) -> None:
        if self.nodes is None or len(self._answered) + len(self._gone) < self.nodes:
            return
        if not self._asks_clients or len(self.values) >= self.clients:
            self.done.set()

    def silent(self, names: Iterable[str] = ()) -> tuple[str, ...]:
        """Return who has not answered, named as far as the names are known."""
        if self.nodes is None:
            return (UNKNOWN_NODE,)
        missing = self.nodes - len(self._answered)
        if missing <= 0:
            return ()
        named = sorted(self._gone | (set(names) - set(self._answered)))[:missing]
        return (*named, *[UNKNOWN_NODE] * (missing - len(named)))


class Requests:
    """The questions of one namespace that wait.

    Args:
        limit: How many may.
        new_id: Makes ids.
    """

    def __init__(self, limit: int, new_id: Callable[[], str]) -> None:
        self._limit = limit
        self._new_id = new_id
        self._waiting: dict[str, Request] = {}

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._waiting

    def get(self, request_id: str | None) -> Request | None:
        """Return the question of an id; None if it waits no longer, or never did."""
        return None if request_id is None else self._waiting.get(request_id)

    def open(self, asks_clients: bool = False) -> tuple[str, Request]:
        """Begin a question; its caller closes it.

        Raises:
            TooManyRequests: As many wait as may.
        """
        if len(self._waiting) >= self._limit:
            raise TooManyRequests(f"{self._limit} questions wait for other nodes already")
        request_id = self._new_id()
        request = self._waiting[request_id] = Request(asks_clients)
        return request_id, request

    def close(self, request_id: str) -> None:
        """Forget a question; later answers to it are unknown."""
        self._waiting.pop(request_id, None)

    def node_left(self, uid: str) -> None:
        """Tell all questions that a node is gone."""
        for request in list(self._waiting.values()):
            request.node_left(uid)
