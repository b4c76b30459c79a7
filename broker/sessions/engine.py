"""What all sessions of a broker share: settings, limits, timers, counters, and the registry of sessions."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

import trio

from broker.flow.alarms import Alarms
from broker.flow.budget import Budget
from broker.flow.codec import make_codec
from broker.flow.counters import Counters
from broker.flow.errors import NotRunning
from broker.flow.rates import Rates
from broker.flow.readiness import Readiness
from broker.flow.request import Opening
from broker.flow.scopes import cleanup_window
from broker.flow.settings import Settings
from broker.flow.timers import Timers
from broker.transports.base import Transport
from broker.transports.shared_writer import SharedWriter
from protocol import DisconnectReason, Violation
from protocol.engineio.handshake import open_packet

from . import shared_reader
from .handler import SessionHandler
from .reading import Reading
from .session import Session
from .shared_reader import SharedReader

logger = logging.getLogger(__name__)

SESSION_ID_LENGTH = 20
HOOKS = ("initial_headers", "headers", "connection_error", "connection", "upgrade", "close")


class Accept(Protocol):
    """Makes the layer above ready for a new session."""

    def __call__(self, session: Session) -> SessionHandler:
        """Return what takes the session's messages."""


class Engine:
    """The sessions of one broker.

    Attributes:
        settings: The settings in force.
        codec: Writes and reads Socket.IO packets.
        counters: Counts by cause.
        budget: What all outboxes hold together.
        rates: How fast clients may send; None without a bound.
        timers: Heartbeat and deadlines.
        alarms: Calls at times of their own.
        readiness: Whether it is ready for clients.
        ends_by: When every ending must be over, by Trio's clock.
        sessions: By session id.
        closing: Doors that let nobody in any more, while those who came through them are sent away.
        handshakes: How many connections have not sent their request head yet.
        hooks: The application's functions, by hook.
        session_mark: What session ids end with, so that other processes know whose they are; may be empty.
    """

    def __init__(self, settings: Settings, accept: Accept) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.codec = make_codec(settings.parser)
        self.counters = Counters()
        self.budget = Budget(settings.limits.outboxes_bytes)
        self.rates = Rates(settings.limits) if Rates.wanted(settings.limits) else None
        self.sessions: dict[str, Session] = {}
        self.draining = False
        self.closing: set[object] = set()
        self.readiness = Readiness()
        self.ends_by = inf
        self.handshakes = 0
        self.session_mark = ""
        self._by_address: Counter[str] = Counter()
        self.hooks: dict[str, list[Callable[..., Any]]] = {name: [] for name in HOOKS}
        self._accept = accept
        self._nursery: trio.Nursery | None = None
        self._empty: trio.Event | None = None
        self.timers: Timers[Reading] = Timers(
            settings.ping_interval, settings.ping_timeout, Reading.ping, Reading.expire
        )
        self.alarms = Alarms()
        self.joining = self.timers.countdown(settings.connect_timeout, _connect_timeout)
        self.stalling = self.timers.countdown(settings.limits.pause_timeout, _pause_timeout)
        self.reader: SharedReader | None = None
        self.writer: SharedWriter | None = None
        self.assembling = self.timers.countdown(settings.limits.assembly_timeout, _assembly_timeout)
        self.receiving = self.timers.countdown(settings.limits.assembly_timeout, _message_timeout)

    @property
    def clients_count(self) -> int:
        """How many engine sessions are open."""
        return len(self.sessions)

    @property
    def is_open(self) -> bool:
        """Whether there is a server scope."""
        return self._nursery is not None

    @property
    def nursery(self) -> trio.Nursery:
        """The server scope.

        Raises:
            NotRunning: The broker is not open.
        """
        if self._nursery is None:
            raise NotRunning("the broker is not open; use `async with broker` or `broker.serve`")
        return self._nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the server scope until cancelled; then end every session."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.timers.run)
                nursery.start_soon(self.alarms.run)
                if shared_reader.AVAILABLE:
                    self.reader = shared_reader.SharedReader(metered=self.rates is not None)
                    await nursery.start(self.reader.run)
                    self.writer = SharedWriter(self.limits.write_timeout)
                    await nursery.start(self.writer.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.reader = self.writer = None

    def open_session(self, opening: Opening, session_id: str, transport: Transport) -> Session:
        """Register a new session that begins on this transport; its caller runs it.

        Raises:
            NotRunning: The broker is not open.
        """
        _ = self.nursery
        session = Session(session_id, self, opening, transport)
        session.handler = self._accept(session)
        self.sessions[session_id] = session
        address = opening.request.address
        self._by_address[address] += 1
        if self.rates is not None:
            self.rates.open(session, None if self._stands_for_many(address) else address)
        return session

    def is_full_for(self, address: str) -> bool:
        """Tell whether an address has as many sessions as it may; proxies and Unix sockets have no bound."""
        if self._stands_for_many(address):
            return False
        return self._by_address[address] >= self.limits.sessions_per_address

    def _stands_for_many(self, address: str) -> bool:
        proxies = self.settings.proxy_addresses
        # A socket for IPv4 and IPv6 alike writes the former as the latter.
        return not address or address in proxies or address.removeprefix("::ffff:") in proxies

    def new_id(self) -> str:
        """Return a new unguessable id of 20 characters. Spec: EIO-SID-1."""
        return secrets.token_urlsafe(15)

    def new_session_id(self) -> str:
        """Return a new unguessable session id of 20 characters, with the mark of this process."""
        return self.new_id()[: SESSION_ID_LENGTH - len(self.session_mark)] + self.session_mark

    def open_text(self, session: Session, transport: str) -> bytes:
        """Build the OPEN packet of a session. Spec: EIO-HS-10."""
        settings = self.settings
        upgrades = self.upgrades_from(transport)
        return open_packet(
            session.id,
            upgrades,
            settings.ping_interval,
            settings.ping_timeout,
            settings.max_payload_bytes,
        )

    def upgrades_from(self, transport: str) -> list[str]:
        """Return the transports that a session may move on to. Spec: EIO-HS-11."""
        settings = self.settings
        if transport == "polling" and settings.allow_upgrades and "websocket" in settings.transports:
            return ["websocket"]
        return []

    def transport_of(self, session_id: str) -> str | None:
        """Return the name of the transport a session is on; None if there is no such session."""
        session = self.sessions.get(session_id)
        if session is None or not session.is_reachable:
            return None
        return session.transport.name

    def notify(self, hook: str, *args: Any) -> None:
        """Call the application's functions for a hook; what they raise is logged."""
        for function in self.hooks[hook]:
            try:
                function(*args)
            except Exception:
                logger.exception("hook %s failed", hook)

    def forget(self, session: Session) -> None:
        """Take an ended session out of the registry."""
        if self.rates is not None:
            self.rates.close(session)
        if self.sessions.pop(session.id, None) is not None:
            self._forget_address(session.opening.request.address)
        if not self.sessions and self._empty is not None:
            self._empty.set()
            self._empty = None

    def _forget_address(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    async def wait_empty(self) -> None:
        """Wait until no session is left."""
        while self.sessions:
            if self._empty is None:
                self._empty = trio.Event()
            await self._empty.wait()

    def ending_window(self, timeout: float) -> trio.CancelScope:
        """Return a cleanup window, no longer than a drain has left for endings."""
        return cleanup_window(max(0.0, min(timeout, self.ends_by - trio.current_time())))

    def end_all(self, reason: DisconnectReason) -> None:
        """End every session."""
        for session in list(self.sessions.values()):
            session.close(reason)

    async def end_door(self, door: object, reason: DisconnectReason) -> None:
        """End every session that was opened through a door, and wait until it has ended."""
        while mine := [one for one in self.sessions.values() if one.opening.request.door is door]:
            for session in mine:
                session.close(reason)
            for session in mine:
                await session.wait_ended()

    def start_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run something in the server scope."""
        self.nursery.start_soon(function, *args)


def _connect_timeout(session: Reading) -> None:
    session.violate(Violation.CONNECT_TIMEOUT)


def _pause_timeout(session: Reading) -> None:
    session.close(DisconnectReason.HANDLER_STALLED)


def _assembly_timeout(session: Reading) -> None:
    session.violate(Violation.ASSEMBLY_TIMEOUT)


def _message_timeout(session: Reading) -> None:
    session.violate(Violation.MESSAGE_TIMEOUT)
