"""The Engine.IO state tables, as data: the session, the packets it takes, and the upgrade."""

from __future__ import annotations

from enum import Enum

from .packet import PacketType


class SessionState(Enum):
    """Where a session is in its life. Spec: EIO-STATE-1."""

    OPEN = "open"
    UPGRADING = "upgrading"
    CLOSING = "closing"
    CLOSED = "closed"


class SessionInput(Enum):
    """What moves a session from one state to another."""

    PROBE = "probe"
    UPGRADE = "upgrade"
    PROBE_FAILED = "probe failed"
    CLOSE = "close"
    ENDED = "ended"


SESSION: dict[tuple[SessionState, SessionInput], SessionState] = {
    (SessionState.OPEN, SessionInput.PROBE): SessionState.UPGRADING,
    (SessionState.OPEN, SessionInput.CLOSE): SessionState.CLOSING,
    (SessionState.OPEN, SessionInput.ENDED): SessionState.CLOSED,
    (SessionState.UPGRADING, SessionInput.UPGRADE): SessionState.OPEN,
    (SessionState.UPGRADING, SessionInput.PROBE_FAILED): SessionState.OPEN,
    (SessionState.UPGRADING, SessionInput.CLOSE): SessionState.CLOSING,
    (SessionState.UPGRADING, SessionInput.ENDED): SessionState.CLOSED,
    (SessionState.CLOSING, SessionInput.PROBE_FAILED): SessionState.CLOSING,
    (SessionState.CLOSING, SessionInput.CLOSE): SessionState.CLOSING,
    (SessionState.CLOSING, SessionInput.ENDED): SessionState.CLOSED,
    (SessionState.CLOSED, SessionInput.PROBE_FAILED): SessionState.CLOSED,
    (SessionState.CLOSED, SessionInput.CLOSE): SessionState.CLOSED,
    (SessionState.CLOSED, SessionInput.ENDED): SessionState.CLOSED,
}


class PacketAction(Enum):
    """What a session does with a packet of its client. Spec: EIO-STATE-2."""

    DELIVER = "deliver"
    HEARTBEAT = "heartbeat"
    PEER_CLOSED = "peer closed"
    WRONG_HEARTBEAT = "wrong heartbeat"
    IGNORE = "ignore"


_LIVE = {
    PacketType.OPEN: PacketAction.IGNORE,
    PacketType.CLOSE: PacketAction.PEER_CLOSED,
    PacketType.PING: PacketAction.WRONG_HEARTBEAT,
    PacketType.PONG: PacketAction.HEARTBEAT,
    PacketType.MESSAGE: PacketAction.DELIVER,
    PacketType.UPGRADE: PacketAction.IGNORE,
    PacketType.NOOP: PacketAction.IGNORE,
}
_ENDING = dict.fromkeys(PacketType, PacketAction.IGNORE)

PACKETS: dict[SessionState, dict[PacketType, PacketAction]] = {
    SessionState.OPEN: _LIVE,
    SessionState.UPGRADING: _LIVE,
    SessionState.CLOSING: _ENDING,
    SessionState.CLOSED: _ENDING,
}


class ProbeState(Enum):
    """Where a WebSocket is that wants to take a session over. Spec: EIO-UPG-1."""

    AWAITING_PROBE = "awaiting probe"
    PROBED = "probed"
    SWITCHED = "switched"
    FAILED = "failed"


class ProbeInput(Enum):
    """What can happen to that WebSocket."""

    PING_PROBE = "2probe"
    UPGRADE = "5"
    OTHER_PACKET = "other packet"
    TRANSPORT_CLOSED = "transport closed"
    TIMEOUT = "timeout"
    SESSION_CLOSED = "session closed"


class ProbeAction(Enum):
    """What to do about it."""

    SEND_PONG_PROBE = "send 3probe"
    SWITCH = "switch"
    CLOSE_PROBE = "close probe"


_FAIL = (ProbeState.FAILED, ProbeAction.CLOSE_PROBE)
_PONG = (ProbeState.PROBED, ProbeAction.SEND_PONG_PROBE)
_SWITCH = (ProbeState.SWITCHED, ProbeAction.SWITCH)

# An UPGRADE without a probe before it is refused: the client cannot have paused its polling.
UPGRADE: dict[tuple[ProbeState, ProbeInput], tuple[ProbeState, ProbeAction]] = {
    (ProbeState.AWAITING_PROBE, ProbeInput.PING_PROBE): _PONG,
    (ProbeState.AWAITING_PROBE, ProbeInput.UPGRADE): _FAIL,
    (ProbeState.AWAITING_PROBE, ProbeInput.OTHER_PACKET): _FAIL,
    (ProbeState.AWAITING_PROBE, ProbeInput.TRANSPORT_CLOSED): _FAIL,
    (ProbeState.AWAITING_PROBE, ProbeInput.TIMEOUT): _FAIL,
    (ProbeState.AWAITING_PROBE, ProbeInput.SESSION_CLOSED): _FAIL,
    (ProbeState.PROBED, ProbeInput.PING_PROBE): _PONG,
    (ProbeState.PROBED, ProbeInput.UPGRADE): _SWITCH,
    (ProbeState.PROBED, ProbeInput.OTHER_PACKET): _FAIL,
    (ProbeState.PROBED, ProbeInput.TRANSPORT_CLOSED): _FAIL,
    (ProbeState.PROBED, ProbeInput.TIMEOUT): _FAIL,
    (ProbeState.PROBED, ProbeInput.SESSION_CLOSED): _FAIL,
}
