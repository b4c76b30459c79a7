"""Messages that are encoded once: the wire forms of events and acks."""

from __future__ import annotations

from typing import Any

import pytest

from broker.flow.codec import make_client_codec
from broker.flow.encoded import EncodedMessage, encode_ack, encode_control, encode_event
from protocol.socketio.packet import Packet, PacketType

PLACE = b'{"_placeholder":true,"num":0}'


@pytest.mark.parametrize(
    ("namespace", "args", "ack_id", "text", "attachments"),
    [
        ("/", [], None, b'42["ev"]', []),
        ("/", [1, None, "\u00e9"], None, '42["ev",1,null,"é"]'.encode(), []),
        ("/a", [], 0, b'42/a,0["ev"]', []),
        ("/", [b"\x01"], None, b'451-["ev",' + PLACE + b"]", [b"\x01"]),
        ("/a", [{"x": [b"\x01"]}], 12, b'451-/a,12["ev",{"x":[' + PLACE + b"]}]", [b"\x01"]),
        ("/", [{1}], None, b'42["ev",[1]]', []),
    ],
)
def test_events(
    namespace: str, args: list[Any], ack_id: int | None, text: bytes, attachments: list[bytes]
) -> None:
    message = encode_event(namespace, "ev", args, ack_id)
    assert (message.text, list(message.attachments)) == (text, attachments)
    assert message.size == len(text) + sum(map(len, attachments))
    assert message.is_counted
    assert (message.overflow, message.key) == (None, None)


@pytest.mark.parametrize(
    ("namespace", "values", "text", "attachments"),
    [
        ("/", (), b"433[]", []),
        ("/a", (1, "x"), b'43/a,3[1,"x"]', []),
        ("/", [b"\x01"], b"461-3[" + PLACE + b"]", [b"\x01"]),
        ("/a", [b"\x01"], b"461-/a,3[" + PLACE + b"]", [b"\x01"]),
        ("/", [{1}], b"433[[1]]", []),
    ],
)
def test_acks(namespace: str, values: Any, text: bytes, attachments: list[bytes]) -> None:
    message = encode_ack(namespace, 3, values)
    assert (message.text, list(message.attachments)) == (text, attachments)
    assert message.is_counted


@pytest.mark.parametrize("namespace", ["/", "/a"])
@pytest.mark.parametrize("args", [[], [7], [b"\x01", {"x": b"\x02"}]])
@pytest.mark.parametrize("parser", ["json", "msgpack"])
def test_an_ack_id_put_in_later_stands_where_it_would_have_stood(
    parser: str, args: Any, namespace: str
) -> None:
    if parser == "msgpack":
        pytest.importorskip("msgpack", reason="msgpack is not installed")
    codec = make_client_codec(parser)
    for ack_id in (0, 12, 300, 10**15 - 1):
        given = codec.event(namespace, "ev", args, ack_id)
        later = codec.with_ack_id(codec.event(namespace, "ev", args), namespace, ack_id)
        assert (later.text, list(later.attachments)) == (given.text, list(given.attachments))
        assert later.size == given.size


def test_what_has_no_json_form_is_refused() -> None:
    for encode in (lambda: encode_event("/", "ev", [object()]), lambda: encode_ack("/", 1, [b"", object()])):
        with pytest.raises(TypeError):
            encode()


def test_frame_is_built_once_with_all_attachments() -> None:
    message = EncodedMessage(b"4x", [b"\x01", b"\x02\x03"])
    assert message.frame is None
    frame = message.build_frame()
    assert frame == b"\x81\x024x\x82\x01\x01\x82\x02\x02\x03"
    assert message.frame is frame
    assert message.base64_packets() == [b"4x", b"bAQ==", b"bAgM="]


def test_control_packets() -> None:
    message = encode_control(Packet(PacketType.CONNECT, "/a", data={"sid": "x"}))
    assert message.text == b'40/a,{"sid":"x"}'
    assert not message.is_counted
