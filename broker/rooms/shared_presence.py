"""Tells other nodes who is online here, and holds what they tell for a lease: the killed leave no ghosts.

Each change has a number. A node tells its changes as they come and, three times a lease, the number of the
last one; whoever has missed one asks for the whole list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import trio
from attrs import define

if TYPE_CHECKING:
    from broker.adapters.base import Link

    from .presence import Presence, PresenceKind

PRESENCE_EVENT: Final = "trio-broker:presence"
"""The server-side event by which nodes tell each other; others than brokers of ours pass it over."""

Word = Literal["join", "leave", "beat", "ask", "all"]
_WORDS: Final = ("join", "leave", "beat", "ask", "all")


@define
class _Neighbour:
    """What is known of another node: the number of its last change, and until when it holds."""

    version: int
    due: float


class SharedPresence:
    """The presence of one namespace, shared with other nodes.

    Args:
        node: The id of this node.
        presence: Who is online.
        link: The way to the other nodes.
        lease_time: Seconds for which what a node has told holds.
    """

    def __init__(self, node: str, presence: Presence, link: Link, lease_time: float) -> None:
        self._node = node
        self._presence = presence
        self._link = link
        self._lease_time = lease_time
        self._version = 0
        self._neighbours: dict[str, _Neighbour] = {}
        presence.on_local.append(self._on_local)

    def ask(self) -> None:
        """Have the others tell who is online there."""
        self._send("ask", 0, [])

    def _send(self, word: Word, version: int, names: list[str]) -> None:
        self._link.server_side_send((PRESENCE_EVENT, self._node, word, version, names))

    def _on_local(self, kind: PresenceKind, user: str) -> None:
        self._version += 1
        self._send(kind, self._version, [user])

    def beat(self, in_touch: bool) -> None:
        """Say that this node is here, and let the others go whose lease is over.

        Args:
            in_touch: Whether the bus works: if it does not, it is this node that hears nothing.
        """
        self._send("beat", self._version, [])
        now = trio.current_time()
        for node, neighbour in list(self._neighbours.items()):
            if not in_touch:
                neighbour.due = now + self._lease_time
            elif neighbour.due <= now:
                del self._neighbours[node]
                self._presence.forget_node(node)

    def receive(self, told: tuple[Any, ...]) -> bool:
        """Take what another node tells; False if it makes no sense."""
        if len(told) != 4:
            return False
        node, word, version, names = told
        if type(node) is not str or word not in _WORDS or type(version) is not int:
            return False
        if not isinstance(names, list) or any(type(name) is not str for name in names):
            return False
        if node != self._node:
            self._take(node, word, version, names)
        return True

    def _take(self, node: str, word: Word, version: int, names: list[str]) -> None:
        due = trio.current_time() + self._lease_time
        known = self._neighbours.get(node)
        if word == "ask":
            if not names or self._node in names:
                self._send("all", self._version, sorted(self._presence.local))
        elif word == "all":
            self._replace(node, set(names))
            self._neighbours[node] = _Neighbour(version, due)
        elif word == "beat" and known is not None and known.version == version:
            known.due = due
        elif word in ("join", "leave") and (0 if known is None else known.version) == version - 1:
            self._neighbours[node] = _Neighbour(version, due)
            change = self._presence.appear if word == "join" else self._presence.vanish
            for name in names:
                change(name, node)
        else:
            if known is not None:
                known.due = due
            self._send("ask", 0, [node])

    def _replace(self, node: str, users: set[str]) -> None:
        for user in self._presence.at(node) - users:
            self._presence.vanish(user, node)
        for user in users:
            self._presence.appear(user, node)
