"""The OPEN packet as the client reads it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from protocol import ClientReason
from protocol.engineio.packet import Packet, PacketType
from protocol.jsontext import JSONError, load

from .errors import TransportFailed


@frozen
class Opened:
    """What the server said at the opening; unknown keys are ignored. Spec: EIO-HS-10, GEN-5.

    Attributes:
        session_id: The session.
        upgrades: The transports that may be tried.
        ping_interval: Seconds between two PINGs.
        ping_timeout: Seconds that a PING may be late.
        max_payload_bytes: The longest body or message that the server takes.
    """

    session_id: str
    upgrades: tuple[str, ...]
    ping_interval: float
    ping_timeout: float
    max_payload_bytes: int


def read_opened(packet: Packet) -> Opened:
    """Read an OPEN packet.

    Raises:
        TransportFailed: It is another packet, or lacks what a client needs.
    """
    wrong = TransportFailed(ClientReason.TRANSPORT_ERROR, "the server did not begin with an OPEN packet")
    if packet.type is not PacketType.OPEN or packet.binary:
        raise wrong
    try:
        fields = load(packet.data)
    except JSONError:
        raise wrong from None
    if not isinstance(fields, dict):
        raise wrong
    session_id, upgrades = fields.get("sid"), fields.get("upgrades", [])
    numbers = [_positive(fields.get(name)) for name in ("pingInterval", "pingTimeout", "maxPayload")]
    interval, timeout, payload = numbers
    if not isinstance(session_id, str) or not session_id or interval is None or timeout is None:
        raise wrong
    return Opened(
        session_id,
        tuple(name for name in upgrades if isinstance(name, str)) if isinstance(upgrades, list) else (),
        interval / 1000,
        timeout / 1000,
        int(payload or 1_000_000),
    )


def _positive(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return None
    return float(value)
