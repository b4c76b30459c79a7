"""A session that consists of the tables and schedules of `protocol` alone, with a clock that is fed to it."""

from __future__ import annotations

from math import inf
from typing import Any

from protocol import DisconnectReason, Limits, Violation
from protocol.engineio.heartbeat import HeartbeatSchedule
from protocol.engineio.packet import Packet, PacketType
from protocol.engineio.payload import decode_payload
from protocol.engineio.transitions import (
    PACKETS,
    SESSION,
    UPGRADE,
    PacketAction,
    ProbeAction,
    ProbeInput,
    ProbeState,
    SessionInput,
    SessionState,
)
from protocol.socketio.decoder import Decoder
from protocol.socketio.transitions import NAMESPACE, NamespaceAction, NamespaceState

PING_INTERVAL, PING_TIMEOUT, CONNECT_TIMEOUT, UPGRADE_TIMEOUT = 25.0, 20.0, 45.0, 10.0
PROBE_INPUTS = {"2probe": ProbeInput.PING_PROBE, "5": ProbeInput.UPGRADE}
Step = dict[str, Any]


class TableSession:
    """One session and one probe; what the server does is in `out`."""

    def __init__(self, transport: str) -> None:
        self.out: list[Step] = []
        self.state = SessionState.OPEN
        self.beats: HeartbeatSchedule[str] = HeartbeatSchedule(PING_INTERVAL, PING_TIMEOUT)
        self.beats.open("it", 0.0)
        self.connect_due = CONNECT_TIMEOUT
        self.probe: ProbeState | None = None
        self.probe_due = inf
        self.namespaces: dict[str, NamespaceState] = {}
        self.on = "session" if transport == "websocket" else "nowhere"
        self.waiting: list[str] = []
        self.send(0.0, "0")

    def send(self, now: float, text: str) -> None:
        if self.on != "nowhere":
            self.out.append({"at": now, "on": self.on, "send": text})
        elif text != "0":  # OPEN is the answer to the handshake
            self.waiting.append(text)

    def end(self, now: float, why: str, code: int) -> None:
        self.state = SESSION[self.state, SessionInput.ENDED]
        self.beats.close("it")
        self.connect_due = inf
        item: Step = {"at": now, "on": "session" if self.on == "nowhere" else self.on, "ended": why}
        self.out.append(item if self.on == "nowhere" else item | {"code": code})

    # Time

    def due(self) -> float:
        return min(self.beats.next_deadline(), self.connect_due, self.probe_due)

    def pass_time(self, now: float) -> None:
        if self.probe_due <= now:
            self.probing(now, ProbeInput.TIMEOUT)
        if self.connect_due <= now:
            self.end(now, Violation.CONNECT_TIMEOUT.text, Violation.CONNECT_TIMEOUT.close_code)
            return
        to_ping, expired = self.beats.take_due(now)
        if expired:
            self.end(now, str(DisconnectReason.PING_TIMEOUT), 1000)
        elif to_ping:
            self.send(now, "2")

    # The client

    def step(self, step: Step) -> None:
        now = step["at"]
        if step.get("on") == "probe" and self.on != "probe":
            if "open" in step:
                self.state = SESSION[self.state, SessionInput.PROBE]
                self.probe, self.probe_due = ProbeState.AWAITING_PROBE, now + UPGRADE_TIMEOUT
            else:
                self.probing(now, PROBE_INPUTS.get(step["send"], ProbeInput.OTHER_PACKET))
            return
        (packet,), violation = decode_payload(step["send"].encode(), Limits())
        assert violation is None
        self.take(now, packet)

    def probing(self, now: float, happened: ProbeInput) -> None:
        assert self.probe is not None
        self.probe, action = UPGRADE[self.probe, happened]
        if action is ProbeAction.SEND_PONG_PROBE:
            self.out.append({"at": now, "on": "probe", "send": "3probe"})
            return
        self.probe_due = inf
        if action is ProbeAction.SWITCH:
            self.state = SESSION[self.state, SessionInput.UPGRADE]
            self.on = "probe"
            for text in self.waiting:
                self.send(now, text)
        else:
            self.state = SESSION[self.state, SessionInput.PROBE_FAILED]
            self.out.append({"at": now, "on": "probe", "ended": "upgrade failed", "code": 1000})

    def take(self, now: float, packet: Packet) -> None:
        action = PACKETS[self.state][packet.type]
        if action is PacketAction.WRONG_HEARTBEAT:
            self.end(now, Violation.WRONG_HEARTBEAT.text, Violation.WRONG_HEARTBEAT.close_code)
        elif action is PacketAction.HEARTBEAT:
            self.beats.pong("it", now)
        else:
            self.beats.alive("it", now)
            if packet.type is PacketType.MESSAGE:
                self.message(now, packet)

    def message(self, now: float, packet: Packet) -> None:
        decoded: Any = Decoder(Limits(), 1_000_000).feed_text(bytes(packet.data))
        name = decoded.namespace
        outcome = NAMESPACE[self.namespaces.get(name, NamespaceState.ABSENT), decoded.type]
        part = "" if name == "/" else f"{name},"
        if outcome is NamespaceAction.CONNECT and name == "/":
            self.namespaces[name] = NamespaceState.CONNECTED
            self.connect_due = inf
            self.send(now, "40" + part)
        elif outcome is NamespaceAction.CONNECT:
            self.send(now, "44" + part)
        elif outcome is NamespaceAction.LEAVE:
            self.namespaces[name] = NamespaceState.ABSENT


def run_sequence(given: dict[str, Any]) -> dict[str, Any]:
    """Run one vector of the kind `sequence` on the tables."""
    session = TableSession(given["transport"])
    steps = list(given["client"])
    while True:
        at = steps[0]["at"] if steps else inf
        if min(at, session.due()) > given["until"]:
            return {"server": session.out}
        if session.due() <= at:
            session.pass_time(session.due())
        else:
            session.step(steps.pop(0))


def expect_sequence(expect: dict[str, Any]) -> dict[str, Any]:
    """Fill in on what connection things happen."""
    return {"server": [{"on": "session"} | item for item in expect["server"]]}
