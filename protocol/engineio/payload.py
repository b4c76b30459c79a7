"""A polling body to and from a list of Engine.IO packets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protocol.limits import Limits
from protocol.reasons import Violation

from .packet import Packet, decode_packet

SEPARATOR = b"\x1e"


PACKETS_PER_PIECE = 256
"""How many packets `decode_pieces` decodes at once: with what is done with them, less than a millisecond."""


def decode_payload(body: bytes, limits: Limits) -> tuple[list[Packet], Violation | None]:
    """Split a body into packets; what stands before the first bad packet is kept. Spec: EIO-POLL-3.

    Returns:
        The packets, and what was wrong with the first one that is not among them.
    """
    pieces = list(decode_pieces(body, limits))
    return [packet for packets, _ in pieces for packet in packets], pieces[-1][1]


def decode_pieces(body: bytes, limits: Limits) -> Iterator[tuple[list[Packet], Violation | None]]:
    """Decode a body piece by piece, so that others have their turn between two of a long one.

    Yields:
        What `decode_payload` returns, of at most `PACKETS_PER_PIECE` packets. Only the last has a violation.
    """
    if body.count(SEPARATOR) >= limits.packets_per_payload:
        yield [], Violation.TOO_MANY_PACKETS
        return
    texts = body.split(SEPARATOR)
    for start in range(0, len(texts), PACKETS_PER_PIECE):
        packets, violation = _decode(texts[start : start + PACKETS_PER_PIECE])
        yield packets, violation
        if violation is not None:
            return


def _decode(texts: list[bytes]) -> tuple[list[Packet], Violation | None]:
    packets: list[Packet] = []
    for text in texts:
        packet = decode_packet(text)
        if isinstance(packet, Violation):
            return packets, packet
        packets.append(packet)
    return packets, None


def encode_payload(packets: Iterable[bytes]) -> bytes:
    """Join packets that are already in their text form. Spec: EIO-POLL-2."""
    return SEPARATOR.join(packets)
