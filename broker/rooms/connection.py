"""All namespaces of one session: feeds the decoder, follows the state table, routes packets to sockets."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio

from broker.flow.encoded import EncodedMessage
from broker.flow.errors import error_answer
from protocol import DisconnectReason, Violation
from protocol.socketio.decoder import NEED_ATTACHMENTS, NeedAttachments, decode_event
from protocol.socketio.packet import DEFAULT_NAMESPACE, Packet, PacketType
from protocol.socketio.transitions import NAMESPACE, NamespaceAction, NamespaceState

from .directory import Directory
from .namespace import Namespace
from .socket import Socket

if TYPE_CHECKING:
    from broker.sessions.session import Session

    from .lanes import Invocation

logger = logging.getLogger(__name__)

_SLASH = ord("/")
_EVENT_HEAD = b"42"
_INVALID_NAMESPACE = {"message": "Invalid namespace"}


class Connection:
    """What one client has joined.

    Attributes:
        session: The Engine.IO session under it.
        limits: The limits in force.
    """

    __slots__ = (
        "_decoder",
        "_default",
        "_depth",
        "_digits",
        "_directory",
        "_goodbyes",
        "_left",
        "_refusals",
        "_sockets",
        "limits",
        "session",
    )

    def __init__(self, session: Session, directory: Directory) -> None:
        engine = session.engine
        self.session = session
        self.limits = engine.limits
        self._directory = directory
        self._decoder = engine.codec.decoder(engine.limits, engine.settings.max_payload_bytes)
        self._digits = engine.limits.ack_id_digits
        self._depth = engine.limits.json_depth
        self._sockets: dict[str, Socket] = {}
        self._default: Socket | None = None
        self._left: set[str] | None = None
        # By namespace, set once the goodbye to the socket that has left it is said.
        self._goodbyes: dict[str, trio.Event] | None = None
        self._refusals = 0

    # From the session

    def on_text(self, text: bytes) -> Invocation | None:
        """Take a text message with its Engine.IO digit. Spec: SIO-STATE-2."""
        socket = self._default
        if (
            socket is not None
            and text.startswith(_EVENT_HEAD)
            and len(text) > 4
            and text[2] != _SLASH
            and self._decoder.pending is None
        ):
            decoded = decode_event(text, self._digits, self._depth)
            if decoded is not None:
                return socket.on_event(decoded[1], decoded[0])
        return self._take(self._decoder.feed_text(text[1:]))

    def on_binary(self, data: bytes) -> Invocation | None:
        """Take a binary message. Spec: SIO-BIN-4."""
        return self._take(self._decoder.feed_binary(data))

    def _take(self, decoded: Packet | NeedAttachments | Violation) -> Invocation | None:
        if isinstance(decoded, Violation):
            self.session.violate(decoded)
            return None
        if decoded is NEED_ATTACHMENTS:
            self._check_header()
            return None
        if self._decoder.pending is None:
            self.session.engine.assembling.stop(self.session)
        return self._route(decoded)

    def _check_header(self) -> None:
        """Refuse a binary packet for a namespace not joined before its attachments are held."""
        packet = self._decoder.pending
        assert packet is not None
        action = NAMESPACE[self._state(packet.namespace), packet.type]
        if isinstance(action, Violation):
            self._decoder.reset()
            self.session.violate(action)
            return
        self.session.engine.assembling.start(self.session)

    def _state(self, namespace: str) -> NamespaceState:
        socket = self._sockets.get(namespace)
        if socket is not None:
            return NamespaceState.CONNECTED if socket.connected else NamespaceState.CONNECTING
        if self._left is not None and namespace in self._left:
            return NamespaceState.LEFT
        return NamespaceState.ABSENT

    def _route(self, packet: Packet) -> Invocation | None:
        action = NAMESPACE[self._state(packet.namespace), packet.type]
        if isinstance(action, Violation):
            self.session.violate(action)
            return None
        if action is NamespaceAction.CONNECT:
            return self._connect(packet)
        socket = self._sockets.get(packet.namespace)
        if socket is None:
            return None
        if action is NamespaceAction.DELIVER_EVENT:
            return socket.on_event(packet.data, packet.ack_id)
        if action is NamespaceAction.DELIVER_ACK:
            assert packet.ack_id is not None
            if not socket.acks.resolve(packet.ack_id, packet.data):
                self.session.engine.counters.events["unknown ack"] += 1
        elif action is NamespaceAction.LEAVE:
            self._detach(socket, DisconnectReason.CLIENT_NAMESPACE_DISCONNECT)
        return None

    # Joining

    def _connect(self, packet: Packet) -> Invocation | None:
        """Begin to let the client into a namespace. Spec: SIO-CON-1."""
        name = packet.namespace
        if self._left is not None:
            self._left.discard(name)
        if len(self._sockets) >= self.limits.namespaces_per_session:
            self._refuse(name, {"message": "Too many namespaces"})
            return None
        known = self._directory.namespaces.get(name)
        namespace = known or Namespace(name, self.session.engine)
        socket = self._directory.new_socket(self.session.engine.new_id(), namespace, self, packet.data)
        self._sockets[name] = socket
        return socket.drive_join(self._join(socket, known, packet.data))

    async def _join(self, socket: Socket, known: Namespace | None, auth: dict[str, Any] | None) -> None:
        name = socket.namespace.name
        if self._goodbyes is not None and name in self._goodbyes:
            await self._goodbyes[name].wait()
            known = None  # it may have gone with its last socket
        if known is None:
            found = await self._directory.find(name, auth or {})
            if found is None:
                self.refuse(socket, _INVALID_NAMESPACE)
                return
            socket.move_to(found)
        if auth is not None and isinstance(auth.get("pid"), str):
            await self._directory.recover(socket, auth)
        await socket.namespace.join(socket)

    def let_in(self, socket: Socket, first: Iterable[EncodedMessage], answer: dict[str, Any]) -> bool:
        """Answer CONNECT and make the socket a member; False if the client is gone meanwhile.

        Args:
            socket: Who is let in.
            first: What goes out before the answer.
            answer: Goes out then.
        """
        session = self.session
        if session.reason is not None or self._sockets.get(socket.namespace.name) is not socket:
            return False
        session.engine.joining.stop(session)
        self._refusals = 0
        codec = session.engine.codec
        if codec.is_text and socket.namespace.name == DEFAULT_NAMESPACE:
            self._default = socket
        for message in first:
            session.outbox.offer(message)
        session.outbox.offer(codec.control(Packet(PacketType.CONNECT, socket.namespace.name, data=answer)))
        return True

    def refuse(self, socket: Socket, data: dict[str, Any]) -> None:
        """Answer CONNECT_ERROR and forget the socket. Spec: SIO-CON-5."""
        name = socket.namespace.name
        if self._sockets.get(name) is socket:
            del self._sockets[name]
            socket.leave_namespace(DisconnectReason.SERVER_NAMESPACE_DISCONNECT)
            socket.forget_rooms()
            self._refuse(name, data)

    def _refuse(self, name: str, data: dict[str, Any]) -> None:
        engine = self.session.engine
        engine.counters.refusals["connect"] += 1
        packet = Packet(PacketType.CONNECT_ERROR, name, data=data)
        try:
            answer = engine.codec.control(packet)
        except TypeError:
            logger.exception("a refusal cannot be sent as it is")
            answer = engine.codec.control(packet._replace(data={"message": str(data["message"])}))
        self.session.outbox.offer(answer)
        self._refusals += 1
        if self._refusals > self.limits.refused_connects:
            self.session.violate(Violation.TOO_MANY_REFUSALS)

    # Leaving

    def disconnect(self, socket: Socket) -> None:
        """Send the client away from one namespace. Spec: SIO-DIS-2."""
        name = socket.namespace.name
        if self._sockets.get(name) is not socket:
            return
        socket.catch_up()
        self.session.outbox.offer(self.session.engine.codec.control(Packet(PacketType.DISCONNECT, name)))
        # What the client has sent before it knows is not its fault.
        self._left = self._left or set()
        if len(self._left) < self.limits.namespaces_per_session:
            self._left.add(name)
        self._detach(socket, DisconnectReason.SERVER_NAMESPACE_DISCONNECT)

    def disconnect_all(self) -> None:
        """Send the client away from all its namespaces, and close the session."""
        for socket in list(self._sockets.values()):
            self.disconnect(socket)
        self.session.close(DisconnectReason.SERVER_NAMESPACE_DISCONNECT)

    def _detach(self, socket: Socket, reason: DisconnectReason) -> None:
        """Take a socket out at once; what has to wait goes on in the session's nursery."""
        self._forget(socket, reason)
        # While the session itself ends, `finish` does the rest.
        name = socket.namespace.name
        if not self.session.start_soon(self._say_goodbye, socket, reason):
            self._sockets[name] = socket
        elif socket.was_connected:
            # Who comes back is let in after it: handlers hear of the leave before the next connect.
            self._goodbyes = self._goodbyes or {}
            self._goodbyes[name] = trio.Event()

    def _forget(self, socket: Socket, reason: DisconnectReason) -> None:
        name = socket.namespace.name
        self._sockets.pop(name, None)
        if self._default is socket:
            self._default = None
        pending = self._decoder.pending
        if pending is not None and pending.namespace == name and self._left and name not in self._left:
            self._decoder.reset()
        socket.leave_namespace(reason)

    async def _say_goodbye(self, socket: Socket, reason: DisconnectReason) -> None:
        """End a socket: handlers, acks, rooms, disconnect handler, in this order. Spec: SIO-DIS-4."""
        namespace = socket.namespace
        with self.session.engine.ending_window(self.limits.cleanup_timeout):
            await socket.wait_idle()
        socket.fail_acks(reason)
        if socket.was_connected:
            self.session.engine.counters.disconnects[reason] += 1
            await namespace.say_goodbye(socket, "disconnecting", reason)
            socket.forget_rooms()
            await namespace.say_goodbye(socket, "disconnect", reason)
        else:
            socket.forget_rooms()
        socket.end()
        namespace.maybe_remove()
        if self._goodbyes and socket.was_connected:
            said = self._goodbyes.pop(namespace.name, None)
            if said is not None:
                said.set()

    def warn(self, code: str, message: str) -> None:
        """Tell the client, in each namespace, what will end its session if it goes on. Spec: LIM-9."""
        for socket in self._sockets.values():
            socket.warn(error_answer(code, message))

    def cancel_all(self) -> None:
        """Cancel every handler and task: the session is ending."""
        for socket in self._sockets.values():
            socket.catch_up()
            socket.cancel_all()

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs and no ack is owed, either way."""
        return all(socket.is_idle for socket in self._sockets.values())

    async def finish(self, reason: DisconnectReason) -> None:
        """End all sockets: the session is over and none of its handlers runs any more."""
        sockets = list(self._sockets.values())
        for socket in sockets:
            if socket.leaving is None:
                self._forget(socket, reason)
        for socket in sockets:
            await self._say_goodbye(socket, socket.leaving or reason)
        self._sockets.clear()
