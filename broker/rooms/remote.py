"""A socket as `fetch_sockets` shows it: a snapshot, and verbs that reach it wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
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
    from .socket import Socket


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
        if acks.missing or acks.silent:
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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIME = "%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)"  # as JavaScript writes it


def describe(socket: Socket) -> dict[str, Any]:
    """Tell of a socket in the form that travels between nodes."""
    handshake = socket.handshake
    return {
        "id": socket.id,
        "handshake": {
            "headers": dict(handshake.headers),
            "time": handshake.time.strftime(_TIME),
            "address": handshake.address,
            "xdomain": handshake.xdomain,
            "secure": handshake.secure,
            "issued": (handshake.time - _EPOCH) // _MILLISECOND,
            "url": handshake.url,
            "query": dict(handshake.query),
            "auth": dict(handshake.auth),
        },
        "rooms": [socket.id, *(room for room in socket.rooms if room != socket.id)],
        "data": socket.data,
    }


def remote_socket(namespace: Namespace, told: Mapping[str, Any]) -> RemoteSocket:
    """Build the view of a socket that another node told of; what makes no sense in it is left out."""
    data = told.get("data")
    return RemoteSocket(
        id=told["id"],
        namespace=namespace,
        handshake=_handshake(told.get("handshake") or {}),
        rooms=frozenset(map(str, told["rooms"])),
        data=data if isinstance(data, dict) else {},
    )


def _handshake(told: Mapping[str, Any]) -> Handshake:
    auth, issued = told.get("auth"), told.get("issued")
    try:
        time = _EPOCH + (issued if type(issued) is int else 0) * _MILLISECOND
    except OverflowError:
        time = _EPOCH
    return Handshake(
        headers=_texts(told.get("headers"), ", ".join),
        query=_texts(told.get("query"), lambda values: values[-1]),
        auth=auth if isinstance(auth, dict) else {},
        address=str(told.get("address", "")),
        secure=told.get("secure") is True,
        xdomain=told.get("xdomain") is True,
        url=str(told.get("url", "")),
        time=time,
    )


def _texts(told: Any, choose: Callable[[list[str]], str]) -> dict[str, str]:
    """Return names with one text each; Node has lists where a name stands more than once."""
    if not isinstance(told, dict):
        return {}
    return {
        name: choose(list(map(str, value))) if isinstance(value, list) and value else str(value)
        for name, value in told.items()
    }
