"""Who is online in a namespace: users, not sockets; who comes and goes is told once, in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from weakref import WeakSet

import trio
from attrs import frozen

from broker.flow.alarms import Alarm
from broker.flow.isolation import isolated

if TYPE_CHECKING:
    from .namespace import Namespace

logger = logging.getLogger(__name__)

PresenceKind = Literal["join", "leave"]
PRESENCE_KINDS: tuple[str, ...] = get_args(PresenceKind)
HERE = ""
"""The name of this node among those that say who is online."""


@frozen
class PresenceChange:
    """A user has come online or has gone.

    Attributes:
        kind: `join` or `leave`.
        user: The identity.
        namespace: Where.
    """

    kind: PresenceKind
    user: str
    namespace: Namespace


class PresenceChanges:
    """Joins and leaves from now on: `async for change in changes`.

    For each user they alternate. Who joins and leaves before you have asked is not told of, so what waits is
    never more than the users there are. Ends when the broker closes.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._pending: dict[str, PresenceKind] = {}
        self._wanted = trio.Event()
        self._closed = False

    def push(self, kind: PresenceKind, user: str) -> None:
        """Add a change; it and the opposite one that still waits annul each other."""
        if self._pending.pop(user, None) is None:
            self._pending[user] = kind
            self._wanted.set()

    def close(self) -> None:
        """Let the iteration end once it has told what waits."""
        self._closed = True
        self._wanted.set()

    def take(self) -> PresenceChange | None:
        """Return the oldest change that waits, if there is one."""
        if not self._pending:
            return None
        user = next(iter(self._pending))
        return PresenceChange(self._pending.pop(user), user, self._namespace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PresenceChange:
        await trio.lowlevel.checkpoint()
        while (change := self.take()) is None:
            if self._closed:
                raise StopAsyncIteration
            self._wanted = trio.Event()
            await self._wanted.wait()
        return change


class Presence:
    """Who is online in one namespace: `namespace.presence`.

    `for user in presence` goes through those who are online now, `async for change in presence` through the
    joins and leaves that follow. A user is online while a socket with that identity is in the namespace, on
    any node, and for `Settings.presence_grace_time` after the last of them was lost.

    Attributes:
        on_local: Called with each join and leave of this node alone, for what tells the other nodes.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._sockets: dict[str, int] = {}  # of this node, by user
        self._grace: dict[str, Alarm] = {}
        self._nodes: dict[str, set[str]] = {}  # where a user is online
        self._followers: WeakSet[PresenceChanges] = WeakSet()
        self._for_handlers = PresenceChanges(namespace)
        self._told: trio.Event | None = None
        self.on_local: list[Callable[[PresenceKind, str], Any]] = []

    def __contains__(self, user: object) -> bool:
        return user in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._nodes))

    def __aiter__(self) -> PresenceChanges:
        changes = PresenceChanges(self._namespace)
        self._followers.add(changes)
        return changes

    @property
    def local(self) -> frozenset[str]:
        """The users who are online on this node."""
        return frozenset(self._sockets).union(self._grace)

    # Sockets of this node

    def enter(self, user: str) -> None:
        """Count a socket of a user."""
        sockets = self._sockets[user] = self._sockets.get(user, 0) + 1
        if sockets > 1:
            return
        alarm = self._grace.pop(user, None)
        if alarm is not None:
            alarm.cancel()  # came back in time
        else:
            self._tell_local("join", user)
            self.appear(user)

    def leave(self, user: str, *, for_good: bool) -> None:
        """Count a socket of a user out.

        Args:
            user: The identity.
            for_good: Whether it is not expected back: then there is no grace.
        """
        sockets = self._sockets.pop(user) - 1
        if sockets:
            self._sockets[user] = sockets
            return
        engine = self._namespace.engine
        grace = engine.settings.presence_grace_time
        if for_good or not grace:
            self._gone(user)
        else:
            due = trio.current_time() + grace
            self._grace[user] = engine.alarms.set(due, lambda: self._grace_over(user))

    def _grace_over(self, user: str) -> None:
        del self._grace[user]
        self._gone(user)

    def _gone(self, user: str) -> None:
        self._tell_local("leave", user)
        self.vanish(user)

    def _tell_local(self, kind: PresenceKind, user: str) -> None:
        for listener in self.on_local:
            listener(kind, user)

    # All nodes

    def appear(self, user: str, node: str = HERE) -> None:
        """Note that a user is online at a node."""
        nodes = self._nodes.get(user)
        if nodes is not None:
            nodes.add(node)
            return
        self._nodes[user] = {node}
        self._tell("join", user)

    def vanish(self, user: str, node: str = HERE) -> None:
        """Note that a user is online at a node no longer; the last node takes the user with it."""
        nodes = self._nodes.get(user)
        if nodes is None:
            return
        nodes.discard(node)
        if not nodes:
            del self._nodes[user]
            self._tell("leave", user)
            self._namespace.maybe_remove()

    def at(self, node: str) -> set[str]:
        """Return the users who are online at a node."""
        return {user for user, nodes in self._nodes.items() if node in nodes}

    def forget_node(self, node: str) -> None:
        """Note that a node is gone with everyone who was online only there."""
        for user in self.at(node):
            self.vanish(user, node)

    # Telling

    def _tell(self, kind: PresenceKind, user: str) -> None:
        for changes in self._followers:
            changes.push(kind, user)
        if not self._namespace.registry.presence:
            return
        self._for_handlers.push(kind, user)
        if self._told is None:
            self._told = trio.Event()
            self._namespace.engine.start_soon(self._call_handlers)

    async def _call_handlers(self) -> None:
        """Call the handlers for all that waits, one after the other, so that the order is kept."""
        assert self._told is not None
        try:
            while (change := self._for_handlers.take()) is not None:
                for kind, handler in self._namespace.registry.presence:
                    if kind == change.kind:
                        await self._call(handler, change)
        finally:
            self._told.set()
            self._told = None

    async def _call(self, handler: Callable[..., Any], change: PresenceChange) -> None:
        with isolated(self._note_failed):
            result = handler(change)
            if isawaitable(result):
                await result

    def _note_failed(self, error: Exception) -> None:
        self._namespace.engine.counters.events["failed"] += 1
        logger.error("presence handler of %s failed", self._namespace.name, exc_info=error)

    async def close(self) -> None:
        """Tell the last leaves, and let every iteration end: the broker closes."""
        for user, alarm in list(self._grace.items()):
            alarm.cancel()
            self._grace_over(user)
        for changes in self._followers:
            changes.close()
        self._followers.clear()
        if self._told is not None:
            await self._told.wait()
