"""Every namespace of a broker by name, and the families that make more."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import trio

from broker.adapters.base import Adapter, Bus, BusHost, Gap
from broker.adapters.recovery_store import LogKeeper
from protocol.recovery import RecoveryRefusal
from protocol.socketio.packet import DEFAULT_NAMESPACE

from .logged import LoggedSocket
from .namespace import Namespace
from .parent import ParentNamespace, Predicate
from .recovery import Recoveries
from .socket import Socket

if TYPE_CHECKING:
    from broker.sessions.engine import Engine

    from .connection import Connection

logger = logging.getLogger(__name__)


class Directory:
    """The namespaces of one broker.

    Attributes:
        namespaces: Those there are now.
        on_new: Called with each new one.
        recoveries: Keeps events and sessions; None if neither recovery nor room history is on.
        bus: Links them with those of other nodes; None if this is the only one.
        on_gap: Called with each time in which messages of other nodes may have been missed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        settings = engine.settings
        keeps = settings.recovery is not None or settings.history is not None
        self.recoveries: Recoveries | None = Recoveries(engine) if keeps else None
        self._parents: list[ParentNamespace] = []
        self.namespaces: dict[str, Namespace] = {}
        self.on_new: list[Callable[[Namespace], Any]] = []
        self.on_gap: list[Callable[[Gap], Any]] = []
        self._node = engine.new_id()
        adapter: Adapter | None = engine.settings.adapter
        self._bus_host = BusHost(engine.limits, engine.counters.events, self._report)
        self.bus: Bus | None = None
        if adapter is not None:
            self.connect(adapter)
        self.of(DEFAULT_NAMESPACE)

    def connect(self, adapter: Adapter) -> None:
        """Connect with other nodes by this adapter; once, and before the broker is open."""
        self.bus = adapter.bus(self._bus_host)
        self._share_log(self.bus)
        self._engine.readiness.check("bus")(self._check_bus)
        for namespace in self.namespaces.values():
            namespace.link_to(self.bus, self._node)

    def _share_log(self, bus: Bus) -> None:
        """Recover sessions across nodes, if recovery is on and the bus has a log for all of them."""
        recovery, recoveries = self._engine.settings.recovery, self.recoveries
        if recovery is None or recoveries is None or not isinstance(bus, LogKeeper):
            return
        shared = bus.share_log(recovery.window, self._engine.limits.recovery_sessions)
        if shared is not None:
            recoveries.share(shared)
            for namespace in self.namespaces.values():
                recoveries.attach(namespace)

    def _check_bus(self) -> str | None:
        """Say that the other nodes are out of reach; not why, since anybody may ask."""
        out_of_touch = self.bus is not None and self.bus.trouble is not None
        return "the other nodes are out of reach" if out_of_touch else None

    def of(self, name: str) -> Namespace:
        """Return the namespace of this name; made if it is not there."""
        name = name if name.startswith("/") else f"/{name}"
        known = self.namespaces.get(name)
        if known is not None:
            return known
        for parent in self._parents:
            if isinstance(parent.matcher, re.Pattern) and parent.matcher.search(name):
                return self._add(parent.adopt(name))
        return self._add(Namespace(name, self._engine))

    def family(self, matcher: re.Pattern[str] | Predicate) -> ParentNamespace:
        """Add a family; earlier ones are asked first."""
        parent = ParentNamespace(matcher, self._engine, self._remove)
        self._parents.append(parent)
        return parent

    async def find(self, name: str, auth: Mapping[str, Any]) -> Namespace | None:
        """Return the namespace a client asks for, made by a family if one admits it. Spec: SIO-CON-6."""
        for parent in self._parents:
            if name in self.namespaces:
                break
            if not await self._admits(parent, name, auth):
                continue
            # The predicate may have waited: somebody else may have made it meanwhile.
            if name in self.namespaces:
                break
            children = sum(len(family.children) for family in self._parents)
            if children >= self._engine.limits.dynamic_namespaces:
                self._engine.counters.refusals["dynamic namespaces"] += 1
                return None
            return self._add(parent.adopt(name))
        return self.namespaces.get(name)

    async def _admits(self, parent: ParentNamespace, name: str, auth: Mapping[str, Any]) -> bool:
        matcher = parent.matcher
        if isinstance(matcher, re.Pattern):
            return matcher.search(name) is not None
        try:
            verdict = matcher(name, auth)
            return bool(await verdict if isawaitable(verdict) else verdict)
        except Exception:
            self._engine.counters.events["predicate failed"] += 1
            logger.exception("the predicate for namespace %r failed", name[:64])
            return False

    async def keep_presence(self) -> None:
        """Keep the leases of who is online here, and end those of other nodes, until cancelled."""
        while True:
            await trio.sleep(self._engine.limits.presence_lease_time / 3)
            in_touch = self.bus is not None and self.bus.trouble is None
            for namespace in list(self.namespaces.values()):
                if namespace.shared_presence is not None:
                    namespace.shared_presence.beat(in_touch)

    def new_socket(
        self, socket_id: str, namespace: Namespace, connection: Connection, auth: dict[str, Any] | None
    ) -> Socket:
        """Make the socket of a client that asks to be let in."""
        if self.recoveries is None:
            return Socket(socket_id, namespace, connection, auth)
        return LoggedSocket(socket_id, namespace, connection, auth, self.recoveries)

    async def recover(self, socket: Socket, auth: Mapping[str, Any]) -> None:
        """Give a socket the session that its client asks for, or note why not. Spec: SIO-REC-6."""
        if isinstance(socket, LoggedSocket) and self.recoveries is not None:
            namespace = socket.namespace
            namespace.connecting += 1  # its last member may be the old socket of this client
            try:
                socket.recovery_refused = await self.recoveries.recover(socket, auth)
            finally:
                namespace.connecting -= 1
        else:
            socket.recovery_refused = RecoveryRefusal.UNSUPPORTED
        if socket.recovery_refused is not None:
            self._engine.counters.recoveries[socket.recovery_refused.value] += 1

    async def end_presence(self) -> None:
        """Tell the last leaves of all namespaces: the broker closes."""
        for namespace in list(self.namespaces.values()):
            await namespace.end_presence()

    def _add(self, namespace: Namespace) -> Namespace:
        if self.recoveries is not None:
            self.recoveries.attach(namespace)
        self.namespaces[namespace.name] = namespace
        if self.bus is not None:
            namespace.link_to(self.bus, self._node)
        for listener in self.on_new:
            try:
                listener(namespace)
            except Exception:
                self._engine.counters.events["failed"] += 1
                logger.exception("listener for new namespaces failed")
        return namespace

    def _remove(self, namespace: Namespace) -> None:
        self.namespaces.pop(namespace.name, None)
        if self.recoveries is not None:
            self.recoveries.detach(namespace)
        if namespace.link is not None:
            namespace.link.close()

    def _report(self, gap: Gap) -> None:
        """Tell the application of a gap; counted and logged in any case."""
        self._engine.counters.events["bus gap"] += 1
        logger.warning("other nodes were out of reach for %.3f s: %s", gap.seconds, gap.cause)
        for listener in self.on_gap:
            try:
                listener(gap)
            except Exception:
                self._engine.counters.events["failed"] += 1
                logger.exception("listener for gaps failed")
