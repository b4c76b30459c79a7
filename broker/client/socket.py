"""One namespace of the client, with its verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from broker.flow.acks import single_value
from broker.flow.encoded import EncodedMessage
from broker.flow.outbox import Verdict
from protocol import ClientReason
from protocol.socketio.packet import RESERVED_EVENTS

from .errors import BufferFull
from .events import Emitter
from .member import Member
from .offline import Pending
from .replies import Reply
from .retries import RetryQueue

if TYPE_CHECKING:
    from .client import Client


class ClientSocket(Member):
    """The client's end of one namespace; in `client.of(name)`.

    Attributes:
        name: The namespace.
    """

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(client, name)
        options = client.options
        self._retries = (
            None
            if options.retries is None
            else RetryQueue(
                self._room_on_a_connection,
                self._request,
                options.retries,
                options.call_timeout,
                self._buffer(),
            )
        )

    def __repr__(self) -> str:
        return f"<ClientSocket {self.name} {self.id or 'not connected'}>"

    # State

    @property
    def recovered(self) -> bool:
        """Whether the last connection took up the session of the one before, with nothing missed."""
        return self._state.recovered

    @property
    def recovery_refused(self) -> str | None:
        """Why the last connection did not, in the word of a server of ours; see docs/recovery.md."""
        return self._state.recovery_refused

    @property
    def dropped(self) -> int:
        """How many messages were dropped, before a connection took them or on their way in, or given up.

        A connection serves all namespaces; what gives way there counts in `Client.dropped` only.
        """
        failed = 0 if self._retries is None else self._retries.failed
        return self._offline.dropped + self._stream.dropped + failed

    async def wait_connected(self) -> None:
        """Wait until it is connected; failures that the client gets over by itself are waited out.

        Raises:
            ConnectError: The server refused, or the client has given up.
            Disconnected: One of the two sides has ended it, and nobody asked for it again.
        """
        await trio.lowlevel.checkpoint()
        while not self.connected:
            if not self._state.wanted:
                raise self._state.ended()
            await self._state.wait()

    def connect(self) -> None:
        """Ask to be let in, again after a refusal or a disconnect; nothing happens if it is active."""
        if not self._state.wanted:
            self._state.want()
            self._client.wanted(self)

    def disconnect(self) -> None:
        """Leave the namespace, and not come back; the last one to leave closes the connection."""
        if not self._state.wanted:
            return
        if self._engine is not None and self.connected:
            self._say_goodbye(self._engine)
        self._end(ClientReason.CLIENT_DISCONNECT)
        self._client.unwanted()

    # Sending

    @property
    def volatile(self) -> Emitter:
        """The verbs for events that may be dropped: if it is not connected, or the last one is being sent."""
        return Emitter(self, True)

    def timeout(self, seconds: float) -> Emitter:
        """Return the verbs with a timeout for `call`, in seconds."""
        return Emitter(self, False, seconds)

    def emit(self, event: str, *args: Any) -> Verdict:
        """Send an event; never blocks. Before it is connected the event is kept, see `offline_limit`.

        Raises:
            BufferFull: As much waits as may, and the policy is to raise.
            TypeError: An argument has no form in JSON, or what `parser` says.
            ValueError: The name is reserved.
        """
        return self.emit_event(event, args)

    def emit_event(self, event: str, args: Sequence[Any], volatile: bool = False) -> Verdict:
        """Send an event with its arguments as a sequence."""
        message = self._encode(event, args)
        if self._retries is not None and not volatile:
            return self._retries.put(message)
        return self._offer(Pending(message, is_event=True), volatile)

    def send(self, *args: Any) -> Verdict:
        """Send the event `message`."""
        return self.emit_event("message", args)

    async def send_event(self, event: str, *args: Any) -> Verdict:
        """Send an event once there is room: a fast sender then goes at the pace of the connection."""
        message = self._encode(event, args)
        await trio.lowlevel.checkpoint()
        if self._retries is not None:
            await self._retries.wait_room(message.size)
            return self._retries.put(message)
        while True:
            engine = self._carrier
            if engine is None:
                await self._offline.wait_room(message.size)
            else:
                await engine.wait_room(message.size)
            # It may have come or gone meanwhile.
            if engine is self._carrier:
                return self._offer(Pending(message, is_event=True), False)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and wait for its ack: nothing is None, one value itself, several a tuple.

        Cancelled, it takes the event back if it has not been sent.

        Args:
            event: The name.
            args: The arguments.
            timeout: Seconds, from now; None takes the client's `ack_timeout`. With `retries`, that one
                bounds each try, and this the whole.

        Raises:
            AckTimeout: No ack in time.
            Disconnected: The connection ended first, or there will be none.
            BufferFull: As much waits as may.
            TypeError: An argument has no form in JSON, or what `parser` says.
            ValueError: The name is reserved.
        """
        return await self.call_event(event, args, timeout=timeout)

    async def call_event(
        self, event: str, args: Sequence[Any], *, timeout: float | None = None, volatile: bool = False
    ) -> Any:
        """Send an event with its arguments as a sequence, and wait for its ack."""
        if not self._state.wanted:
            await trio.lowlevel.checkpoint()
            raise self._state.disconnected()
        message = self._encode(event, args)
        if self._retries is not None and not volatile:
            return single_value(await self._retries.call(message, timeout))
        seconds = self._client.options.call_timeout if timeout is None else timeout
        return single_value(await self._request(message, seconds, volatile))

    async def flush(self) -> None:
        """Wait until every event has been handed to the transport or, with `retries`, acknowledged.

        Raises:
            ConnectError: Some wait for a server that refused, or that the client has given up.
            Disconnected: Some wait, and one of the two sides has ended the socket.
        """
        await trio.lowlevel.checkpoint()
        while self._retries is not None and len(self._retries):
            if not self._state.wanted:
                raise self._state.ended()
            await self._retries.wait_idle()
        while self._offline:
            await self.wait_connected()
        if self._engine is not None:
            await self._engine.flush()

    def _encode(self, event: str, args: Sequence[Any]) -> EncodedMessage:
        if event in RESERVED_EVENTS:
            raise ValueError(f"{event!r} is a reserved event name")
        return self._codec.event(self.name, event, args)

    def _release(self, reason: ClientReason) -> None:
        if self._retries is not None:
            self._retries.release(reason)
        super()._release(reason)

    async def _room_on_a_connection(self, size: int) -> None:
        """Wait until a message of this size may be sent, however long, and whatever ends meanwhile."""
        while (engine := self._carrier) is None or not engine.has_room(size):
            if engine is None:
                await self._state.wait()
            else:
                await engine.wait_room(size)

    async def _request(
        self, message: EncodedMessage, timeout: float, volatile: bool = False
    ) -> Sequence[Any]:
        ack_id = self._next_ack
        self._next_ack += 1
        reply = Reply()
        # Encoded once: what is sent again is what was sent, whatever has become of the arguments.
        asking = self._codec.with_ack_id(message, self.name, ack_id)
        pending = Pending(asking, ack_id, reply, is_event=True)
        try:
            if self._offer(pending, volatile) is Verdict.DROPPED and not volatile:
                raise BufferFull("there is no room for another event")
            return await reply.wait(timeout)
        finally:
            self._acks.forget(ack_id)
            if not self._offline.discard(pending) and self._engine is not None:
                self._engine.discard(pending)

    # Tasks, for the client

    async def run(self) -> None:
        """Call handlers, and send what is to be retried, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.dispatch)
            if self._retries is not None:
                nursery.start_soon(self._retries.run)
