"""The messages of the classic adapter and of the emitters: broadcasts, requests and responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from .cluster import EVENT, read_packet, read_sockets
from .options import EVERYONE, BroadcastOptions, read_event, read_options, read_rooms
from .values import dump, pack, read_any

EMITTER: Final = "emitter"
"""The sender of what comes from a process that is no node."""


@dataclass(frozen=True, slots=True)
class ClassicBroadcast:
    """An event for sockets of other nodes.

    Attributes:
        uid: Who sends it: a node, or `EMITTER`.
        namespace: Name of the namespace.
        event: Name and arguments.
        options: Whom it is for.
    """

    uid: str
    namespace: str
    event: Sequence[Any]
    options: BroadcastOptions = EVERYONE


def write_broadcast(broadcast: ClassicBroadcast) -> bytes:
    """Write a broadcast.

    Raises:
        TypeError: An argument has no form.
    """
    options = broadcast.options.to_wire()
    if broadcast.uid == EMITTER:
        options = {name: options[name] for name in ("rooms", "flags", "except")}
    return pack([broadcast.uid, _packet(broadcast.namespace, broadcast.event), options])


def read_broadcast(data: bytes, depth: int) -> ClassicBroadcast | None:
    """Read a broadcast; None if it is none. Without a namespace it is one for `/`."""
    try:
        parts = read_any(data, depth)
    except ValueError:
        return None
    if not isinstance(parts, list) or len(parts) != 3 or type(parts[0]) is not str:
        return None
    event, options = read_packet(parts[1]), read_options(parts[2])
    namespace = "" if event is None else parts[1].get("nsp", "/")
    if event is None or options is None or type(namespace) is not str:
        return None
    return ClassicBroadcast(parts[0], namespace, event, options)


def _packet(namespace: str, event: Sequence[Any]) -> dict[str, Any]:
    return {"type": EVENT, "data": list(event), "nsp": namespace}


class RequestType(IntEnum):
    """What a request, or a response that says so, is about."""

    SOCKETS = 0
    ALL_ROOMS = 1
    REMOTE_JOIN = 2
    REMOTE_LEAVE = 3
    REMOTE_DISCONNECT = 4
    REMOTE_FETCH = 5
    SERVER_SIDE_EMIT = 6
    BROADCAST = 7
    BROADCAST_CLIENT_COUNT = 8
    BROADCAST_ACK = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicRequest:
    """A request to all nodes. Which fields mean something depends on its type.

    Attributes:
        type: What it is about.
        uid: Who asks; emitters leave it out of most.
        request_id: Names it; set where an answer is wanted.
        namespace: For `BROADCAST`, the namespace.
        event: Name and arguments.
        options: Whom it is for; None in the form of old nodes, which name one socket.
        sid: That socket.
        rooms: Rooms to join, to leave, or to look in.
        close: Whether to close sessions as well.
    """

    type: RequestType
    uid: str | None = None
    request_id: str | None = None
    namespace: str = "/"
    event: Sequence[Any] = ()
    options: BroadcastOptions | None = None
    sid: str | None = None
    rooms: tuple[str, ...] = ()
    close: bool = False


def _choice(request: ClassicRequest) -> dict[str, Any]:
    options = request.options or EVERYONE
    return {"rooms": list(options.rooms), "except": list(options.except_rooms)}


def write_request(request: ClassicRequest) -> bytes:
    """Write a request.

    Raises:
        TypeError: An argument has no form.
    """
    parts: dict[str, Any] = {}
    if request.uid is not None:
        parts["uid"] = request.uid
    if request.request_id is not None:
        parts["requestId"] = request.request_id
    parts["type"] = int(request.type)
    if request.type is RequestType.BROADCAST:
        parts["packet"] = _packet(request.namespace, request.event)
        parts["opts"] = (request.options or EVERYONE).to_wire()
        return pack(parts)
    if request.type is RequestType.SERVER_SIDE_EMIT:
        parts["data"] = list(request.event)
    elif request.type in (RequestType.REMOTE_JOIN, RequestType.REMOTE_LEAVE):
        parts |= {"opts": _choice(request), "rooms": list(request.rooms)}
    elif request.type is RequestType.REMOTE_DISCONNECT:
        parts |= {"opts": _choice(request), "close": request.close}
    elif request.type is RequestType.REMOTE_FETCH:
        parts["opts"] = _choice(request)
    return dump(parts)


def read_request(data: bytes, depth: int) -> ClassicRequest | None:
    """Read a request; None if it is none."""
    try:
        parts = read_any(data, depth)
    except ValueError:
        return None
    if not isinstance(parts, dict):
        return None
    number, uid, request_id = parts.get("type"), parts.get("uid"), parts.get("requestId")
    if type(number) is not int or number not in _READERS:
        return None
    if not _is_text_or_none(uid) or not _is_text_or_none(request_id):
        return None
    kind = RequestType(number)
    if request_id is None and kind in _ALWAYS_ANSWERED:
        return None
    fields = _READERS[kind](parts)
    if fields is None:
        return None
    return ClassicRequest(type=kind, uid=uid, request_id=request_id, **fields)


def _is_text_or_none(value: Any) -> bool:
    return value is None or type(value) is str


_Fields = dict[str, Any] | None
_ALWAYS_ANSWERED: Final = frozenset(
    (RequestType.SOCKETS, RequestType.ALL_ROOMS, RequestType.REMOTE_FETCH, RequestType.BROADCAST)
)


def _read_rooms(parts: dict[str, Any]) -> _Fields:
    rooms = read_rooms(parts.get("rooms", []))
    return None if rooms is None else {"rooms": rooms}


def _read_nothing(parts: dict[str, Any]) -> _Fields:
    return {}


def _read_change(parts: dict[str, Any]) -> _Fields:
    options = read_options(parts.get("opts"))
    if options is None:
        sid, rooms = parts.get("sid"), read_rooms([parts.get("room")])
        return None if type(sid) is not str or rooms is None else {"sid": sid, "rooms": rooms}
    rooms = read_rooms(parts.get("rooms"))
    return None if rooms is None else {"options": options, "rooms": rooms}


def _read_disconnect(parts: dict[str, Any]) -> _Fields:
    options, sid, close = read_options(parts.get("opts")), parts.get("sid"), parts.get("close") is True
    if options is None:
        return {"sid": sid, "close": close} if type(sid) is str else None
    return {"options": options, "close": close}


def _read_fetch(parts: dict[str, Any]) -> _Fields:
    options = read_options(parts.get("opts"))
    return None if options is None else {"options": options}


def _read_server_event(parts: dict[str, Any]) -> _Fields:
    event = read_event(parts.get("data"))
    return None if event is None else {"event": event}


def _read_asking(parts: dict[str, Any]) -> _Fields:
    packet, options = parts.get("packet"), read_options(parts.get("opts"))
    event = read_packet(packet)
    if event is None or options is None:
        return None
    namespace = packet.get("nsp", "/") if isinstance(packet, dict) else "/"
    return {"event": event, "options": options, "namespace": namespace}


_READERS: Final[Mapping[int, Callable[[dict[str, Any]], _Fields]]] = {
    RequestType.SOCKETS: _read_rooms,
    RequestType.ALL_ROOMS: _read_nothing,
    RequestType.REMOTE_JOIN: _read_change,
    RequestType.REMOTE_LEAVE: _read_change,
    RequestType.REMOTE_DISCONNECT: _read_disconnect,
    RequestType.REMOTE_FETCH: _read_fetch,
    RequestType.SERVER_SIDE_EMIT: _read_server_event,
    RequestType.BROADCAST: _read_asking,
}


# Responses


def write_response(request_id: str, **fields: Any) -> bytes:
    """Write a response of one of the forms without a type: `sockets`, `rooms`, or neither.

    Raises:
        TypeError: Something in it has no form.
    """
    return dump({"requestId": request_id, **fields})


def write_server_answer(request_id: str, answer: Any) -> bytes:
    """Write what a node answers to an event; an answer of None has no key.

    Raises:
        TypeError: The answer has no form.
    """
    parts = {"type": int(RequestType.SERVER_SIDE_EMIT), "requestId": request_id}
    return dump(parts if answer is None else {**parts, "data": answer})


def write_client_count(request_id: str, count: int) -> bytes:
    """Write how many clients were asked."""
    kind = int(RequestType.BROADCAST_CLIENT_COUNT)
    return dump({"type": kind, "requestId": request_id, "clientCount": count})


def write_ack(request_id: str, answer: Any) -> bytes:
    """Write what a client answered.

    Raises:
        TypeError: The answer has no form.
    """
    return pack({"type": int(RequestType.BROADCAST_ACK), "requestId": request_id, "packet": answer})


@dataclass(frozen=True, slots=True)
class ClassicResponse:
    """A response. Which fields mean something depends on what was asked.

    Attributes:
        request_id: The request.
        type: What it says that it is; most responses do not.
        sockets: What a node tells of its sockets.
        rooms: Rooms of a node.
        count: How many clients were asked.
        answer: What a node or a client answered.
    """

    request_id: str
    type: RequestType | None = None
    sockets: Sequence[dict[str, Any]] | None = None
    rooms: Sequence[str] | None = None
    count: int = 0
    answer: Any = field(default=None)


_RESPONSE_TYPES: Final = {
    int(kind): kind
    for kind in (
        RequestType.SERVER_SIDE_EMIT,
        RequestType.BROADCAST_CLIENT_COUNT,
        RequestType.BROADCAST_ACK,
    )
}


def read_response(data: bytes, depth: int) -> ClassicResponse | None:
    """Read a response; None if it is none."""
    try:
        parts = read_any(data, depth)
    except ValueError:
        return None
    if not isinstance(parts, dict) or type(parts.get("requestId")) is not str:
        return None
    request_id, number = parts["requestId"], parts.get("type")
    if number is None:
        return ClassicResponse(
            request_id, None, read_sockets(parts.get("sockets")), read_rooms(parts.get("rooms"))
        )
    kind = _RESPONSE_TYPES.get(number) if type(number) is int else None
    if kind is RequestType.SERVER_SIDE_EMIT:
        return ClassicResponse(request_id, kind, answer=parts.get("data"))
    if kind is RequestType.BROADCAST_ACK:
        return ClassicResponse(request_id, kind, answer=parts.get("packet"))
    count = parts.get("clientCount")
    if kind is None or type(count) is not int or count < 0:
        return None
    return ClassicResponse(request_id, kind, count=count)
