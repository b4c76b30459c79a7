"""One Engine.IO session of the client: its reader, writer, heartbeat and upgrade."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Verdict
from protocol import ClientReason
from protocol.engineio.packet import PING_PROBE, PONG, PROBE, UPGRADE, Packet, PacketType
from protocol.jsontext import load

from .errors import TransportFailed
from .handshake import Opened, read_opened
from .offline import Pending, SendBuffer
from .options import ClientOptions
from .polling import HttpClient, PollingTransport
from .websocket import WebSocketTransport

_BATCH = 64
_PONG = EncodedMessage(PONG)


class Transport(Protocol):
    """What carries the packets of a session."""

    name: str

    async def receive(self) -> list[Packet]:
        """Wait for the next packets."""

    async def send(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages in order."""

    async def goodbye(self) -> None:
        """Close in good order."""


class EngineOwner(Protocol):
    """Who is told what comes in."""

    def on_message(self, packet: Packet) -> Awaitable[None] | None:
        """Take a MESSAGE; what it returns is waited for before the next one is read."""

    def on_engine(self, event: str) -> None:
        """Take note of `ping` and `upgrade`."""


class Engine:
    """One session, from OPEN to its end.

    Attributes:
        opened: What the server said at the opening.
        transport: What carries it now.
        upgraded: Whether it has moved from polling to WebSocket.
        early: Packets that came along with OPEN.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        owner: EngineOwner,
        options: ClientOptions,
        http: HttpClient | None,
        transport: Transport,
        opened: Opened,
    ) -> None:
        self.opened = opened
        self.transport = transport
        self.upgraded = False
        self.early: list[Packet] = []
        self._nursery = nursery
        self._owner = owner
        self._options = options
        self._http = http
        limits = options.limits
        self._queue = SendBuffer(limits.outbox_messages, limits.outbox_hard_bytes, options.offline_policy)
        self._wake = trio.Event()
        self._writing = False
        self._idle: trio.Event | None = None
        self._ended: tuple[ClientReason, str] | None = None
        self._closing = False
        self._scope = trio.CancelScope()
        self._watch = trio.CancelScope()
        self._pausing = False
        self._parked = {"reader": trio.Event(), "writer": trio.Event()}
        self._resumed = trio.Event()

    # Sending

    def offer(self, pending: Pending) -> Verdict:
        """Queue a message.

        Raises:
            BufferFull: There is no room, and the policy is to raise.
        """
        if self._ended is not None:
            return Verdict.CLOSED
        verdict = self._queue.offer(pending)
        self._wake.set()
        return verdict

    def take_over(self, pending: Pending) -> None:
        """Queue a message that has waited for the session, and was let in where it waited."""
        self._queue.put(pending)
        self._wake.set()

    def discard(self, pending: Pending) -> bool:
        """Take back a message that has not been sent; False if it has been."""
        return self._queue.discard(pending)

    @property
    def dropped(self) -> int:
        """How many events have given way in its queue."""
        return self._queue.dropped

    @property
    def closing(self) -> bool:
        """Whether it says goodbye, or has ended."""
        return self._closing or self._ended is not None

    @property
    def ended(self) -> bool:
        """Whether it has ended; nothing that still comes in counts."""
        return self._ended is not None

    @property
    def writable(self) -> bool:
        """Whether nothing is being sent: a volatile message is dropped otherwise."""
        return self._ended is None and not self._writing

    @property
    def busy(self) -> bool:
        """Whether anything is still to be sent."""
        return bool(self._queue) or self._writing

    def has_room(self, size: int) -> bool:
        """Tell whether a message of this size may be queued."""
        return self._queue.has_room(size)

    async def wait_room(self, size: int) -> None:
        """Wait until a message of this size may be queued."""
        await self._queue.wait_room(size)

    async def flush(self) -> None:
        """Wait until all that is queued has been handed to the transport."""
        while self.busy and self._ended is None:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    # Life

    def end(self, reason: ClientReason, message: str = "") -> None:
        """End the session; the first reason counts."""
        if self._ended is None:
            self._ended = (reason, message)
            self._scope.cancel()

    async def run(self) -> tuple[ClientReason, str]:
        """Carry the session to its end; return why it ended, and a sentence about it."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guarded, self._read)
                nursery.start_soon(self._guarded, self._write)
                nursery.start_soon(self._watch_heartbeat)
                if self._may_upgrade():
                    nursery.start_soon(self._upgrade)
        self._wake_flushers()
        self._queue.take()  # nothing of it will be sent; who waits for room there looks elsewhere
        return self._ended or (ClientReason.TRANSPORT_CLOSE, "")

    async def _guarded(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except TransportFailed as error:
            if not self._closing:
                self.end(error.reason, str(error))
            elif task == self._write:
                self.end(ClientReason.CLIENT_DISCONNECT)

    def leave(self) -> None:
        """Have no more namespaces join; `goodbye` follows."""
        # The other end may be quicker: what the reader sees from here on is no failure.
        self._closing = True

    async def goodbye(self) -> None:
        """Send what waits, close the transport in good order, and end."""
        await self.flush()
        if self._ended is None:
            await self.transport.goodbye()
        self.end(ClientReason.CLIENT_DISCONNECT)

    # Receiving

    async def _read(self) -> None:
        for packet in self.early:
            await self._on_packet(packet)
        while True:
            if self._pausing:
                await self._park("reader")
            if self._queue.is_over:
                await self._let_answers_go()
            for packet in await self.transport.receive():
                await self._on_packet(packet)

    async def _let_answers_go(self) -> None:
        """Read no more, as all that comes in may add an answer, until the server has taken some."""
        self._watch.deadline = float("inf")
        with trio.move_on_after(self._options.limits.pause_timeout) as patience:
            await self._queue.wait_not_over()
        if patience.cancelled_caught:
            self.end(ClientReason.TRANSPORT_ERROR, "the server asks, but takes no answers")
        self._heard()

    async def _on_packet(self, packet: Packet) -> None:
        kind = packet.type
        if kind is PacketType.MESSAGE:
            wait = self._owner.on_message(packet)
            if wait is not None:
                # Nothing is read meanwhile, pings neither, so silence says nothing. Spec: EIO-HB-4.
                self._watch.deadline = float("inf")
                await wait
                self._heard()
        elif kind is PacketType.PING:
            self._heard()
            self._queue.offer(Pending(_PONG))
            self._wake.set()
            self._owner.on_engine("ping")
        elif kind is PacketType.CLOSE:
            raise TransportFailed(ClientReason.TRANSPORT_CLOSE, _closed_by_server(packet.data))

    # Heartbeat

    def _heard(self) -> None:
        patience = self.opened.ping_interval + self.opened.ping_timeout
        self._watch.deadline = trio.current_time() + patience

    async def _watch_heartbeat(self) -> None:
        """End the session after too long a silence. Spec: EIO-HB-8."""
        self._heard()
        with self._watch:
            await trio.sleep_forever()
        self.end(ClientReason.PING_TIMEOUT, "no ping from the server in time")

    # Writing

    async def _write(self) -> None:
        while True:
            if self._pausing:
                await self._park("writer")
            batch = self._queue.take(_BATCH)
            if not batch:
                self._wake_flushers()
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            self._writing = True
            try:
                await self.transport.send([pending.message for pending in batch])
            finally:
                self._writing = False

    def _wake_flushers(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    # Upgrade

    async def _park(self, who: str) -> None:
        self._parked[who].set()
        await self._resumed.wait()

    def _may_upgrade(self) -> bool:
        return (
            self._options.upgrade
            and self.transport.name == "polling"
            and "websocket" in self._options.transports
            and "websocket" in self.opened.upgrades
        )

    async def _upgrade(self) -> None:
        """Try a WebSocket beside the polling, and move over to it. Spec: EIO-UPG-2 to EIO-UPG-6."""
        websocket = None
        with trio.move_on_after(self._options.connect_timeout):
            websocket = await self._probe()
        if websocket is None:
            return  # the session stays on polling
        self._pausing = True
        self._wake.set()
        # The server answers the parked GET with NOOP once the probe has succeeded.
        for parked in self._parked.values():
            await parked.wait()
        try:
            await websocket.send([EncodedMessage(UPGRADE)])
        except TransportFailed as error:
            self.end(ClientReason.TRANSPORT_ERROR, f"the upgrade failed: {error}")
            return
        self.transport = websocket
        self.upgraded = True
        self._pausing = False
        self._resumed.set()
        self._owner.on_engine("upgrade")

    async def _probe(self) -> WebSocketTransport | None:
        cookies = "" if self._http is None else self._http.cookie_header()
        websocket = None
        try:
            websocket = await WebSocketTransport.open(
                self._nursery, self._options, self.opened.session_id, cookies
            )
            await websocket.send([EncodedMessage(PING_PROBE)])
            if await websocket.receive() == [Packet(PacketType.PONG, PROBE)]:
                proven, websocket = websocket, None
                return proven
            await websocket.goodbye()
        except TransportFailed:
            pass
        finally:
            if websocket is not None:
                websocket.cut()
        return None


async def open_engine(
    nursery: trio.Nursery,
    owner: EngineOwner,
    options: ClientOptions,
    http: HttpClient | None,
    transports: Sequence[str],
) -> Engine:
    """Open a session; a WebSocket lives in `nursery`.

    Args:
        nursery: Of the session.
        owner: Told what comes in.
        options: The options.
        http: For polling; None if only WebSocket is used.
        transports: The one to begin with, and those to try after it.

    Raises:
        TransportFailed: None of the transports works; that of the last one.
    """
    failure: TransportFailed | None = None
    for name in transports:
        try:
            if name == "websocket":
                return await _open_websocket(nursery, owner, options, http)
            assert http is not None
            return await _open_polling(nursery, owner, options, http)
        except TransportFailed as error:
            failure = error
    assert failure is not None
    raise failure


async def _open_websocket(
    nursery: trio.Nursery, owner: EngineOwner, options: ClientOptions, http: HttpClient | None
) -> Engine:
    if http is not None:
        cookies = http.cookie_header()
    else:
        cookies = "; ".join(f"{name}={value}" for name, value in options.cookies.items())
    transport = await WebSocketTransport.open(nursery, options, cookies=cookies)
    [packet] = await transport.receive()
    return Engine(nursery, owner, options, http, transport, read_opened(packet))


async def _open_polling(
    nursery: trio.Nursery, owner: EngineOwner, options: ClientOptions, http: HttpClient
) -> Engine:
    transport = PollingTransport(http, options)
    packets = await transport.receive()
    opened = read_opened(packets[0])
    transport.session_id = opened.session_id
    transport.max_payload_bytes = opened.max_payload_bytes
    engine = Engine(nursery, owner, options, http, transport, opened)
    engine.early = packets[1:]
    return engine


def _closed_by_server(why: bytes) -> str:
    """Word the end that a CLOSE packet brings, with what stands behind it. Spec: EIO-CLOSE-3."""
    try:
        told = load(why) if why else None
    except ValueError:
        told = None
    message = told.get("message") if isinstance(told, dict) else None
    closed = "the server closed the session"
    return f"{closed}: {message}" if isinstance(message, str) else closed
