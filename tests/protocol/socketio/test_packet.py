"""Writing Socket.IO packets, and reading back what was written; edge cases 128 to 133 and 142 to 146."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Limits
from protocol.socketio.decoder import NEED_ATTACHMENTS, Decoder
from protocol.socketio.packet import RESERVED_EVENTS, Packet, PacketType, encode_packet

EVENT, ACK = PacketType.EVENT, PacketType.ACK

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
)
_keys = st.text(max_size=6).filter(lambda key: key != "_placeholder")


def values(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
        max_leaves=10,
    )


plain = values(_scalars)
with_bytes = values(_scalars | st.binary(max_size=10))
namespaces = st.just("/") | st.text(
    st.characters(exclude_characters=",", exclude_categories=("Cc", "Cs")), max_size=20
).map(lambda name: "/" + name)
ids = st.none() | st.integers(0, 10**15 - 1)
names = st.text(max_size=10).filter(lambda name: name not in RESERVED_EVENTS)


def arguments(name: str, rest: list[Any]) -> list[Any]:
    return [name, *rest]


events = st.builds(
    Packet, st.just(EVENT), namespaces, ids, st.builds(arguments, names, st.lists(with_bytes, max_size=3))
)
acks = st.builds(
    Packet, st.just(ACK), namespaces, st.integers(0, 10**15 - 1), st.lists(with_bytes, max_size=3)
)
others = (
    st.builds(
        Packet,
        st.just(PacketType.CONNECT),
        namespaces,
        st.none(),
        st.none() | st.dictionaries(_keys, plain, max_size=3),
    )
    | st.builds(Packet, st.just(PacketType.DISCONNECT), namespaces, st.none(), st.none())
    | st.builds(
        Packet,
        st.just(PacketType.CONNECT_ERROR),
        namespaces,
        st.none(),
        st.fixed_dictionaries({"message": st.text()}),
    )
)


def decode(text: bytes, attachments: list[bytes]) -> object:
    decoder = Decoder(Limits(max_attachments=100), 1_000_000)
    result: object = decoder.feed_text(text)
    for attachment in attachments:
        assert result is NEED_ATTACHMENTS
        result = decoder.feed_binary(attachment)
    assert decoder.pending is None
    return result


@given(events | acks | others)
def test_round_trip(packet: Packet) -> None:
    assert decode(*encode_packet(packet)) == packet


@pytest.mark.parametrize(
    ("packet", "text", "attachments"),
    [
        (Packet(PacketType.CONNECT, "/woot", None, {"token": "123"}), b'0/woot,{"token":"123"}', []),
        (Packet(PacketType.CONNECT), b"0", []),
        (Packet(PacketType.DISCONNECT, "/woot"), b"1/woot,", []),
        (Packet(EVENT, "/", None, [1, "a", {}]), b'2[1,"a",{}]', []),
        (Packet(EVENT, "/test", 1, ["a", 1, {}]), b'2/test,1["a",1,{}]', []),
        (Packet(EVENT, "/", 0, ["a"]), b'20["a"]', []),
        (Packet(ACK, "/", 123, ["a", 1, {}]), b'3123["a",1,{}]', []),
        (Packet(ACK, "/", 5, []), b"35[]", []),
        (Packet(PacketType.CONNECT_ERROR, "/", None, "Unauthorized"), b'4"Unauthorized"', []),
        (
            Packet(PacketType.CONNECT_ERROR, "/random", None, {"message": "Invalid namespace"}),
            b'4/random,{"message":"Invalid namespace"}',
            [],
        ),
    ],
)
def test_edge_144_vectors(packet: Packet, text: bytes, attachments: list[bytes]) -> None:
    assert encode_packet(packet) == (text, attachments)
    assert decode(text, attachments) == packet


def test_edge_129_attachments_in_order() -> None:
    packet = Packet(EVENT, "/", None, ["message", b"\x01\x02\x03", b"\x04"])
    text = b'52-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    assert encode_packet(packet) == (text, [b"\x01\x02\x03", b"\x04"])


def test_edge_131_and_142_binary_ack() -> None:
    text = b'61-/admin,3[{"_placeholder":true,"num":0},"x"]'
    packet = Packet(ACK, "/admin", 3, [b"", "x"])
    assert encode_packet(packet) == (text, [b""])
    assert decode(text, [b""]) == packet


def test_edge_133_dates_and_nulls() -> None:
    text, _ = encode_packet(Packet(EVENT, "/", None, ["x", None, datetime(2020, 1, 2, tzinfo=UTC)]))
    assert text == b'2["x",null,"2020-01-02T00:00:00+00:00"]'


def test_edge_145_circular_data_raises_to_the_caller() -> None:
    data: list[Any] = ["x"]
    data.append(data)
    with pytest.raises(TypeError, match="cannot be encoded"):
        encode_packet(Packet(EVENT, "/", None, data))


def test_edge_146_input_is_not_changed() -> None:
    inner = {"a": [None, bytearray(b"x"), {"b": memoryview(b"y")}]}
    text, attachments = encode_packet(Packet(EVENT, "/", None, ["e", inner]))
    assert text.startswith(b'52-["e",{"a":[null,{"_placeholder":true,"num":0},{"b":')
    assert attachments == [b"x", b"y"]
    assert inner == {"a": [None, bytearray(b"x"), {"b": memoryview(b"y")}]}


def test_same_bytes_twice_are_two_attachments() -> None:
    data = b"z"
    _, attachments = encode_packet(Packet(EVENT, "/", None, ["e", data, data]))
    assert attachments == [b"z", b"z"]


def test_bytes_have_no_place_in_a_connect() -> None:
    with pytest.raises(TypeError, match="CONNECT packet cannot carry bytes"):
        encode_packet(Packet(PacketType.CONNECT, "/", None, {"a": b"x"}))
