"""The client: one connection to a server, held for as long as a block runs, with its namespaces."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from inspect import isawaitable
from typing import Any

import trio

from broker.flow.codec import make_client_codec
from broker.flow.errors import Disconnected
from broker.flow.outbox import Verdict
from broker.flow.scopes import cleanup_window

from .dispatch import Dispatcher
from .errors import ConnectError
from .events import Emitter, Event
from .handlers import MANAGER_LIFECYCLE, Function
from .inbox import Inbox
from .member import Member
from .options import AuthValue, ClientOptions, HandlerErrorPolicy, check_namespace, namespaces_of
from .polling import HttpClient
from .reconnecting import Connector
from .socket import ClientSocket

logger = logging.getLogger(__name__)


class Client:
    """A Socket.IO client; made by `open_client`.

    Its verbs mean the first of its namespaces; `of` returns another.

    Attributes:
        options: What it was told.
        codec: Writes and reads its packets.
        io: Handlers of what happens to the connection as a whole, `client.io.on("reconnect")`: `open`,
            `close(reason)`, `error(error)`, `ping`, `upgrade`, `reconnect_attempt(number)`,
            `reconnect(number)`, `reconnect_error(error)`, `reconnect_failed`.
    """

    def __init__(self, options: ClientOptions, namespaces: Sequence[str], http: HttpClient | None) -> None:
        self.options = options
        self.codec = make_client_codec(options.parser)
        self.failure: Exception | None = None
        self.scope = trio.CancelScope()
        self.io = Dispatcher(
            MANAGER_LIFECYCLE, False, options.limits.inbox_messages, options.on_handler_error, self.fail
        )
        self._nursery: trio.Nursery | None = None
        self._stream: Inbox[Event] = Inbox(options.limits.inbox_messages)
        self._iterated = False
        self.sockets: dict[str, ClientSocket] = {}
        for name in namespaces:
            self.sockets[name] = ClientSocket(self, name)
        self._main = self.sockets[namespaces[0]]
        self._connector = Connector(options, http, self.codec, self.sockets, self.io)

    # State

    @property
    def id(self) -> str | None:
        """The id of the first namespace's socket; None while it is not connected."""
        return self._main.id

    @property
    def connected(self) -> bool:
        """Whether the first namespace is connected."""
        return self._main.connected

    @property
    def active(self) -> bool:
        """Whether the first namespace is connected, or will be without being asked again."""
        return self._main.active

    @property
    def recovered(self) -> bool:
        """Whether the first namespace's last connection took up the session of the one before."""
        return self._main.recovered

    @property
    def recovery_refused(self) -> str | None:
        """Why the last connection did not; see `ClientSocket.recovery_refused`."""
        return self._main.recovery_refused

    @property
    def transport(self) -> str | None:
        """The name of the transport in use; None while there is no connection."""
        return self._connector.transport

    @property
    def dropped(self) -> int:
        """How many messages of all namespaces were dropped or given up."""
        sockets = sum(socket.dropped for socket in self.sockets.values())
        return sockets + self._stream.dropped + self._connector.dropped

    async def wait_connected(self) -> None:
        """Wait until all namespaces that are active are connected; see `ClientSocket.wait_connected`.

        Raises:
            ConnectError: The server refused one, or the client has given up.
            Disconnected: The first one has been ended.
        """
        await self._main.wait_connected()
        for socket in tuple(self.sockets.values()):
            with suppress(Disconnected):  # one that has been left is not active
                await socket.wait_connected()

    # Verbs of the first namespace

    def on(self, event: str) -> Callable[[Function], Function]:
        """Register the handler of an event of the first namespace; see `ClientSocket.on`."""
        return self._main.on(event)

    def off(self, event: str) -> None:
        """Remove the handler of an event of the first namespace."""
        self._main.off(event)

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event; see `ClientSocket.emit`."""
        return self._main.emit_event(event, args)

    def send(self, *args: Any) -> Verdict:
        """Send the event `message`."""
        return self._main.emit_event("message", args)

    async def send_event(self, event: str, *args: Any) -> Verdict:
        """Send an event once there is room for it; see `ClientSocket.send_event`."""
        return await self._main.send_event(event, *args)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and wait for its ack; see `ClientSocket.call`."""
        return await self._main.call_event(event, args, timeout=timeout)

    @property
    def volatile(self) -> Emitter:
        """The verbs for events that may be dropped."""
        return self._main.volatile

    def timeout(self, seconds: float) -> Emitter:
        """Return the verbs with a timeout for `call`, in seconds."""
        return self._main.timeout(seconds)

    # Lifecycle

    def of(self, namespace: str) -> ClientSocket:
        """Return a namespace, and join it if the client is not in it yet.

        Raises:
            ValueError: That cannot be the name of one.
        """
        known = self.sockets.get(namespace)
        if known is not None:
            return known
        check_namespace(namespace)
        socket = self.sockets[namespace] = ClientSocket(self, namespace)
        if self._nursery is not None:
            self._nursery.start_soon(socket.run)
        self.wanted(socket)
        return socket

    def connect(self) -> None:
        """Ask again for every namespace that is not active."""
        for socket in tuple(self.sockets.values()):
            socket.connect()

    def disconnect(self) -> None:
        """Leave every namespace and close the connection, once what waits has been sent; see `connect`."""
        for socket in tuple(self.sockets.values()):
            socket.disconnect()

    async def flush(self) -> None:
        """Wait until every event has been handed to the transport or, with `retries`, acknowledged."""
        for socket in tuple(self.sockets.values()):
            await socket.flush()

    # For its parts

    def start(self, nursery: trio.Nursery) -> None:
        """Start its tasks."""
        self._nursery = nursery
        nursery.start_soon(self.io.dispatch)
        for socket in self.sockets.values():
            nursery.start_soon(socket.run)
        nursery.start_soon(self._connector.run)

    async def close(self) -> None:
        """Leave in good order: what waits is sent, the server is told, then the handlers of `disconnect`."""
        with trio.move_on_after(self.options.limits.close_timeout / 2):
            for socket in tuple(self.sockets.values()):
                with suppress(ConnectError, Disconnected):
                    await socket.flush()
        self.disconnect()
        await self._connector.wait_closed()
        for dispatcher in (*self.sockets.values(), self.io):
            await dispatcher.finish()

    def fail(self, error: Exception) -> None:
        """End the block with an exception."""
        if self.failure is None:
            self.failure = error
        self.scope.cancel()

    async def auth(self) -> AuthValue:
        """Return what a CONNECT carries now."""
        auth = self.options.auth
        if not callable(auth):
            return auth
        value = auth()
        return await value if isawaitable(value) else value

    def auth_failed(self, error: Exception) -> None:
        """Treat an exception of the auth function like that of a handler."""
        if self.options.on_handler_error is HandlerErrorPolicy.RAISE:
            self.fail(error)
        else:
            logger.error("the auth function failed", exc_info=error)

    def wanted(self, socket: ClientSocket) -> None:
        """Take note that a namespace is to be connected."""
        self._connector.wanted(socket)

    def unwanted(self) -> None:
        """Take note that a namespace is not to be connected any more."""
        self._connector.unwanted()

    # Iterating

    @property
    def waiting(self) -> int:
        """How many events wait for those who iterate over all namespaces."""
        return len(self._stream) if self._iterated else 0

    def deliver(self, socket: Member, event: Event) -> None:
        """Hand an event without handler to those who iterate; the newest are kept for who has not begun."""
        if socket.stream(event):
            return
        if self._iterated:
            self._stream.put(event)
        else:
            self._stream.put_newest(event)

    def poke(self) -> None:
        """Have those who iterate look whether it is over."""
        self._stream.poke()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events of all namespaces that have no handler; ends when none is active."""
        self._iterated = True
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event.

        Raises:
            StopAsyncIteration: No namespace is active any more.
            ConnectError: For the reason that the server refused the first one, or the client has given up.
        """
        await trio.lowlevel.checkpoint()
        while not self._stream:
            if not any(socket.active for socket in self.sockets.values()):
                self._main.stop_iteration()
            await self._stream.wait()
        event = self._stream.pop()
        for socket in self.sockets.values():
            socket.room_made()
        return event


