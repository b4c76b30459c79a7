"""A family of namespaces, named by a pattern or admitted by a predicate, made as clients come."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from broker.flow.handlers import HandlerRegistry

from .broadcast import Broadcast
from .fanout import EmitResult
from .namespace import Namespace
from .verbs import Listening

if TYPE_CHECKING:
    from broker.sessions.engine import Engine

    from .socket import Socket

Predicate = Callable[[str, Mapping[str, Any]], Awaitable[bool] | bool]


class ParentNamespace(Listening):
    """A family of namespaces that share handlers and middlewares.

    Attributes:
        children: The namespaces there are now, by name.
    """

    def __init__(
        self,
        matcher: re.Pattern[str] | Predicate,
        engine: Engine,
        remove: Callable[[Namespace], None],
    ) -> None:
        self.matcher = matcher
        self.children: dict[str, Namespace] = {}
        self._engine = engine
        self._remove = remove
        self._registry = HandlerRegistry()

    @property
    def registry(self) -> HandlerRegistry:
        """What is registered for all of them."""
        return self._registry

    def members(self) -> list[Socket]:
        """Return the connected sockets of all of them."""
        return [socket for child in self.children.values() for socket in child.members()]

    def emit(self, event: str, *args: Any) -> EmitResult:
        """Send an event to everyone in every namespace of the family."""
        results = [child.emit(event, *args) for child in list(self.children.values())]
        return EmitResult(
            sum(result.queued for result in results),
            sum(result.dropped for result in results),
            sum(result.closed for result in results),
            sum(result.unpublished for result in results),
        )

    def broadcasts(self) -> Collection[Broadcast]:
        """Return one choice of everyone for each namespace of the family."""
        return [child.everyone() for child in self.children.values()]

    def adopt(self, name: str) -> Namespace:
        """Make a namespace of the family."""
        child = Namespace(name, self._engine, self)
        self.children[name] = child
        return child

    def child_is_empty(self, child: Namespace) -> None:
        """Let an empty namespace go, if the settings say so; once, since another may have its name by now."""
        if self._engine.settings.cleanup_empty_child_namespaces and self.children.get(child.name) is child:
            del self.children[child.name]
            self._remove(child)
