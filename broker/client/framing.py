"""The client's own data frames: masked, and many in one write.

trio-websocket writes and masks one message at a time, in Python; a batch of small events costs it several
times as much. Handshake, control frames, closing and all that comes in stay with it.
Spec: WS-3, RFC 6455 section 5.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from broker.flow.encoded import EncodedMessage
from protocol.websocket import BINARY, TEXT, build_masked_frame

_MASK_BYTES = 4


def masked_frames(messages: Iterable[EncodedMessage]) -> bytes:
    """Return messages with their attachments as WebSocket frames, in order."""
    payloads: list[tuple[int, bytes]] = []
    for message in messages:
        if message.text:
            payloads.append((TEXT, message.text))
        payloads += [(BINARY, data) for data in message.attachments]
    masks = os.urandom(_MASK_BYTES * len(payloads))
    return b"".join(
        build_masked_frame(opcode, payload, masks[at * _MASK_BYTES : (at + 1) * _MASK_BYTES])
        for at, (opcode, payload) in enumerate(payloads)
    )
