"""The broker: the one object an application makes; brings namespaces, engine and listener together."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest

from broker.adapters.base import Answers, Gap
from broker.adapters.mesh import Mesh
from broker.flow.errors import BrokerError
from broker.flow.handlers import HandlerRegistry
from broker.flow.readiness import Readiness
from broker.flow.scopes import cleanup_window, outliving
from broker.flow.settings import Settings
from broker.rooms.broadcast import Broadcast
from broker.rooms.connection import Connection
from broker.rooms.directory import Directory
from broker.rooms.history import RoomHistory
from broker.rooms.namespace import Namespace
from broker.rooms.parent import ParentNamespace, Predicate
from broker.rooms.presence import Presence
from broker.rooms.socket import Socket
from broker.rooms.verbs import Listening, Sending
from broker.sessions.engine import Engine
from broker.sessions.session import Session
from protocol import DisconnectReason
from protocol.socketio.packet import DEFAULT_NAMESPACE

from .addresses import Server, describe_server, open_listeners, peer_of
from .admission import Admission
from .asgi import ASGIApp, BrokerASGI, Receive, Scope, Send
from .drain import ENDING, drain
from .engine_hooks import EngineHooks
from .hosting import HttpHost
from .lifespan import hear_lifespan, share_lifespan, told_lifespan
from .listener import Listener
from .neighbours import Neighbours
from .static_client import StaticClient
from .statistics import Statistics, collect
from .trio_websockets import serve_trio_websocket


class Broker(Listening, Sending):
    """A Socket.IO server for Trio.

    Its verbs mean the default namespace `/`. It is open inside `async with broker`, inside `serve`, and
    between the start and the end that an ASGI server tells its application of.

    Args:
        settings: All options as one value; None takes `options`.
        options: Options by name; see `Settings`.

    Raises:
        ConfigError: An option is unknown, or a value cannot be.
    """

    def __init__(self, settings: Settings | None = None, /, **options: Any) -> None:
        if settings is not None and options:
            raise TypeError("give either Settings or options, not both; settings.replace(...) makes a copy")
        self.settings = Settings(**options) if settings is None else settings
        self._engine = Engine(self.settings, self._accept)
        self._directory: Directory = Directory(self._engine)
        self._main = self._directory.of(DEFAULT_NAMESPACE)
        self.engine = EngineHooks(self._engine)
        self._admission = Admission(self._engine, self.engine)
        self._client = StaticClient() if self.settings.serve_client else None
        self._neighbours: Neighbours | None = None
        self._scope_manager: Any = None
        self._nursery: trio.Nursery | None = None

    def _accept(self, session: Session) -> Connection:
        return Connection(session, self._directory)

    def __repr__(self) -> str:
        return f"<Broker with {len(self._engine.sessions)} sessions>"

    # Namespaces

    @property
    def registry(self) -> HandlerRegistry:
        """What is registered for the default namespace."""
        return self._main.registry

    def members(self) -> Collection[Socket]:
        """Return the connected sockets of the default namespace."""
        return self._main.members()

    def everyone(self) -> Broadcast:
        """Return the choice of all sockets of the default namespace."""
        return self._main.everyone()

    @property
    def sockets(self) -> Namespace:
        """The default namespace."""
        return self._main

    @property
    def presence(self) -> Presence:
        """Who is online in the default namespace."""
        return self._main.presence

    @property
    def namespaces(self) -> dict[str, Namespace]:
        """The namespaces there are now, by name."""
        return dict(self._directory.namespaces)

    @overload
    def of(self, name: str) -> Namespace: ...

    @overload
    def of(self, name: re.Pattern[str] | Predicate) -> ParentNamespace: ...

    def of(self, name: str | re.Pattern[str] | Predicate) -> Namespace | ParentNamespace:
        """Return a namespace, or a family of namespaces that are made when clients ask for them.

        Args:
            name: A name; a pattern that names must match; or a predicate `(name, auth)`, sync or async, that
                admits names.

        Spec: SIO-CON-6.
        """
        return self._directory.of(name) if isinstance(name, str) else self._directory.family(name)

    def on_new_namespace(self, listener: Callable[[Namespace], Any]) -> Callable[[Namespace], Any]:
        """Call this with each namespace that appears."""
        self._directory.on_new.append(listener)
        return listener

    async def server_side_emit(self, event: str, *args: Any, timeout: float | None = None) -> Answers[Any]:
        """Send an event to the other nodes of the cluster; see `Namespace.server_side_emit`."""
        return await self._main.server_side_emit(event, *args, timeout=timeout)

    def history(self, room: str, *, since: str | None = None, limit: int | None = None) -> RoomHistory:
        """Return the latest events of a room of the default namespace; see `Namespace.history`."""
        return self._main.history(room, since=since, limit=limit)

    def on_gap(self, listener: Callable[[Gap], Any]) -> Callable[[Gap], Any]:
        """Call this, a plain function, after a time in which messages between nodes may have been lost."""
        self._directory.on_gap.append(listener)
        return listener

    # Lifecycle

    def settle_beside(self, neighbours: Neighbours) -> None:
        """Make this broker one of several processes of a server, before it serves; `--workers` does it.

        Args:
            neighbours: How the others are reached.

        Raises:
            BrokerError: It is open already.
        """
        if self.is_open:
            raise BrokerError("the broker is open already")
        self._neighbours = neighbours
        self._engine.session_mark = neighbours.mark
        if self._directory.bus is None and neighbours.count > 1:
            self._directory.connect(Mesh(neighbours))

    @property
    def is_open(self) -> bool:
        """Whether it is open, and may be handed connections."""
        return self._nursery is not None

    async def __aenter__(self) -> Self:
        """Open the server scope.

        Raises:
            BusError: The adapter cannot reach the other nodes; nothing is left then.
        """
        if self._nursery is not None:
            raise BrokerError("the broker is open already")
        self._scope_manager = trio.open_nursery()
        self._nursery = await self._scope_manager.__aenter__()
        self._engine.draining = False
        self._engine.readiness.refusing = None
        try:
            await self._nursery.start(self._engine.run)
            if self._directory.bus is not None:
                await self._nursery.start(self._directory.bus.run)
                self._nursery.start_soon(self._directory.keep_presence)
            if self._directory.recoveries is not None:
                await self._nursery.start(self._directory.recoveries.run)
        except BaseException:
            # Failed or cancelled here, there is no exit that would close the nursery.
            await self._leave_scope()  # noqa: ASYNC102 - everything in it is cancelled
            raise
        return self

    async def _leave_scope(self) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        self._nursery = None
        manager, self._scope_manager = self._scope_manager, None
        await manager.__aexit__(None, None, None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """End every session, and leave nothing behind."""
        assert self._nursery is not None
        self._engine.draining = True
        self._engine.readiness.refusing = ENDING
        self._engine.end_all(DisconnectReason.SERVER_SHUTTING_DOWN)
        limits = self.settings.limits
        with cleanup_window(limits.cleanup_timeout + limits.close_timeout):
            await self._engine.wait_empty()  # noqa: ASYNC102 - the window is shielded and has a deadline
            await self._directory.end_presence()  # noqa: ASYNC102 - as above
        if self._nursery.cancel_scope.cancel_called:
            manager, self._scope_manager = self._scope_manager, None
            self._nursery = None
            left: bool | None = await manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - its own exit
            return left
        # The application's own error leaves the block as it came, in no group of ours.
        await self._leave_scope()  # noqa: ASYNC102 - its own exit
        return False

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """Open the broker for the block, if it is not open already."""
        if self._nursery is not None:
            yield
            return
        async with self:
            yield

    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 3000,
        *,
        bind: Sequence[str] = (),
        ssl_context: ssl.SSLContext | None = None,
        app: ASGIApp | None = None,
        task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until cancelled.

        Args:
            host: Address or name to listen on; None listens only on `bind`.
            port: TCP port; 0 takes a free one.
            bind: More addresses: `"127.0.0.1:3000"`, `"[::1]:3000"`, `"unix:/run/broker.sock"`; `"fd:3"`
                takes a listening socket that the process has inherited.
            ssl_context: Serves TLS.
            app: An ASGI application for all other paths.
            task_status: Gets the `Server` once it listens.

        Raises:
            OSError: An address cannot be listened on.
            ValueError: An address cannot be read.

        It opens the broker if it is not open. To serve in several calls, put them into `async with broker`.

        Cancellation: every session that was opened through this call ends with `server shutting down`, and if
        it has opened the broker all others too; when this returns nothing of them is left.
        """
        with open_listeners(host, port, tuple(bind)) as listening:
            scheme = "http" if ssl_context is None else "https"
            answers = self.asgi(app)
            host_app = HttpHost(answers, self.settings.limits, self.settings.max_payload_bytes)
            beside = self._neighbours
            listener = Listener(self._engine, self._admission, host_app, ssl_context, answers, beside)
            accept = partial(listener.accept_all, listening)
            goodbye = partial(self._close_door, answers)
            limits = self.settings.limits
            window = limits.cleanup_timeout + limits.close_timeout
            told = told_lifespan(app, host_app.state)
            async with self._opened(), told, outliving(accept, goodbye, window):
                task_status.started(describe_server(listening, scheme))
                await trio.sleep_forever()

    async def _close_door(self, answers: BrokerASGI) -> None:
        """End the sessions of one `serve` while their peers can still be told: others may serve as well."""
        engine = self._engine
        engine.closing.add(answers)
        try:
            await engine.end_door(answers, DisconnectReason.SERVER_SHUTTING_DOWN)
            await answers.wait_answered()
        finally:
            engine.closing.discard(answers)

    async def _end_sessions(self) -> None:
        """End every session while its peer can still be told: a polling client by the answer to its GET."""
        engine = self._engine
        was_draining, engine.draining = engine.draining, True
        was_refusing, engine.readiness.refusing = engine.readiness.refusing, ENDING
        try:
            engine.end_all(DisconnectReason.SERVER_SHUTTING_DOWN)
            await engine.wait_empty()
        finally:
            engine.draining = was_draining
            engine.readiness.refusing = was_refusing

    def asgi(self, app: ASGIApp | None = None) -> BrokerASGI:
        """Return the broker as an ASGI application, to mount or to run under an ASGI server on Trio.

        Args:
            app: Takes all requests for other paths; None answers 404.
        """
        return BrokerASGI(self._engine, self._admission, self._client, app, self._lifespan, self._neighbours)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send, app: ASGIApp | None) -> None:
        if app is None:
            await hear_lifespan(receive, send, self._opened)
            return
        await share_lifespan(app, scope, receive, send, self._opened, self._end_sessions)

    async def handle_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one HTTP connection over a stream of the application's own, until it closes.

        Raises:
            NotRunning: The broker is not open.

        Cancellation closes the stream and ends the session on it.
        """
        _ = self._engine.nursery
        host_app = HttpHost(self.asgi(), self.settings.limits, self.settings.max_payload_bytes)
        listener = Listener(self._engine, self._admission, host_app, None)
        await listener.serve_stream(stream, peer_of(stream))

    async def handle_websocket(self, websocket: WebSocketRequest | WebSocketConnection) -> None:
        """Serve one WebSocket of a trio-websocket server, until it closes.

        An upgrade from polling works if the broker serves the polling requests as well.

        Args:
            websocket: The request, which the broker then accepts or refuses; or a connection that the
                application has accepted, which can only be refused by close code 1008. trio-websocket keeps
                no headers with a connection: whether its `Origin` may come in is then for the application to
                decide. A request has no Host header there, so that the same origin cannot be told: name
                origins in `cors_allowed_origins`.

        Raises:
            NotRunning: The broker is not open.

        Cancellation ends the session.
        """
        _ = self._engine.nursery
        await serve_trio_websocket(self._engine, self._admission, websocket)

    async def drain(self, deadline: float = 30.0, rate: float | None = None) -> None:
        """Send everybody away in good order: newcomers get 503, handlers and acks finish, transports close.

        Before anything else `readyz` answers 503; newcomers are let in for another
        `Settings.readiness_delay`, so that load balancers notice and send none.

        Args:
            deadline: Seconds until everything has ended, `readiness_delay` included. Who is still busy when
                three quarters of it are over, or when only `cleanup_timeout` and `close_timeout` are left, is
                closed.
            rate: Sessions to close per second; None spreads them over the time there is.

        Cancellation: whoever is left stays connected; newcomers stay refused. Spec: DRAIN-1.
        """
        await drain(self._engine, deadline, rate)

    @property
    def readiness(self) -> Readiness:
        """Checks that say whether the broker is ready for clients; see docs/drain.md."""
        return self._engine.readiness

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return collect(self._engine, self._directory)
