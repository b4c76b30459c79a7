"""One namespace over the channels of the classic adapter, `@socket.io/redis-adapter` 7 and 8."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import trio

from broker.adapters.asking import NAMES_TIMEOUT, AskingLink, Kinds
from broker.adapters.base import BusHost, LocalNamespace
from broker.adapters.errors import BusError
from broker.adapters.requests import UNKNOWN_NODE, Request, Requests
from protocol.bus import classic
from protocol.bus.channels import ClassicChannels
from protocol.bus.classic import ClassicBroadcast, ClassicRequest, ClassicResponse, RequestType
from protocol.bus.options import BroadcastOptions

from .client import RedisClient
from .routes import RoomChannels, Routes

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_GLOB: Final = re.compile(r"[*?\[\]\\]")


def new_uid() -> str:
    """Return a new id for a node or a request, in the form of the reference."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(6))


def glob_escaped(text: str) -> str:
    """Return text that means itself in a pattern of channels."""
    return _GLOB.sub(lambda found: "\\" + found[0], text)


class ClassicLink(AskingLink[RequestType]):
    """Connects one namespace; a `broker.adapters.base.Link`."""

    kinds = Kinds(
        broadcast=RequestType.BROADCAST,
        join=RequestType.REMOTE_JOIN,
        leave=RequestType.REMOTE_LEAVE,
        disconnect=RequestType.REMOTE_DISCONNECT,
        fetch=RequestType.REMOTE_FETCH,
        server_event=RequestType.SERVER_SIDE_EMIT,
    )

    def __init__(
        self,
        uid: str,
        local: LocalNamespace,
        host: BusHost,
        client: RedisClient,
        routes: Routes,
        *,
        key: str,
        request_timeout: float,
        own_responses: bool,
    ) -> None:
        super().__init__(Requests(host.limits.bus_requests, new_uid), request_timeout)
        self.uid = uid
        self._local = local
        self._host = host
        self._client = client
        self._routes = routes
        self._own_responses = own_responses
        self._channels = ClassicChannels(key, local.name, uid)
        self._depth = host.depth
        self._rooms = RoomChannels(routes, self._channels.room, local.has, self._on_broadcast)
        routes.add(self._channels.request, self._on_request)
        routes.add(self._channels.response, self._on_response)
        routes.add(self._channels.own_response, self._on_response)

    # What the namespace asks for

    def broadcast(self, event: Sequence[Any], options: BroadcastOptions) -> bool:
        """Send an event to sockets of the other nodes."""
        message = ClassicBroadcast(self.uid, self._local.name, event, options)
        channel = self._channels.broadcast(options.rooms)
        return self._client.send("PUBLISH", channel, classic.write_broadcast(message))

    def _publish(self, kind: RequestType, **fields: Any) -> bool:
        request = ClassicRequest(type=kind, uid=self.uid, namespace=self._local.name, **fields)
        return self._client.send("PUBLISH", self._channels.request, classic.write_request(request))

    async def _peers(self) -> int:
        reply = await self._client.ask("PUBSUB", "NUMSUB", self._channels.request)
        return int(reply[1]) - 1

    async def _silent(self, request: Request) -> tuple[str, ...]:
        """Name who has not answered. Answers say not whose they are: it is known only if there is none."""
        silent = request.silent()
        self._host.events["silent node"] += len(silent)
        if not silent or request.has_answers:
            return silent
        prefix = self._channels.response
        names: list[str] = []
        with trio.move_on_after(NAMES_TIMEOUT):
            try:
                found = await self._client.ask("PUBSUB", "CHANNELS", glob_escaped(prefix) + "?*#")
                names = [one.decode()[len(prefix) : -1] for one in found]
            except BusError:
                pass
        return request.silent(name for name in names if name != self.uid)

    def room_created(self, room: str) -> None:
        """Hear a room; and what is for everybody, now that somebody is here."""
        if not self._rooms.rooms:
            self._routes.add(self._channels.everyone, self._on_broadcast)
        self._rooms.created(room)

    def room_deleted(self, room: str) -> None:
        """Hear a room no longer."""
        self._rooms.deleted(room)
        if not self._rooms.rooms:
            self._routes.remove(self._channels.everyone, self._on_broadcast)

    def close(self) -> None:
        """Take note that the namespace is no more."""
        names = self._channels
        self._rooms.close()
        self._routes.remove(names.everyone, self._on_broadcast)
        self._routes.remove(names.request, self._on_request)
        for channel in (names.response, names.own_response):
            self._routes.remove(channel, self._on_response)

    # What comes from the other nodes

    def _on_broadcast(self, data: bytes) -> None:
        message = classic.read_broadcast(data, self._depth)
        if message is None:
            self._host.events["malformed bus message"] += 1
        elif message.uid != self.uid and message.namespace == self._local.name:
            self._local.deliver(message.event, message.options)

    def _on_request(self, data: bytes) -> None:
        request = classic.read_request(data, self._depth)
        if request is None:
            self._host.events["malformed bus message"] += 1
        elif request.uid != self.uid:
            _HANDLERS[request.type](self, request)

    def _reply(self, request: ClassicRequest, body: bytes) -> None:
        own = self._own_responses and request.uid is not None
        channel = self._channels.response
        if own and request.type is not RequestType.SERVER_SIDE_EMIT:
            channel = f"{channel}{request.uid}#"
        self._client.send("PUBLISH", channel, body)

    def _on_sids(self, request: ClassicRequest) -> None:
        found = self._local.describe(BroadcastOptions(request.rooms))
        assert request.request_id is not None
        self._reply(request, classic.write_response(request.request_id, sockets=[one["id"] for one in found]))

    def _on_all_rooms(self, request: ClassicRequest) -> None:
        assert request.request_id is not None
        self._reply(request, classic.write_response(request.request_id, rooms=self._local.all_rooms()))

    def _on_join(self, request: ClassicRequest) -> None:
        self._change(request, lambda options: self._local.sockets_join(options, request.rooms))

    def _on_leave(self, request: ClassicRequest) -> None:
        self._change(request, lambda options: self._local.sockets_leave(options, request.rooms))

    def _on_disconnect(self, request: ClassicRequest) -> None:
        self._change(request, lambda options: self._local.disconnect_sockets(options, request.close))

    def _change(self, request: ClassicRequest, act: Callable[[BroadcastOptions], None]) -> None:
        if request.options is not None:
            act(request.options)
        elif request.sid is not None and self._local.has(request.sid):
            act(BroadcastOptions((request.sid,)))
            if request.request_id is not None:
                self._reply(request, classic.write_response(request.request_id))

    def _on_fetch(self, request: ClassicRequest) -> None:
        found = self._local.describe(request.options or BroadcastOptions())
        assert request.request_id is not None
        try:
            body = classic.write_response(request.request_id, sockets=found)
        except TypeError:
            # What an application keeps in `socket.data` may have no form on the bus: then without it.
            self._host.events["unsendable data"] += 1
            bare = [{**one, "data": {}} for one in found]
            body = classic.write_response(request.request_id, sockets=bare)
        self._reply(request, body)

    def _on_server_event(self, request: ClassicRequest) -> None:
        answer = None
        if request.request_id is not None:
            answer = partial(self._answer, request, classic.write_server_answer)
        self._local.server_event(request.event, answer)

    def _on_asking(self, request: ClassicRequest) -> None:
        options, limits = request.options or BroadcastOptions(), self._host.limits
        assert request.request_id is not None
        count = 0
        if request.namespace == self._local.name:
            timeout = options.timeout(limits.ack_timeout, limits.bus_ack_timeout)
            answered = partial(self._answer, request, classic.write_ack)
            count = self._local.ask(request.event, options, timeout, answered)
        self._reply(request, classic.write_client_count(request.request_id, count))

    def _answer(self, request: ClassicRequest, write: Callable[[str, Any], bytes], value: Any) -> None:
        assert request.request_id is not None
        try:
            body = write(request.request_id, value)
        except TypeError:
            self._host.events["unsendable data"] += 1
            body = write(request.request_id, None)
        self._reply(request, body)

    def _on_response(self, data: bytes) -> None:
        response = classic.read_response(data, self._depth)
        if response is None:
            self._host.events["malformed bus message"] += 1
            return
        request = self._requests.get(response.request_id)
        if request is not None:  # else another node has asked: all hear all answers
            _take(request, response)


