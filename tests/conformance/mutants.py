"""Deliberate faults of the broker, one at a time, each with the clause that the kit must name."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.mutation import Mutant, Row


def _namespace_row(state: str, packet: str, action: str) -> Callable[[], None]:
    def change() -> None:
        from protocol.socketio.packet import PacketType
        from protocol.socketio.transitions import NAMESPACE, NamespaceAction, NamespaceState

        NAMESPACE[NamespaceState[state], PacketType[packet]] = NamespaceAction[action]

    return change


def _upgrade_row() -> None:
    from protocol.engineio.transitions import UPGRADE, ProbeAction, ProbeInput, ProbeState

    switched = (ProbeState.SWITCHED, ProbeAction.SWITCH)
    UPGRADE[ProbeState.AWAITING_PROBE, ProbeInput.UPGRADE] = switched


def _no_reserved_names() -> None:
    import protocol.socketio.decoder as decoder

    decoder.RESERVED_EVENTS = frozenset()  # type: ignore[assignment]


def _other_words() -> None:
    import broker.rooms.connection as connection

    connection._INVALID_NAMESPACE["message"] = "No such namespace"


ADMISSION = "broker.server.admission:"
POLLING = "broker.transports.polling:Polling."
HTTP = "broker.server.polling_http:"
READING = "broker.sessions.reading:Reading."
SESSION = "broker.sessions.session:Session."
CONNECTION = "broker.rooms.connection:Connection."
SOCKET = "broker.rooms.socket:Socket."
HANDSHAKE = "protocol.engineio.handshake:"
FRAMES = "protocol.websocket:FrameReader."
DECODER = "protocol.socketio.decoder:"

MUTANTS: dict[str, Mutant | Row] = {
    # Handshake and refusals
    "wrong-code-for-unknown-session": Mutant(
        "EIO-HS-6", HANDSHAKE + "_check_session", "Refusal.SESSION_UNKNOWN", "Refusal.BAD_REQUEST"
    ),
    "version-not-checked": Mutant(
        "EIO-HS-9", HANDSHAKE + "_check_handshake", 'request.parameter("EIO") != PROTOCOL_VERSION', "False"
    ),
    "method-not-checked": Mutant(
        "EIO-HS-8", HANDSHAKE + "_check_handshake", 'request.method != "GET"', "False"
    ),
    "websocket-without-upgrade-taken": Mutant(
        "EIO-HS-4",
        HANDSHAKE + "_check_upgrade",
        'transport == "websocket" and not request.upgrade',
        "False",
    ),
    "polling-after-upgrade-taken": Mutant(
        "EIO-UPG-8", HANDSHAKE + "_check_session", "transport != current and not request.upgrade", "False"
    ),
    "one-key-more-in-open": Mutant(
        "EIO-HS-10", HANDSHAKE + "open_packet", '"upgrades":', '"version": 4, "upgrades":'
    ),
    "upgrades-offered-on-websocket": Mutant(
        "EIO-HS-11", "broker.sessions.engine:Engine.upgrades_from", "return []", 'return ["websocket"]'
    ),
    "ids-easily-guessed": Mutant(
        "EIO-SID-2",
        "broker.sessions.engine:Engine.new_id",
        "secrets.token_urlsafe(15)",
        '"A" * 12 + secrets.token_urlsafe(6)',
    ),
    "ids-of-another-form": Mutant(
        "EIO-SID-1",
        "broker.sessions.engine:Engine.new_id",
        "secrets.token_urlsafe(15)",
        "secrets.token_hex(8)",
    ),
    "answers-may-be-stored": Mutant(
        "EIO-HTTP-4", HTTP + "_payload", "_PLAIN_TEXT, _NO_STORE,", "_PLAIN_TEXT,"
    ),
    "application-asked-first": Mutant(
        "EIO-HS-15", ADMISSION + "Admission._ask_application", "message=verdict", "message=None"
    ),
    "room-for-everybody": Mutant(
        "EIO-HS-16", ADMISSION + "Admission._check_capacity", ">= limits.sessions", "< 0"
    ),
    # Origins
    "origin-not-checked": Mutant(
        "EIO-ORIGIN-3",
        ADMISSION + "Admission._check_origin",
        "if origin_allowed(origin, host, allowed):",
        "if True:",
    ),
    "does-not-vary": Mutant(
        "EIO-ORIGIN-4",
        ADMISSION + "Admission._cors_headers",
        '(("Access-Control-Allow-Origin", origin), vary)',
        '(("Access-Control-Allow-Origin", origin),)',
    ),
    "preflight-answered-200": Mutant("EIO-ORIGIN-5", ADMISSION + "Admission._preflight", "204", "200"),
    "cookie-of-another": Mutant(
        "EIO-COOKIE-1",
        ADMISSION + "Admission.cookie_headers",
        "cookie.render(session.id)",
        'cookie.render("x")',
    ),
    # Polling
    "overlapping-get-released-with-noop": Mutant(
        "EIO-POLL-7", POLLING + "poll", "self._end(CLOSE)", "self._end(NOOP)"
    ),
    "aborted-get-not-noticed": Mutant(
        "EIO-POLL-8",
        HTTP + "_watch_abort",
        "session.close(",
        "str(",
        also="def str(*args, **named): return None",
    ),
    "post-answered-otherwise": Mutant("EIO-POLL-9", HTTP + "PollingHttp._deliver", 'b"ok"', 'b"OK"'),
    "wrong-code-for-malformed-post": Mutant(
        "EIO-POLL-10", HTTP + "PollingHttp._deliver", "Refusal.PARSE_FAILED", "Refusal.BAD_REQUEST"
    ),
    "bad-packets-passed-over": Mutant(
        "EIO-PKT-7", "protocol.engineio.payload:_decode", "return packets, packet", "continue"
    ),
    "declared-length-not-looked-at": Mutant(
        "EIO-POLL-11", HTTP + "PollingHttp._read_body", "int(declared) > limit", "False"
    ),
    "octet-stream-taken": Mutant(
        "EIO-POLL-12", HTTP + "PollingHttp._post", "application/octet-stream", "application/never"
    ),
    "overlapping-post-taken": Mutant(
        "EIO-POLL-13", POLLING + "is_posting", "self._post_scope is not None", "False"
    ),
    "allow-left-out": Mutant("EIO-POLL-15", ADMISSION + "refusal_headers", '"Allow"', '"X-Allow"'),
    "base64-not-padded": Mutant(
        "EIO-PKT-4",
        "protocol.engineio.packet:encode_binary",
        "b64encode(data)",
        'b64encode(data).rstrip(b"=")',
    ),
    "base64-garbage-taken": Mutant(
        "EIO-PKT-4", "protocol.engineio.packet:_decode_base64", "validate=True", "validate=False"
    ),
    # WebSocket
    "length-in-longer-form-taken": Mutant("WS-3", FRAMES + "feed", "length < least or length >> 63", "False"),
    "length-not-bounded": Mutant(
        "WS-6", FRAMES + "_check_header", "held + length > self._max_bytes", "False"
    ),
    "pong-frame-without-payload": Mutant(
        "WS-4",
        "broker.transports.framed:PongMessage.__init__",
        "build_frame(PONG, payload)",
        'build_frame(PONG, b"")',
    ),
    "close-frame-of-another-code": Mutant(
        "SIO-ERR-1", SESSION + "violate", "violation.close_code if code is None else code", "1000"
    ),
    "close-frame-with-another-reason": Mutant(
        "WS-5", SESSION + "violate", "else code, violation.text)", 'else code, "protocol error")'
    ),
    "end-inside-a-message-not-noticed": Mutant(
        "WS-8", "broker.transports.framed:stream_ended", "reader.mid_frame", "False"
    ),
    # Upgrade
    "noop-missing": Mutant(
        "EIO-UPG-4", POLLING + "begin_upgrade", "self.upgrading = True\n    self.wake()", "pass"
    ),
    "upgrade-without-probe-taken": Row("EIO-UPG-10", _upgrade_row),
    "second-probe-taken": Mutant(
        "EIO-UPG-12", "broker.sessions.upgrade:may_upgrade", "session.probe_scope is None", "True"
    ),
    "failed-probe-closed-otherwise": Mutant(
        "EIO-UPG-9", "broker.server.carriers:_serve_upgrade", "CloseCode.NORMAL", "CloseCode.POLICY"
    ),
    "upgrade-without-timeout": Mutant(
        "EIO-UPG-11",
        "broker.sessions.upgrade:upgrade",
        "trio.move_on_after(timeout)",
        "trio.move_on_after(99)",
    ),
    "parked-get-closed-at-switch": Mutant("EIO-UPG-7", POLLING + "hand_over", "NOOP", "CLOSE"),
    # Heartbeat and closing
    "dead-clients-kept": Mutant(
        "EIO-HB-2", READING + "expire", "self.close(DisconnectReason.PING_TIMEOUT)", "return True"
    ),
    "large-messages-end-sessions": Mutant(
        "EIO-HB-9", READING + "expire", "self.transport.delays_ping()", "False"
    ),
    "ping-behind-what-waits": Mutant(
        "FLOW-9", "broker.flow.outbox:Outbox.offer_urgent", "self._put_urgent(message)", "self._put(message)"
    ),
    "only-pong-is-life": Mutant("EIO-HB-3", READING + "take", "self._engine.timers.alive(self)", "pass"),
    "pong-ends-the-heartbeat": Mutant(
        "EIO-HB-5",
        READING + "_on_packet",
        "self._engine.timers.pong(self)",
        "self._engine.timers.suspend(self)",
    ),
    "ping-from-the-wrong-side": Mutant(
        "EIO-HB-6", READING + "_on_packet", "self.violate(Violation.WRONG_HEARTBEAT)", "pass"
    ),
    "close-as-text-ignored": Mutant(
        "EIO-CLOSE-2", READING + "_on_packet", "self.close(DisconnectReason.TRANSPORT_CLOSE)", "pass"
    ),
    "parked-get-closed-at-end": Mutant(
        "EIO-CLOSE-1", POLLING + "finish", "self._end(NOOP)", "self._end(CLOSE)"
    ),
    "close-without-noop": Mutant(
        "EIO-CLOSE-3", POLLING + "_take_payload", "packets += (NOOP, self._last)", "packets += (self._last,)"
    ),
    # Socket.IO packets
    "reserved-names-taken": Row("SIO-EVT-3", _no_reserved_names),
    "placeholders-not-checked": Mutant(
        "SIO-BIN-3", DECODER + "_placeholders_match", "return (", "return len(found) == count or ("
    ),
    "attachments-not-bounded": Mutant(
        "SIO-BIN-6", DECODER + "Decoder._attachment_count", "count > self._limits.max_attachments", "False"
    ),
    "data-of-disconnect-taken": Mutant(
        "SIO-PKT-4",
        DECODER + "_check_data",
        "return None if data is None else Violation.INVALID_PAYLOAD",
        "return None",
    ),
    "assembly-without-timeout": Mutant(
        "SIO-BIN-7",
        "broker.sessions.engine:_assembly_timeout",
        "session.violate(Violation.ASSEMBLY_TIMEOUT)",
        "pass",
    ),
    # Namespaces
    "early-events-ignored": Row("SIO-CON-9", _namespace_row("ABSENT", "EVENT", "IGNORE")),
    "second-connect-ignored": Row("SIO-CON-9", _namespace_row("CONNECTED", "CONNECT", "IGNORE")),
    "withdrawal-ignored": Row("SIO-CON-10", _namespace_row("CONNECTING", "DISCONNECT", "IGNORE")),
    "one-key-more-in-connect": Mutant(
        "SIO-CON-3", SOCKET + "answer", '{"sid": self.id}', '{"sid": self.id, "pid": 1}'
    ),
    "unknown-namespace-in-other-words": Row("SIO-CON-6", _other_words),
    "refusals-never-forgiven": Mutant("SIO-CON-7", CONNECTION + "let_in", "self._refusals = 0", "pass"),
    "refusals-not-counted": Mutant(
        "SIO-CON-7", CONNECTION + "_refuse", "self._refusals > self.limits.refused_connects", "False"
    ),
    "no-connect-timeout": Mutant(
        "SIO-CON-8",
        "broker.sessions.engine:_connect_timeout",
        "session.violate(Violation.CONNECT_TIMEOUT)",
        "pass",
    ),
    "socket-id-is-session-id": Mutant(
        "SIO-CON-11", CONNECTION + "_connect", "self.session.engine.new_id()", "self.session.id"
    ),
    "leaving-answered": Mutant(
        "SIO-DIS-1",
        CONNECTION + "_route",
        "self._detach(socket, DisconnectReason.CLIENT_NAMESPACE_DISCONNECT)",
        "self.disconnect(socket)",
    ),
    "kicked-without-a-word": Mutant(
        "SIO-DIS-2",
        CONNECTION + "disconnect",
        "self.session.outbox.offer(self.session.engine.codec.control(Packet(PacketType.DISCONNECT, name)))",
        "pass",
    ),
    "left-forgotten": Mutant("SIO-STATE-3", CONNECTION + "disconnect", "self._left.add(name)", "pass"),
    "namespaces-not-bounded": Mutant(
        "SIO-NSP-3",
        CONNECTION + "_connect",
        "len(self._sockets) >= self.limits.namespaces_per_session",
        "False",
    ),
    # Events, acks, answers
    "volatile-kept": Mutant(
        "SIO-EVT-5",
        "broker.rooms.inbound:Inbound.offer_volatile",
        "self.outbox.offer_volatile",
        "self.outbox.offer",
    ),
    "ack-of-another-id": Mutant(
        "SIO-ACK-2",
        "broker.flow.encoded:encode_ack",
        "packet_head(_ACK, namespace, ack_id)",
        "packet_head(_ACK, namespace, ack_id + 1)",
    ),
    "acks-of-anybody-taken": Mutant(
        "SIO-ACK-4",
        "broker.flow.acks:AckTable.__init__",
        "self._waiters: dict[int, Settle] = {}",
        "self._waiters = SHARED",
        also="SHARED = {}",
    ),
    "acks-awaited-for-ever": Mutant(
        "SIO-ACK-6",
        "broker.flow.acks:AckWaiter.wait",
        "trio.move_on_after(timeout)",
        "trio.move_on_after(99)",
    ),
    "acks-not-bounded": Mutant(
        "SIO-ACK-7", "broker.flow.acks:AckTable.expect", "len(self._waiters) >= self._limit", "False"
    ),
    "text-of-failures-shown": Mutant(
        "SIO-ANS-4",
        "broker.rooms.inbound:Inbound._fail",
        'error_answer("internal", "internal error")',
        'error_answer("internal", repr(error))',
    ),
    "error-answers-not-switched-off": Mutant(
        "SIO-ANS-6",
        "broker.rooms.inbound:Inbound._fail",
        "not self.namespace.engine.settings.error_acks",
        "False",
    ),
    # Limits, and sessions that are shared
    "begun-messages-awaited-for-ever": Mutant(
        "LIM-8",
        "broker.sessions.engine:_message_timeout",
        "session.violate(Violation.MESSAGE_TIMEOUT)",
        "pass",
    ),
    "control-frames-give-more-time": Mutant(
        "LIM-8", READING + "watch", "any(isinstance(one, bytes) for one in received)", "received"
    ),
    "closing-awaited-for-ever": Mutant("LIM-7", SESSION + "_finish", "limits.close_timeout", "99"),
    "unjoined-not-bounded": Mutant(
        "EIO-HS-16",
        ADMISSION + "Admission._check_capacity",
        "len(self._engine.joining) >= limits.unjoined_sessions",
        "False",
    ),
    "made-without-bound": Mutant(
        "SIO-CON-6",
        "broker.rooms.directory:Directory.find",
        "children >= self._engine.limits.dynamic_namespaces",
        "False",
    ),
    "answers-not-bounded": Mutant(
        "EIO-POLL-5", POLLING + "_take_payload", "sys.maxsize if ending else self._max_packets", "sys.maxsize"
    ),
    "rates-not-bounded": Mutant("LIM-9", "broker.flow.rates:Bucket.take", "tokens < -self._burst", "False"),
    "rates-without-warning": Mutant("LIM-9", READING + "meter", "pace is Pace.WARN", "False"),
    "session-of-another-unknown": Mutant(
        "EIO-SID-5", ADMISSION + "Admission._is_elsewhere", "owner.mark[0] == mark[0]", "True"
    ),
    # Drain
    "drain-lets-in": Mutant("DRAIN-1", ADMISSION + "Admission._check_open", "self._engine.draining", "False"),
    "drain-cuts-handlers": Mutant(
        "DRAIN-2", "broker.server.drain:_close_idle", "session.handler.is_idle", "True"
    ),
    "drain-disconnects": Mutant(
        "DRAIN-3",
        "broker.server.drain:_close_idle",
        "session.close(DisconnectReason.SERVER_SHUTTING_DOWN)",
        "session.handler.disconnect_all()",
    ),
    "drain-all-at-once": Mutant(
        "DRAIN-4", "broker.server.drain:_close_idle", "await trio.sleep(pace)", "pass"
    ),
}
