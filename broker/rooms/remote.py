"""A socket as `fetch_sockets` shows it: a snapshot, and verbs that reach it wherever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from broker.flow.errors import AckTimeout, Disconnected
from broker.flow.request import Handshake
from protocol import DisconnectReason

from .identity import USER_ROOM

if TYPE_CHECKING:
    from .broadcast import Broadcast
    from .fanout import EmitResult
    from .namespace import Namespace


@frozen(kw_only=True)
class RemoteSocket:
    """A socket of this namespace, of this process or another.

    Attributes:
        id: Its id.
        namespace: Where it is.
        handshake: What its first request and its CONNECT said.
        rooms: The rooms it was in when it was fetched.
        data: What the application keeps with it.
    """

    id: str
    namespace: Namespace = field(repr=False)
    handshake: Handshake = field(repr=False)
    rooms: frozenset[str]
    data: dict[str, Any]

    @property
    def identity(self) -> str | None:
        """The user whose socket it is; None if nobody has said."""
        rooms = (room for room in self.rooms if room.startswith(USER_ROOM))
        return next((room.removeprefix(USER_ROOM) for room in rooms), None)

    def _only(self) -> Broadcast:
        return self.namespace.to(self.id)

    def emit(self, event: str, *args: Any) -> EmitResult:
        """Send it an event; see `Broadcast.emit`."""
        return self._only().emit(event, *args)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send it an event and wait for its ack.

        Raises:
            AckTimeout: No ack in time.
            Disconnected: It has left.
        """
        acks = await self._only().call(event, *args, timeout=timeout)
        if acks.responses:
            return acks.responses[0][1]
        if acks.missing:
            raise AckTimeout(self.namespace.engine.limits.ack_timeout if timeout is None else timeout)
        raise Disconnected(DisconnectReason.TRANSPORT_CLOSE)

    async def join(self, *rooms: str) -> None:
        """Put it into rooms."""
        await self._only().sockets_join(*rooms)

    async def leave(self, *rooms: str) -> None:
        """Take it out of rooms."""
        await self._only().sockets_leave(*rooms)

    async def disconnect(self, close: bool = False) -> None:
        """Make it leave the namespace, or close its session."""
        await self._only().disconnect_sockets(close)
