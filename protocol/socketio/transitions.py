"""The state table of one namespace of one session, as data."""

from __future__ import annotations

from enum import Enum

from protocol.reasons import Violation

from .packet import PacketType


class NamespaceState(Enum):
    """Where a client is with one namespace. Spec: SIO-STATE-1."""

    ABSENT = "absent"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LEFT = "left"  # the server disconnected it; what the client had sent before it knew is dropped


class NamespaceAction(Enum):
    """What a packet leads to."""

    CONNECT = "connect"
    DELIVER_EVENT = "deliver event"
    DELIVER_ACK = "deliver ack"
    LEAVE = "leave"
    IGNORE = "ignore"


# A packet that fits no state ends the session.
# A DISCONNECT while the middleware still runs withdraws the CONNECT.
NAMESPACE: dict[tuple[NamespaceState, PacketType], NamespaceAction | Violation] = {
    (NamespaceState.ABSENT, PacketType.CONNECT): NamespaceAction.CONNECT,
    (NamespaceState.ABSENT, PacketType.DISCONNECT): Violation.NOT_CONNECTED,
    (NamespaceState.ABSENT, PacketType.EVENT): Violation.NOT_CONNECTED,
    (NamespaceState.ABSENT, PacketType.ACK): Violation.NOT_CONNECTED,
    (NamespaceState.ABSENT, PacketType.CONNECT_ERROR): Violation.CLIENT_CONNECT_ERROR,
    (NamespaceState.CONNECTING, PacketType.CONNECT): Violation.ALREADY_CONNECTED,
    (NamespaceState.CONNECTING, PacketType.DISCONNECT): NamespaceAction.LEAVE,
    (NamespaceState.CONNECTING, PacketType.EVENT): Violation.NOT_CONNECTED,
    (NamespaceState.CONNECTING, PacketType.ACK): Violation.NOT_CONNECTED,
    (NamespaceState.CONNECTING, PacketType.CONNECT_ERROR): Violation.CLIENT_CONNECT_ERROR,
    (NamespaceState.CONNECTED, PacketType.CONNECT): Violation.ALREADY_CONNECTED,
    (NamespaceState.CONNECTED, PacketType.DISCONNECT): NamespaceAction.LEAVE,
    (NamespaceState.CONNECTED, PacketType.EVENT): NamespaceAction.DELIVER_EVENT,
    (NamespaceState.CONNECTED, PacketType.ACK): NamespaceAction.DELIVER_ACK,
    (NamespaceState.CONNECTED, PacketType.CONNECT_ERROR): Violation.CLIENT_CONNECT_ERROR,
    (NamespaceState.LEFT, PacketType.CONNECT): NamespaceAction.CONNECT,
    (NamespaceState.LEFT, PacketType.DISCONNECT): NamespaceAction.IGNORE,
    (NamespaceState.LEFT, PacketType.EVENT): NamespaceAction.IGNORE,
    (NamespaceState.LEFT, PacketType.ACK): NamespaceAction.IGNORE,
    (NamespaceState.LEFT, PacketType.CONNECT_ERROR): Violation.CLIENT_CONNECT_ERROR,
}
