"""A polling body to and from a list of Engine.IO packets."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.limits import Limits
from protocol.reasons import Violation

from .packet import Packet, decode_packet

SEPARATOR = b"\x1e"


def decode_payload(body: bytes, limits: Limits) -> tuple[list[Packet], Violation | None]:
    """Split a body into packets; what stands before the first bad packet is kept. Spec: EIO-POLL-3.

    Returns:
        The packets, and what was wrong with the first one that is not among them.
    """
    if body.count(SEPARATOR) >= limits.packets_per_payload:
        return [], Violation.TOO_MANY_PACKETS
    packets: list[Packet] = []
    for text in body.split(SEPARATOR):
        packet = decode_packet(text)
        if isinstance(packet, Violation):
            return packets, packet
        packets.append(packet)
    return packets, None


def encode_payload(packets: Iterable[bytes]) -> bytes:
    """Join packets that are already in their text form. Spec: EIO-POLL-2."""
    return SEPARATOR.join(packets)
