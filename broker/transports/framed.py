"""WebSocket frames over a byte stream: read through the codec of the protocol layer."""

from __future__ import annotations

from collections.abc import Sequence

from broker.flow.encoded import ControlMessage, EncodedMessage
from broker.flow.outbox import Outbox, Verdict
from protocol import DisconnectReason
from protocol.websocket import (
    PONG,
    TEXT,
    Control,
    ControlFrame,
    FrameError,
    FrameReader,
    Received,
    build_frame,
)

from .base import TransportEnded


class PongMessage(ControlMessage):
    """The answer to a ping frame, in its place among the messages. Spec: WS-4."""

    __slots__ = ()

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self.frame = build_frame(PONG, payload)


def frame_base64(message: EncodedMessage) -> bytes:
    """Build the frames for a peer that asked for text only. Spec: EIO-PKT-5."""
    if isinstance(message, PongMessage):
        return message.frame or b""
    return b"".join(build_frame(TEXT, packet) for packet in message.base64_packets())


def frame_plain(message: EncodedMessage) -> bytes:
    """Return the frames of a message, built once for all its receivers."""
    return message.frame or message.build_frame()


def build_frames(messages: Sequence[EncodedMessage], base64: bool) -> bytes:
    """Build the frames of several messages as one piece."""
    return b"".join(map(frame_base64 if base64 else frame_plain, messages))


def stream_ended(reader: FrameReader) -> TransportEnded:
    """Tell how a connection ended that brought no close frame. Spec: WS-8."""
    if reader.mid_frame:
        return TransportEnded(
            DisconnectReason.TRANSPORT_ERROR, detail="the connection ended within a message"
        )
    return TransportEnded(DisconnectReason.TRANSPORT_CLOSE)


def answer_control(received: Received, outbox: Outbox) -> None:
    """Answer a ping in its place in the queue; a close or an error ends the transport. Spec: WS-4.

    Raises:
        TransportEnded: The peer closed, or broke the framing.
    """
    if isinstance(received, FrameError):
        raise TransportEnded(
            received.violation.reason, received.violation, received.detail, received.close_code
        )
    assert isinstance(received, ControlFrame)
    if received.kind is Control.CLOSE:
        raise TransportEnded(DisconnectReason.TRANSPORT_CLOSE, code=received.code)
    if received.kind is Control.PING and outbox.offer(PongMessage(received.payload)) is Verdict.CLOSED:
        raise TransportEnded(DisconnectReason.TRANSPORT_ERROR)
