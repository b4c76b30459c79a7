"""Every bound on what a peer may make the broker hold, do or wait for, with its default and its source."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

MAX_JSON_DEPTH = 254  # what the JSON encoder can write again, and far from Python's own recursion limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds in force for one broker; sizes are bytes, times are float seconds.

    The sources of the defaults are given per field. `max_payload_bytes`, the heartbeat and the connect
    timeout are protocol options and stand in the settings of the broker. Spec: LIM-1.
    """

    # What one packet may be.
    max_attachments: int = 10  # Socket.IO parser since 4.2.6
    json_depth: int = 64  # far below any recursion limit
    ack_id_digits: int = 15  # stays exact in a JavaScript number
    namespace_bytes: int = 256  # Centrifugo allows 255
    packets_per_payload: int = 150_000  # all that fits max_payload_bytes: stock clients do not count
    packets_per_poll: int = 16  # python-engineio's client gives the session up on more
    fragments_per_message: int = 1_024  # ws: 131,072, far more than any client sends
    assembly_timeout: float = 30.0  # a begun message or binary packet must be complete by then

    # What one request may be.
    header_bytes: int = 16_384  # h11's and Node's default
    header_count: int = 100  # uWebSockets
    header_timeout: float = 10.0  # from the first byte to the end of the head
    body_timeout: float = 30.0  # a POST body must be complete by then

    # What may wait for one peer, in each direction.
    outbox_hard_bytes: int = 1_048_576  # Centrifugo
    outbox_soft_bytes: int = 262_144  # Redis' two-level idea: a quarter of the hard budget
    outbox_soft_time: float = 10.0  # how long the soft budget may be exceeded
    outbox_messages: int = 16_384  # bounds the overhead of many tiny messages
    outboxes_bytes: int = 536_870_912  # all outboxes together; RabbitMQ's share: a quarter of 2 GiB
    write_timeout: float = 10.0  # NATS: a write that makes no progress
    inbox_messages: int = 256  # events of one socket that wait for its handlers
    pause_timeout: float = 60.0  # how long a full inbox may stop the reading
    handlers_per_socket: int = 32  # ceiling over all events of one socket
    session_rate: float = inf  # packets of one session a second; Ably ends at 2,000, Socket.IO has none
    identity_rate: float = inf  # packets of all sessions of one user a second
    address_rate: float = inf  # packets of all sessions of one address a second; see `proxy_addresses`
    rate_burst_time: float = 2.0  # a rate may come so long at once, and as long again after a warning
    outstanding_acks: int = 1_000  # acks that one peer may owe
    ack_timeout: float = 30.0  # for a call that names none

    # How many things one peer, or all together, may hold.
    namespaces_per_session: int = 16  # Socket.IO has none
    refused_connects: int = 20  # CONNECTs refused before the session is closed
    rooms_per_socket: int = 1_000  # Centrifugo allows 128 channels, Socket.IO any number
    room_bytes: int = 1_024  # name of a room; Centrifugo allows 255, Socket.IO any length
    sessions: int = 50_000  # engine sessions of one broker
    unjoined_sessions: int = 10_000  # those that have joined no namespace yet, all together
    sessions_per_address: int = 1_000  # a large office behind one address; see `proxy_addresses`
    handshakes: int = 10_000  # connections whose request head is not complete, all together
    dynamic_namespaces: int = 10_000  # children made by patterns and predicates

    # What is kept for those who come back or come late; see also `Recovery` and `History`.
    recovery_sessions: int = 50_000  # lost sessions of one broker: as many as may be open
    recovery_bytes: int = 67_108_864  # events kept in the logs of all namespaces together
    recovery_probe_timeout: float = 2.0  # silence by which the older connection of a session is given up
    history_rooms: int = 10_000  # rooms whose history is kept
    history_bytes: int = 67_108_864  # events kept in the histories of all rooms together

    # What other nodes may cost, and what may wait for them.
    bus_message_bytes: int = 16_777_216  # one message of another node; larger ones are passed over
    bus_buffer_bytes: int = 8_388_608  # what waits for a bus that is away; 8 outboxes
    bus_requests: int = 1_000  # questions of one namespace that wait for other nodes
    bus_tasks: int = 1_000  # server-side events and acks of one namespace at work for other nodes
    presence_lease_time: float = 10.0  # how long users of a node that is not heard of any more stay online
    bus_ack_timeout: float = 300.0  # how long another node may have this one wait for acks

    # What one process of a server may wait for another.
    handover_timeout: float = 5.0  # a connection or request must be handed over by then

    # How long an ending may take.
    cleanup_timeout: float = 5.0  # handlers after cancellation and the disconnect handler
    close_timeout: float = 5.0  # flushing and closing a transport

    def __post_init__(self) -> None:
        """Refuse what cannot be a bound."""
        for field in fields(self):
            value = getattr(self, field.name)
            wanted = float if field.type == "float" else int
            if isinstance(value, bool) or not isinstance(value, (int, wanted)):
                raise TypeError(f"limit {field.name} must be {wanted.__name__}, not {value!r}")
            if not value > 0:
                raise ValueError(f"limit {field.name} must be greater than 0, not {value!r}")
        if self.json_depth > MAX_JSON_DEPTH:
            raise ValueError(f"limit json_depth must be at most {MAX_JSON_DEPTH}, not {self.json_depth}")
