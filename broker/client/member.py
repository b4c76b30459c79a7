"""The receiving half of a namespace: joining, what comes in, who is told, and when reading must stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

import trio

from broker.flow.acks import AckTable
from broker.flow.outbox import Verdict
from protocol import ClientReason
from protocol.socketio.packet import Packet, PacketType

from .dispatch import Call, Dispatcher
from .engine import Engine
from .errors import ConnectError
from .events import Event
from .handlers import SOCKET_LIFECYCLE
from .inbox import Inbox
from .membership import Membership
from .offline import Pending, SendBuffer

if TYPE_CHECKING:
    from .client import Client

logger = logging.getLogger(__name__)

_OWED_ACKS = 65_536  # acks that the server may owe; the offline buffer bounds most of them
_HARD = 64  # so many times the inbox may be read on while an ack is awaited


class Member(Dispatcher):
    """What the client holds of one namespace.

    Attributes:
        name: The namespace.
    """

    def __init__(self, client: Client, name: str) -> None:
        options = client.options
        limits = options.limits
        super().__init__(SOCKET_LIFECYCLE, True, limits.inbox_messages, options.on_handler_error, client.fail)
        self.name = name
        self._client = client
        self._codec = client.codec
        self._state = Membership(name)
        self._stream: Inbox[Event] = Inbox(limits.inbox_messages)
        self._iterated = False
        self._engine: Engine | None = None
        self._asked: Engine | None = None  # which has yet to bring the answer to a CONNECT
        self._next_ack = 0
        self._acks = AckTable(_OWED_ACKS)
        self._offline = self._buffer()
        self._early: list[Packet] = []
        self._changed: trio.Event | None = None

    def _buffer(self) -> SendBuffer:
        options = self._client.options
        return SendBuffer(options.offline_limit, options.limits.outbox_hard_bytes, options.offline_policy)

    # State

    @property
    def id(self) -> str | None:
        """The id that the server knows it by; None while it is not connected."""
        return self._state.id

    @property
    def connected(self) -> bool:
        """Whether the server has let it in, and the connection is there."""
        return self._state.id is not None

    @property
    def active(self) -> bool:
        """Whether it is connected, or will be without being asked again."""
        return self._state.wanted

    # Handing out

    @property
    def _carrier(self) -> Engine | None:
        """The session that takes its events; None before the server has let it in, and after the end."""
        engine = self._engine
        return None if engine is None or engine.ended or not self.connected else engine

    def _offer(self, pending: Pending, volatile: bool) -> Verdict:
        engine = self._carrier
        if engine is None:
            return Verdict.DROPPED if volatile else self._offline.offer(pending)
        if volatile and not engine.writable:
            return Verdict.DROPPED
        self._expect(pending)
        return engine.offer(pending)

    def _expect(self, pending: Pending) -> None:
        if pending.ack_id is not None and pending.reply is not None:
            self._acks.expect(pending.ack_id, pending.reply.settle)
            self.room_made()

    # Connecting, for the client

    async def join(self, engine: Engine) -> None:
        """Ask the server to be let in, and see that it answers."""
        self._engine = engine
        try:
            auth = await self._client.auth()
            data = {**self._state.recovery(), **(auth or {})}
            connect = self._codec.control(Packet(PacketType.CONNECT, self.name, None, data or None))
        except Exception as error:
            self._client.auth_failed(error)
            engine.end(ClientReason.TRANSPORT_ERROR, f"auth failed: {error!r}")
            return
        if not self._state.wanted or self._engine is not engine or self.connected:
            return
        if self._asked is not engine:
            self._asked = engine
            engine.offer(Pending(connect))
        with trio.move_on_after(self._client.options.connect_timeout) as waiting:
            while self._state.wanted and not self.connected:
                await self._state.wait()
        if waiting.cancelled_caught:
            engine.end(ClientReason.TRANSPORT_ERROR, f"no answer to CONNECT for {self.name} in time")

    def _say_goodbye(self, engine: Engine) -> None:
        engine.offer(Pending(self._codec.control(Packet(PacketType.DISCONNECT, self.name))))

    def could_not_connect(self, error: ConnectError, final: bool) -> None:
        """Take note that there is no connection, and whether there will be no further attempt."""
        if not self._state.wanted or self.connected:
            return
        if final:
            self._state.refuse(error)
            self._release(ClientReason.TRANSPORT_ERROR)
        self.announce("connect_error", error)

    def lost(self, reason: ClientReason, final: bool) -> None:
        """Take note that the connection is gone."""
        was_connected, self._engine = self.connected, None
        self._asked = None
        self._early.clear()
        if not self._state.wanted:
            return
        self._state.lose(reason, final)
        self._acks.fail_all(reason)
        if final:
            self._release(reason)
        if was_connected:
            self.announce("disconnect", reason)

    def _end(self, reason: ClientReason) -> None:
        was_connected, self._engine = self.connected, None
        self._state.lose(reason, True)
        self._acks.fail_all(reason)
        self._release(reason)
        if was_connected:
            self.announce("disconnect", reason)

    def _release(self, reason: ClientReason) -> None:
        """Let go of callers whose events will not be sent, and of those who iterate."""
        self._offline.release(reason)
        self.room_made()
        self._stream.poke()
        self._client.poke()

    # What comes in

    def on_packet(self, packet: Packet) -> None:
        """Take a packet of this namespace."""
        if packet.type is PacketType.EVENT:
            self.on_event(packet.data, packet.ack_id, packet)
        elif packet.type is PacketType.ACK:
            assert packet.ack_id is not None
            if not self._acks.resolve(packet.ack_id, packet.data):
                logger.debug("late or unknown ack %d in %s", packet.ack_id, self.name)
        elif packet.type is PacketType.CONNECT:
            self._on_connect(packet.data)
        elif packet.type is PacketType.CONNECT_ERROR:
            self._on_refused(packet.data)
        elif self._state.wanted:
            self._end(ClientReason.SERVER_DISCONNECT)
            self._client.unwanted()

    def _on_connect(self, data: Any) -> None:
        engine, asked, self._asked = self._engine, self._asked, None
        if engine is None:
            if asked is not None:  # it has been left since, and the server could not be told of that
                self._say_goodbye(asked)
            return
        if not self._state.wanted or self.connected:
            return
        if not isinstance(data, dict) or not isinstance(data.get("sid"), str):
            self._on_refused(
                {"message": "the server speaks an older protocol: its CONNECT carries no sid (Socket.IO 2?)"}
            )
            return
        self._state.enter(data["sid"], data.get("pid"), data.get("recovery"))
        self.announce("connect")
        early, self._early = self._early, []
        for packet in early:
            self.on_event(packet.data, packet.ack_id, packet)
        for pending in self._offline.take():
            self._expect(pending)
            engine.take_over(pending)

    def _on_refused(self, data: Any) -> None:
        self._asked = None
        if not self._state.wanted:
            return
        fields = data if isinstance(data, dict) else {"message": data}
        message = str(fields.get("message", "refused"))
        error = ConnectError(message, fields.get("data"), retryable=False, namespace=self.name)
        self._engine = None
        self._state.refuse(error)
        self._release(ClientReason.SERVER_DISCONNECT)
        self.announce("connect_error", error)
        self._client.unwanted()

    def on_event(self, data: list[Any], ack_id: int | None, packet: Packet | None = None) -> None:
        """Hand an event to its handler, or to those who iterate."""
        if not self.connected:
            self._keep_early(data, ack_id, packet)
            return
        name, *args = data
        if self._state.pid is not None and self._state.offsets.note(
            args, ack_id, datetime.now(UTC).timestamp()
        ):
            args.pop()
        handler = self._handlers.get(name)
        answer = None if ack_id is None else _Answer(self, self._engine, ack_id)
        if handler is not None:
            self._inbox.put(Call(handler, args, answer))
            return
        self._client.deliver(self, Event(str(name), tuple(args), self.name, answer))

    def _keep_early(self, data: list[Any], ack_id: int | None, packet: Packet | None) -> None:
        """Keep what a recovery sends ahead of the answer to CONNECT. Spec: SIO-CON-9."""
        if not self._state.wanted or self._engine is None:
            return
        if len(self._early) >= self._client.options.limits.outbox_messages:
            self._engine.end(ClientReason.PARSE_ERROR, "too many events before the answer to CONNECT")
            return
        self._early.append(packet or Packet(PacketType.EVENT, self.name, ack_id, data))

    def answer(self, engine: Engine | None, ack_id: int, values: Sequence[Any]) -> bool:
        """Send an ack by the connection that asked for it; False if that is gone."""
        if engine is None or engine is not self._engine or not self.connected:
            return False
        return engine.offer(Pending(self._codec.ack(self.name, ack_id, values))) is Verdict.QUEUED

    # Back pressure

    @property
    def crowded(self) -> bool:
        """Whether the application is behind, and nothing it waits for is behind its back."""
        waiting = max(len(self._inbox), len(self._stream), self._client.waiting)
        limit = self._client.options.limits.inbox_messages
        # Who handles an event may wait for an ack, which must not wait for the handling of events.
        return waiting >= (limit * _HARD if len(self._acks) else limit)

    async def wait_room(self) -> None:
        """Wait until events may be read again."""
        while self.crowded:
            if self._changed is None:
                self._changed = trio.Event()
            await self._changed.wait()

    def _taken(self) -> None:
        if not self._inbox.crowded:
            self.room_made()

    def room_made(self) -> None:
        """Have the reader look whether it may go on."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    # Iterating

    def __aiter__(self) -> Self:
        """Iterate over the events that have no handler; ends when the socket is no longer active."""
        self._iterated = True
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event.

        Raises:
            StopAsyncIteration: One of the two sides has ended the socket.
            ConnectError: The server refused, or the client has given up.
        """
        await trio.lowlevel.checkpoint()
        while not self._stream:
            if not self._state.wanted:
                self._state.stop_iteration()
            await self._stream.wait()
        event = self._stream.pop()
        self.room_made()
        return event

    def stop_iteration(self) -> NoReturn:
        """End an iteration over events, with an error if it was refused."""
        self._state.stop_iteration()

    def stream(self, event: Event) -> bool:
        """Take an event for those who iterate over this namespace; False if nobody does."""
        if self._iterated:
            self._stream.put(event)
        return self._iterated


class _Answer:
    """Sends one ack, once."""

    __slots__ = ("_ack_id", "_engine", "_socket")

    def __init__(self, socket: Member, engine: Engine | None, ack_id: int) -> None:
        self._socket = socket
        self._engine = engine
        self._ack_id = ack_id

    def __call__(self, values: Sequence[Any]) -> bool:
        sent = self._socket.answer(self._engine, self._ack_id, values)
        self._engine = None  # not before: values that have no form have not been sent
        return sent