def _take(request: Request, response: ClassicResponse) -> None:
    kind = response.type
    if kind is RequestType.BROADCAST_ACK:
        request.client_answered(response.answer)
    elif kind is RequestType.BROADCAST_CLIENT_COUNT:
        request.node_answered(UNKNOWN_NODE, clients=response.count)
    elif kind is RequestType.SERVER_SIDE_EMIT:
        request.node_answered(UNKNOWN_NODE, (response.answer,))
    elif response.sockets is not None:
        request.node_answered(UNKNOWN_NODE, response.sockets)


_HANDLERS: Final[dict[RequestType, Callable[[ClassicLink, ClassicRequest], None]]] = {
    RequestType.SOCKETS: ClassicLink._on_sids,
    RequestType.ALL_ROOMS: ClassicLink._on_all_rooms,
    RequestType.REMOTE_JOIN: ClassicLink._on_join,
    RequestType.REMOTE_LEAVE: ClassicLink._on_leave,
    RequestType.REMOTE_DISCONNECT: ClassicLink._on_disconnect,
    RequestType.REMOTE_FETCH: ClassicLink._on_fetch,
    RequestType.SERVER_SIDE_EMIT: ClassicLink._on_server_event,
    RequestType.BROADCAST: ClassicLink._on_asking,
}