@asynccontextmanager
async def open_client(
    url: str, *, namespaces: Sequence[str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """Connect to a Socket.IO server for as long as the block runs.

    The block begins at once, so that handlers are there before the first event; `wait_connected` waits for
    the connection. At the end of the block events that wait are sent, a running handler is cancelled, the
    server and then the handlers of `disconnect` are told, and every task and connection is gone. Cancelled,
    the connection is cut at once.

    Args:
        url: `http(s)://host:port` or `ws(s)://`; its path names a namespace, its query goes to the server.
        namespaces: Those to join; by default the one in the URL.
        options: See `ClientOptions` in the guide: `auth` (a mapping, or a sync or async function that
            returns one, asked at every connect), `transports`, `upgrade`, `remember_upgrade`,
            `try_all_transports`, `reconnect` (a `Backoff`, or None), `ssl_context`, `headers`, `cookies`,
            `proxy`, `connector` (opens the connections: `async (host, port) -> trio.abc.Stream`), `query`,
            `path`, `connect_timeout`, `ack_timeout`, `retries`, `offline_limit`,
            `offline_policy` (`raise`, `drop_oldest`, `drop_newest`), `on_handler_error` (`raise`, `log`),
            `max_message_bytes`, `parser` (`json`, `msgpack`), `limits`.

    Raises:
        TypeError: There is no such option.
        ValueError: An option or the URL cannot be.
        ConfigError: `parser` is unknown, or msgpack is not installed; a ValueError.
        ModuleNotFoundError: `transports` has polling, and httpx2 is not installed.
        Exception: That of a handler, unless `on_handler_error` is `log`; it cancels the block.
    """
    settings = ClientOptions(url=url, **options)
    http = HttpClient(settings) if "polling" in settings.transports else None
    client = Client(settings, namespaces_of(settings, namespaces), http)
    error: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            client.start(nursery)
            with client.scope:
                try:
                    yield client
                except Exception as raised:  # goes on as it is, not in a group
                    error = raised
            if client.failure is None:
                with cleanup_window(settings.limits.close_timeout):
                    await client.close()
            nursery.cancel_scope.cancel()
    finally:
        if http is not None:
            with cleanup_window(settings.limits.close_timeout):
                await http.aclose()
    if client.failure is not None:
        raise client.failure from error
    if error is not None:
        raise error
