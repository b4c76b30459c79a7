"""The message that the sharded and the streams adapter, and a bus of one machine, carry between nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from .options import EVERYONE, BroadcastOptions, read_event, read_options, read_rooms

EVENT = 2  # the packet type of every event on the bus, also of one with bytes in it


class MessageType(IntEnum):
    """What a message is about."""

    INITIAL_HEARTBEAT = 1
    HEARTBEAT = 2
    BROADCAST = 3
    SOCKETS_JOIN = 4
    SOCKETS_LEAVE = 5
    DISCONNECT_SOCKETS = 6
    FETCH_SOCKETS = 7
    FETCH_SOCKETS_RESPONSE = 8
    SERVER_SIDE_EMIT = 9
    SERVER_SIDE_EMIT_RESPONSE = 10
    BROADCAST_CLIENT_COUNT = 11
    BROADCAST_ACK = 12
    ADAPTER_CLOSE = 13


_SILENT: Final = (MessageType.INITIAL_HEARTBEAT, MessageType.HEARTBEAT, MessageType.ADAPTER_CLOSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMessage:
    """One message. Which fields mean something depends on its type.

    Attributes:
        type: What it is about.
        uid: The node that sends it.
        namespace: The namespace it belongs to.
        request_id: Names a request; set where an answer is wanted, and in the answer.
        event: Name and arguments of an event.
        options: Whom it is for.
        rooms: Rooms to join or leave.
        close: Whether to close the sessions of the sockets as well.
        sockets: What a node tells of its sockets: id, handshake, rooms, data.
        count: How many clients were asked.
        answer: What one client, or one node, answered.
    """

    type: MessageType
    uid: str
    namespace: str
    request_id: str | None = None
    event: Sequence[Any] = ()
    options: BroadcastOptions = EVERYONE
    rooms: Sequence[str] = ()
    close: bool = False
    sockets: Sequence[dict[str, Any]] = ()
    count: int = 0
    answer: Any = None

    def data(self) -> dict[str, Any] | None:
        """Return what the message says beyond type and sender, with the keys in the order of the bus."""
        write = _WRITERS.get(self.type)
        return None if write is None else write(self)

    def to_wire(self) -> dict[str, Any]:
        """Return the whole message as a map."""
        data = self.data()
        parts: dict[str, Any] = {"type": int(self.type)}
        if data is not None:
            parts["data"] = data
        return {**parts, "uid": self.uid, "nsp": self.namespace}


def _id(message: ClusterMessage) -> dict[str, Any]:
    return {} if message.request_id is None else {"requestId": message.request_id}


def _write_broadcast(message: ClusterMessage) -> dict[str, Any]:
    packet = {"type": EVENT, "data": list(message.event)}
    return {"packet": packet, **_id(message), "opts": message.options.to_wire()}


def _write_rooms(message: ClusterMessage) -> dict[str, Any]:
    return {"opts": message.options.to_wire(), "rooms": list(message.rooms)}


def _write_disconnect(message: ClusterMessage) -> dict[str, Any]:
    return {"opts": message.options.to_wire(), "close": message.close}


def _write_fetch(message: ClusterMessage) -> dict[str, Any]:
    return {"opts": message.options.to_wire(), **_id(message)}


def _write_sockets(message: ClusterMessage) -> dict[str, Any]:
    return {**_id(message), "sockets": list(message.sockets)}


def _write_server_event(message: ClusterMessage) -> dict[str, Any]:
    return {**_id(message), "packet": list(message.event)}


def _write_count(message: ClusterMessage) -> dict[str, Any]:
    return {**_id(message), "clientCount": message.count}


def _write_answer(message: ClusterMessage) -> dict[str, Any]:
    # An answer without a value has no key, as undefined has none in JavaScript.
    return _id(message) if message.answer is None else {**_id(message), "packet": message.answer}


_WRITERS: Final[Mapping[MessageType, Callable[[ClusterMessage], dict[str, Any]]]] = {
    MessageType.BROADCAST: _write_broadcast,
    MessageType.SOCKETS_JOIN: _write_rooms,
    MessageType.SOCKETS_LEAVE: _write_rooms,
    MessageType.DISCONNECT_SOCKETS: _write_disconnect,
    MessageType.FETCH_SOCKETS: _write_fetch,
    MessageType.FETCH_SOCKETS_RESPONSE: _write_sockets,
    MessageType.SERVER_SIDE_EMIT: _write_server_event,
    MessageType.SERVER_SIDE_EMIT_RESPONSE: _write_answer,
    MessageType.BROADCAST_CLIENT_COUNT: _write_count,
    MessageType.BROADCAST_ACK: _write_answer,
}


# Reading: a field that is not what its type needs makes the whole message None


def read_message(value: Any) -> ClusterMessage | None:
    """Read a message from the map it travelled as; None if it is none."""
    if not isinstance(value, dict):
        return None
    return read_parts(value.get("type"), value.get("uid"), value.get("nsp"), value.get("data"))


def read_parts(number: Any, uid: Any, namespace: Any, data: Any) -> ClusterMessage | None:
    """Read a message from its parts; None if it is none."""
    if type(number) is not int or number not in _KNOWN or type(uid) is not str or type(namespace) is not str:
        return None
    kind = MessageType(number)
    if kind in _SILENT:
        return ClusterMessage(type=kind, uid=uid, namespace=namespace)
    if not isinstance(data, dict):
        return None
    request_id = data.get("requestId")
    if type(request_id) is not str and (request_id is not None or kind in _NEED_ID):
        return None
    fields = _READERS[kind](data)
    if fields is None:
        return None
    return ClusterMessage(type=kind, uid=uid, namespace=namespace, request_id=request_id, **fields)


_KNOWN: Final = frozenset(map(int, MessageType))
_NEED_ID: Final = frozenset(
    (
        MessageType.FETCH_SOCKETS,
        MessageType.FETCH_SOCKETS_RESPONSE,
        MessageType.SERVER_SIDE_EMIT_RESPONSE,
        MessageType.BROADCAST_CLIENT_COUNT,
        MessageType.BROADCAST_ACK,
    )
)
_Fields = dict[str, Any] | None


def read_packet(value: Any) -> list[Any] | None:
    """Read the event in a packet; None if it is none."""
    if not isinstance(value, dict) or value.get("type") != EVENT:
        return None
    return read_event(value.get("data"))


def _read_broadcast(data: dict[str, Any]) -> _Fields:
    event, options = read_packet(data.get("packet")), read_options(data.get("opts"))
    return None if event is None or options is None else {"event": event, "options": options}


def _read_rooms(data: dict[str, Any]) -> _Fields:
    options, rooms = read_options(data.get("opts")), read_rooms(data.get("rooms"))
    return None if options is None or rooms is None else {"options": options, "rooms": rooms}


def _read_disconnect(data: dict[str, Any]) -> _Fields:
    options = read_options(data.get("opts"))
    return None if options is None else {"options": options, "close": data.get("close") is True}


def _read_fetch(data: dict[str, Any]) -> _Fields:
    options = read_options(data.get("opts"))
    return None if options is None else {"options": options}


def _read_sockets(data: dict[str, Any]) -> _Fields:
    sockets = read_sockets(data.get("sockets"))
    return None if sockets is None else {"sockets": sockets}


def _read_server_event(data: dict[str, Any]) -> _Fields:
    event = read_event(data.get("packet"))
    return None if event is None else {"event": event}


def _read_count(data: dict[str, Any]) -> _Fields:
    count = data.get("clientCount")
    return None if type(count) is not int or count < 0 else {"count": count}


def _read_answer(data: dict[str, Any]) -> _Fields:
    return {"answer": data.get("packet")}


_READERS: Final[Mapping[MessageType, Callable[[dict[str, Any]], _Fields]]] = {
    MessageType.BROADCAST: _read_broadcast,
    MessageType.SOCKETS_JOIN: _read_rooms,
    MessageType.SOCKETS_LEAVE: _read_rooms,
    MessageType.DISCONNECT_SOCKETS: _read_disconnect,
    MessageType.FETCH_SOCKETS: _read_fetch,
    MessageType.FETCH_SOCKETS_RESPONSE: _read_sockets,
    MessageType.SERVER_SIDE_EMIT: _read_server_event,
    MessageType.SERVER_SIDE_EMIT_RESPONSE: _read_answer,
    MessageType.BROADCAST_CLIENT_COUNT: _read_count,
    MessageType.BROADCAST_ACK: _read_answer,
}


def read_sockets(value: Any) -> list[dict[str, Any]] | None:
    """Read what a node tells of its sockets; None if it is no such list."""
    if not isinstance(value, list) or not all(map(_is_socket, value)):
        return None
    return value


def _is_socket(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("id")) is str
        and isinstance(value.get("handshake", {}), dict)
        and read_rooms(value.get("rooms")) is not None
    )
