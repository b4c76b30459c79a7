"""The task that holds one connection after another, as long as any namespace wants one."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from broker.flow.codec import Codec
from protocol import ClientReason, Violation
from protocol.engineio.packet import Packet as EnginePacket
from protocol.socketio.decoder import NEED_ATTACHMENTS, decode_event
from protocol.socketio.packet import DEFAULT_NAMESPACE

from .dispatch import Dispatcher
from .engine import Engine, open_engine
from .errors import ConnectError, TransportFailed
from .options import ClientOptions
from .polling import HttpClient

if TYPE_CHECKING:
    from .socket import ClientSocket

logger = logging.getLogger(__name__)


@frozen
class _End:
    """How one attempt ended.

    Attributes:
        opened: Whether there was a session.
        reason: Why it ended.
        message: A sentence about it.
        retry_after: Seconds that the server asks to wait.
        lived: Seconds that the session was there.
    """

    opened: bool
    reason: ClientReason
    message: str
    retry_after: float = 0.0
    lived: float = 0.0


class Connector:
    """Connects, and connects again.

    Args:
        options: The options.
        http: For polling.
        codec: Reads packets.
        sockets: The namespaces, by name; others may come.
        io: Told what happens.
    """

    def __init__(
        self,
        options: ClientOptions,
        http: HttpClient | None,
        codec: Codec,
        sockets: Mapping[str, ClientSocket],
        io: Dispatcher,
    ) -> None:
        self._options = options
        self._http = http
        self._sockets = sockets
        self._io = io
        self._engine: Engine | None = None
        self._session: trio.Nursery | None = None
        self._opening = trio.CancelScope()
        self._is_text = codec.is_text
        self._decoder = codec.decoder(options.limits, options.max_message_bytes)
        self._upgraded = False
        self._changed = trio.Event()
        self._busy = True
        self._dropped = 0

    @property
    def transport(self) -> str | None:
        """The name of the transport in use."""
        return None if self._engine is None else self._engine.transport.name

    @property
    def dropped(self) -> int:
        """How many events have given way in the queues of all sessions."""
        return self._dropped + (0 if self._engine is None else self._engine.dropped)

    # What the namespaces want

    def _wants(self) -> bool:
        return any(socket.active for socket in self._sockets.values())

    def wanted(self, socket: ClientSocket) -> None:
        """Connect a namespace."""
        if self._engine is not None and self._session is not None and not self._engine.closing:
            self._session.start_soon(socket.join, self._engine)
        self._change()

    def unwanted(self) -> None:
        """Close the connection if no namespace wants it any more."""
        if not self._wants():
            self._opening.cancel()
            self._leave()
        self._change()

    def _leave(self) -> None:
        if self._engine is not None and self._session is not None and not self._engine.closing:
            self._engine.leave()
            self._session.start_soon(self._say_goodbye, self._engine)

    async def _say_goodbye(self, engine: Engine) -> None:
        with trio.move_on_after(self._options.limits.close_timeout):
            await engine.goodbye()
        engine.end(ClientReason.CLIENT_DISCONNECT)

    async def wait_closed(self) -> None:
        """Wait until there is no connection, nor an attempt at one."""
        while self._busy:
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # The task

    async def run(self) -> None:
        """Connect whenever a namespace wants it, until cancelled."""
        failures = 0
        retry_after = 0.0
        while True:
            if not self._wants():
                failures, self._busy = 0, False
                self._change()
                await self._changed.wait()
                continue
            self._busy = True
            if failures:
                await self._pause(failures, retry_after)
                if not self._wants():
                    continue
                self._io.announce("reconnect_attempt", failures)
            end = await self._attempt(failures)
            retry_after = end.retry_after
            if end.reason is ClientReason.CLIENT_DISCONNECT:
                failures = 0
                continue
            # A server that lets in and throws out at once is not asked again at full speed.
            failures = 1 if end.lived >= self._steady_after() else failures + 1
            self._tell(end, failures)

    def _steady_after(self) -> float:
        backoff = self._options.reconnect
        return 0.0 if backoff is None else backoff.maximum

    async def _pause(self, failures: int, retry_after: float) -> None:
        backoff = self._options.reconnect
        assert backoff is not None
        # Chance spreads the clients of a server; nothing is kept secret by it.
        delay = max(backoff.delay(failures, random.random()), retry_after)  # noqa: S311 - to spread, not to hide
        with trio.move_on_after(delay):
            while self._wants():
                await self._changed.wait()

    async def _attempt(self, failures: int) -> _End:
        """Open one session and carry it to its end."""
        async with trio.open_nursery() as nursery:
            end = await self._open(nursery, failures)
            nursery.cancel_scope.cancel()
        return end

    async def _open(self, nursery: trio.Nursery, failures: int) -> _End:
        timeout = self._options.connect_timeout
        engine = None
        with trio.CancelScope() as self._opening:
            try:
                with trio.fail_after(timeout):
                    engine = await open_engine(nursery, self, self._options, self._http, self._transports())
            except trio.TooSlowError:
                return _End(False, ClientReason.TRANSPORT_ERROR, f"timeout: no session within {timeout:g} s")
            except TransportFailed as error:
                return _End(False, error.reason, str(error), error.retry_after)
        if engine is None:
            return _End(False, ClientReason.CLIENT_DISCONNECT, "")
        return await self._hold(nursery, engine, failures)

    async def _hold(self, nursery: trio.Nursery, engine: Engine, failures: int) -> _End:
        opened_at = trio.current_time()
        self._decoder.reset()
        self._engine, self._session = engine, nursery
        try:
            self._io.announce("open")
            if failures:
                self._io.announce("reconnect", failures)
            for socket in tuple(self._sockets.values()):
                if socket.active:
                    nursery.start_soon(socket.join, engine)
            if not self._wants():  # the last one has left as the session opened, too late to cancel that
                self._leave()
            reason, message = await engine.run()
        finally:
            self._dropped += engine.dropped
            self._engine = self._session = None
        self._upgraded = self._upgraded or engine.upgraded
        self._io.announce("close", reason)
        return _End(True, reason, message, lived=trio.current_time() - opened_at)

    def _transports(self) -> tuple[str, ...]:
        options = self._options
        if options.remember_upgrade and self._upgraded:
            return ("websocket",)
        return options.transports if options.try_all_transports else options.transports[:1]

    def _tell(self, end: _End, failures: int) -> None:
        """Tell the namespaces that there is no connection, and whether there will be one."""
        backoff = self._options.reconnect
        final = backoff is None or backoff.gives_up(failures)
        error = ConnectError(end.message or str(end.reason))
        if not end.opened:
            self._io.announce("error", error)
            if failures > 1:
                self._io.announce("reconnect_error", error)
        if final and backoff is not None:
            self._io.announce("reconnect_failed")
        logger.debug("no connection: %s (%s)", end.reason, end.message)
        for socket in tuple(self._sockets.values()):
            socket.could_not_connect(error, final)
            socket.lost(end.reason, final)

    # What comes in

    def on_engine(self, event: str) -> None:
        """Take note of `ping` and `upgrade`."""
        self._io.announce(event)

    def on_message(self, packet: EnginePacket) -> Awaitable[None] | None:
        """Decode a message and hand it to its namespace; what it returns is waited for."""
        engine = self._engine
        if engine is None or engine.ended:
            return None
        if packet.binary:
            result = self._decoder.feed_binary(packet.data)
        else:
            main = self._sockets.get(DEFAULT_NAMESPACE) if self._is_text else None
            if main is not None and packet.data[:1] == b"2" and self._decoder.pending is None:
                limits = self._options.limits
                event = decode_event(b"4" + packet.data, limits.ack_id_digits, limits.json_depth)
                if event is not None:
                    main.on_event(event[1], event[0])
                    return self._room(engine, main)
            result = self._decoder.feed_text(packet.data)
        if result is NEED_ATTACHMENTS:
            return None
        if isinstance(result, Violation):
            engine.end(ClientReason.PARSE_ERROR, result.text)
            return None
        socket = self._sockets.get(result.namespace)
        if socket is None:
            return None
        socket.on_packet(result)
        return self._room(engine, socket)

    def _room(self, engine: Engine, socket: ClientSocket) -> Awaitable[None] | None:
        return self._wait_room(engine, socket) if socket.crowded else None

    async def _wait_room(self, engine: Engine, socket: ClientSocket) -> None:
        with trio.move_on_after(self._options.limits.pause_timeout) as patience:
            await socket.wait_room()
        if patience.cancelled_caught:
            engine.end(ClientReason.HANDLER_STALLED, f"events of {socket.name} waited too long for handlers")
