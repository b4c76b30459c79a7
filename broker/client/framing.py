"""The client's own data frames: masked, and many in one write.

trio-websocket writes and masks one message at a time, in Python; a batch of small events costs it several
times as much. Handshake, control frames, closing and all that comes in stay with it.
Spec: WS-3, RFC 6455 section 5.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from broker.flow.encoded import EncodedMessage
from protocol.websocket import BINARY, TEXT

_MASKED = 0x80
_MASK_BYTES = 4


def masked_frames(messages: Iterable[EncodedMessage]) -> bytes:
    """Return messages with their attachments as WebSocket frames, in order."""
    payloads: list[tuple[int, bytes]] = []
    for message in messages:
        if message.text:
            payloads.append((TEXT, message.text))
        payloads += [(BINARY, data) for data in message.attachments]
    masks = os.urandom(_MASK_BYTES * len(payloads))
    frames = bytearray()
    for index, (opcode, payload) in enumerate(payloads):
        mask = masks[index * _MASK_BYTES : (index + 1) * _MASK_BYTES]
        frames += _head(opcode, len(payload))
        frames += mask
        frames += apply_mask(payload, mask)
    return bytes(frames)


def _head(opcode: int, size: int) -> bytes:
    if size < 126:
        return bytes((opcode, _MASKED | size))
    if size < 65_536:
        return bytes((opcode, _MASKED | 126)) + size.to_bytes(2, "big")
    return bytes((opcode, _MASKED | 127)) + size.to_bytes(8, "big")


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """Return the payload XORed with the repeated mask: as one integer, which runs in C."""
    size = len(payload)
    repeated = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")
