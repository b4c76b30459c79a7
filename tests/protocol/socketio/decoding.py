"""What the tests of the decoder share."""

from __future__ import annotations

from protocol import DisconnectReason, Limits, Violation
from protocol.socketio.decoder import Decoder
from protocol.socketio.packet import Packet

LIMITS = Limits()
PLACEHOLDER = b'{"_placeholder":true,"num":%b}'


def decoder(limits: Limits = LIMITS, max_payload_bytes: int = 1_000_000) -> Decoder:
    return Decoder(limits, max_payload_bytes)


def refused(text: bytes, limits: Limits = LIMITS) -> Violation:
    """Decode text that is refused, and check that nothing of it is kept."""
    subject = decoder(limits)
    outcome = subject.feed_text(text)
    assert isinstance(outcome, Violation), outcome
    assert outcome.reason is DisconnectReason.FORCED_CLOSE or outcome is Violation.BAD_TEXT
    assert subject.pending is None
    assert subject.feed_binary(b"") is Violation.UNEXPECTED_BINARY
    return outcome


def accepted(text: bytes, limits: Limits = LIMITS) -> Packet:
    packet = decoder(limits).feed_text(text)
    assert isinstance(packet, Packet), packet
    return packet


def binary_event(count: int) -> bytes:
    holders = b",".join(PLACEHOLDER % str(number).encode() for number in range(count))
    return b'5%d-["x",%b]' % (count, holders)
