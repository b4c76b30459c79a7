"""Packets of the msgpack parser: bytes of the JavaScript encoder, our own, and whatever else may come."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Limits, Violation
from protocol.socketio.msgpack import MsgpackParser, encode, read_value
from protocol.socketio.msgpack_reader import NotText, TooDeep, read
from protocol.socketio.packet import Packet, PacketType

msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed")

LIMITS = Limits()
EVENT = {"type": 2, "nsp": "/"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def feed(data: bytes, limits: Limits = LIMITS) -> Any:
    return MsgpackParser().decoder(limits, 1_000).feed_binary(data)


def feed_map(**parts: Any) -> Any:
    return feed(msgpack.packb(parts))


def event_with(value: str) -> bytes:
    """An event whose one argument is given as MessagePack in hexadecimal."""
    return bytes.fromhex("83 a4 74797065 02 a3 6e7370 a1 2f a4 64617461 92 a2 6576 " + value)


# What `new Encoder().encode(packet)` of socket.io-msgpack-parser 3.0.2 gives.
CAPTURED = [
    ("83a47479706500a464617461d40000a36e7370a12f", Packet(PacketType.CONNECT)),
    (
        "83a47479706500a46461746181a5746f6b656ea178a36e7370a62f61646d696e",
        Packet(PacketType.CONNECT, "/admin", data={"token": "x"}),
    ),
    ("82a47479706501a36e7370a12f", Packet(PacketType.DISCONNECT)),
    (
        "85a47479706502a46461746193a5" + b"hello".hex() + "01c40201ffa76f7074696f6e7381a8"
        "636f6d7072657373c3a269640ca36e7370a12f",
        Packet(PacketType.EVENT, "/", 12, ["hello", 1, b"\x01\xff"]),
    ),
    ("84a47479706503a269640ca4646174619192c0c3a36e7370a12f", Packet(PacketType.ACK, "/", 12, [[None, True]])),
]


@pytest.mark.clause("SIO-PARSER-2")
@pytest.mark.parametrize(("text", "packet"), CAPTURED)
def test_packets_of_the_javascript_encoder(text: str, packet: Packet) -> None:
    assert feed(bytes.fromhex(text)) == packet


@pytest.mark.clause("SIO-PARSER-3")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("00", 0),
        ("7f", 127),
        ("e0", -32),
        ("ff", -1),
        ("ca3fc00000", 1.5),
        ("cb3ff8000000000000", 1.5),
        ("cc80", 128),
        ("cd0100", 256),
        ("ce00010000", 65536),
        ("cfffffffffffffffff", 2**64 - 1),
        ("d080", -128),
        ("d1ff7f", -129),
        ("d2ffff7fff", -32769),
        ("d38000000000000000", -(2**63)),
        ("c0", None),
        ("c2", False),
        ("c3", True),
        ("a0", ""),
        ("a2c3a9", "é"),
        ("d901 61", "a"),
        ("da0001 61", "a"),
        ("db00000001 61", "a"),
        ("c400", b""),
        ("c50001 ff", b"\xff"),
        ("c600000001 ff", b"\xff"),
        ("90", []),
        ("dc0001 90", [[]]),
        ("dd00000001 01", [1]),
        ("80", {}),
        ("81 a0 80", {"": {}}),
        ("de0001 a161 01", {"a": 1}),
        ("df00000001 a161 01", {"a": 1}),
        ("d40000", None),  # undefined
        ("c7010000", b"\x00"),  # an ArrayBuffer of one byte
        ("d7000000000000000001", EPOCH + timedelta(milliseconds=1)),  # a Date
        ("d700ffffffffffffffff", EPOCH - timedelta(milliseconds=1)),
        ("c708000000000000000001", b"\0\0\0\0\0\0\0\1"),  # an ArrayBuffer of eight bytes
        ("c8000100ff", b"\xff"),
        ("c90000000100ff", b"\xff"),
        ("d6ff00000001", EPOCH + timedelta(seconds=1)),
        ("d7ff" + (1_500 << 34 | 2).to_bytes(8, "big").hex(), EPOCH + timedelta(seconds=2, microseconds=1)),
        ("c70cff" + "000005dc" + "ffffffffffffffff", EPOCH + timedelta(seconds=-1, microseconds=1)),
    ],
)
def test_values(text: str, value: Any) -> None:
    got = feed(event_with(text))
    assert got == Packet(PacketType.EVENT, "/", None, ["ev", value])
    assert type(got.data[1]) is type(value)


@pytest.mark.clause("SIO-PARSER-4")
@pytest.mark.parametrize(
    ("data", "violation"),
    [
        (b"", Violation.INVALID_PAYLOAD),
        (b"\xc1", Violation.INVALID_PAYLOAD),
        (b"\xc0", Violation.INVALID_PAYLOAD),
        (b"\x90", Violation.INVALID_PAYLOAD),
        (b"42[]", Violation.INVALID_PAYLOAD),
        (b"\x80", Violation.UNKNOWN_TYPE),
        (event_with("01") + b"\x00", Violation.INVALID_PAYLOAD),
        (event_with("c401"), Violation.INVALID_PAYLOAD),
        (event_with("cb00"), Violation.INVALID_PAYLOAD),
        (event_with("ddffffffff"), Violation.INVALID_PAYLOAD),
        (event_with("dfffffffff"), Violation.INVALID_PAYLOAD),
        (event_with("dbffffffff"), Violation.INVALID_PAYLOAD),
        (event_with("c7"), Violation.INVALID_PAYLOAD),
        (event_with("d4"), Violation.INVALID_PAYLOAD),
        (event_with("8101 01"), Violation.INVALID_PAYLOAD),
        (event_with("81c40161 01"), Violation.INVALID_PAYLOAD),
        (event_with("d50000 00"), Violation.INVALID_PAYLOAD),
        (event_with("d40100"), Violation.INVALID_PAYLOAD),
        (event_with("c70105 00"), Violation.INVALID_PAYLOAD),
        (event_with("d4ff00"), Violation.INVALID_PAYLOAD),
        (event_with("d7007fffffffffffffff"), Violation.INVALID_PAYLOAD),
        (event_with("d7ffffffffffffffffff"), Violation.INVALID_PAYLOAD),
        (event_with("c70cff" + "00000000" + "7fffffffffffffff"), Violation.INVALID_PAYLOAD),
        (event_with("a1ff"), Violation.BAD_TEXT),
        (event_with("91" * 64 + "01"), Violation.TOO_DEEP),
        (event_with("81a161" * 64 + "01"), Violation.TOO_DEEP),
        (b"\x91" * 100_000, Violation.TOO_DEEP),
        (b"\xdd\x00\x0f\x42\x40" * 1_000, Violation.TOO_DEEP),
    ],
)
def test_what_is_malformed(data: bytes, violation: Violation) -> None:
    assert feed(data) is violation


def test_depth_is_counted_as_in_json() -> None:
    limits = Limits(json_depth=3)
    assert isinstance(feed(event_with("91 91 01"), limits), Packet)
    assert feed(event_with("91 91 90"), limits) is Violation.TOO_DEEP


@pytest.mark.clause("SIO-PARSER-4")
@pytest.mark.parametrize(
    ("parts", "violation"),
    [
        ({"nsp": "/", "data": ["x"]}, Violation.UNKNOWN_TYPE),
        ({"type": 5, "nsp": "/", "data": ["x"]}, Violation.UNKNOWN_TYPE),
        ({"type": -1, "nsp": "/", "data": ["x"]}, Violation.UNKNOWN_TYPE),
        ({"type": True, "nsp": "/", "data": ["x"]}, Violation.UNKNOWN_TYPE),
        ({"type": 2.0, "nsp": "/", "data": ["x"]}, Violation.UNKNOWN_TYPE),
        ({"type": [], "nsp": "/", "data": ["x"]}, Violation.UNKNOWN_TYPE),
        ({"type": 2, "data": ["x"]}, Violation.BAD_NAMESPACE),
        ({"type": 2, "nsp": 1, "data": ["x"]}, Violation.BAD_NAMESPACE),
        ({"type": 2, "nsp": "admin", "data": ["x"]}, Violation.BAD_NAMESPACE),
        ({"type": 2, "nsp": "/\x01", "data": ["x"]}, Violation.BAD_NAMESPACE),
        ({"type": 2, "nsp": "/" + "é" * 128, "data": ["x"]}, Violation.BAD_NAMESPACE),
        ({**EVENT, "data": ["x"], "id": -1}, Violation.BAD_ACK_ID),
        ({**EVENT, "data": ["x"], "id": 10**15}, Violation.BAD_ACK_ID),
        ({**EVENT, "data": ["x"], "id": True}, Violation.BAD_ACK_ID),
        ({**EVENT, "data": ["x"], "id": "1"}, Violation.BAD_ACK_ID),
        ({"type": 3, "nsp": "/", "data": []}, Violation.BAD_ACK_ID),
        ({"type": 0, "nsp": "/", "id": 1}, Violation.BAD_ACK_ID),
        ({"type": 0, "nsp": "/", "data": []}, Violation.INVALID_PAYLOAD),
        ({"type": 1, "nsp": "/", "data": {}}, Violation.INVALID_PAYLOAD),
        ({"type": 3, "nsp": "/", "data": {}, "id": 1}, Violation.INVALID_PAYLOAD),
        ({"type": 4, "nsp": "/"}, Violation.INVALID_PAYLOAD),
        (EVENT, Violation.INVALID_PAYLOAD),
        ({**EVENT, "data": []}, Violation.INVALID_PAYLOAD),
        ({**EVENT, "data": [None]}, Violation.INVALID_PAYLOAD),
        ({**EVENT, "data": [b"x"]}, Violation.INVALID_PAYLOAD),
        ({**EVENT, "data": "x"}, Violation.INVALID_PAYLOAD),
        ({**EVENT, "data": ["connect"]}, Violation.RESERVED_EVENT),
    ],
)
def test_what_does_not_fit(parts: dict[str, Any], violation: Violation) -> None:
    assert feed_map(**parts) is violation


def test_nil_is_the_same_as_absent_and_other_keys_are_ignored() -> None:
    assert feed_map(type=0, nsp="/a", data=None, id=None, options={"x": 1}) == Packet(
        PacketType.CONNECT, "/a"
    )
    assert feed_map(type=1, nsp="/", data=None) == Packet(PacketType.DISCONNECT)
    assert feed_map(type=2, nsp="/", data=[5]) == Packet(PacketType.EVENT, data=[5])


@pytest.mark.clause("SIO-PARSER-2")
def test_text_is_refused_and_nothing_is_ever_pending() -> None:
    decoder = MsgpackParser().decoder(LIMITS, 1_000)
    assert decoder.feed_text(b'2["x"]') is Violation.WRONG_PARSER
    assert decoder.pending is None
    decoder.reset()
    assert isinstance(decoder.feed_binary(event_with("01")), Packet)


# Encoding


@pytest.mark.clause("SIO-PARSER-2")
def test_an_event_as_in_the_specification() -> None:
    assert encode(Packet(PacketType.EVENT, "/", 7, ["hello", b"\x01"])) == bytes.fromhex(
        "84 a4 74797065 02 a4 64617461 92 a5 68656c6c6f c4 01 01 a3 6e7370 a1 2f a2 6964 07"
    )
    assert encode(Packet(PacketType.DISCONNECT, "/a")) == bytes.fromhex("82 a4 74797065 01 a3 6e7370 a2 2f61")
    assert MsgpackParser().encode(Packet(PacketType.DISCONNECT)) == (encode(Packet(PacketType.DISCONNECT)),)


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    _secret: int = 5
    more: Any = field(default=b"\x01")


@pytest.mark.clause("SIO-PARSER-3")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(1970, 1, 1, 0, 0, 1), "d700 00000000000003e8"),  # noqa: DTZ001 - a time without a zone is the case
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "d700 0000000000000000"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), "d700 ffffffffffffffff"),
        (date(1970, 1, 1), "aa" + b"1970-01-01".hex()),
        ({1}, "9101"),
        (frozenset(), "90"),
        (MappingProxyType({"x": 1}), "81a17801"),
        ((1, 2), "920102"),
        (Colour.RED, "a3" + b"red".hex()),
        (UUID(int=0), "d924" + str(UUID(int=0)).encode().hex()),
        (Point(1), "82 a178 01 a4 6d6f7265 c40101"),
        (bytearray(b"x"), "c40178"),
        (memoryview(b"x"), "c40178"),
        (2**64 - 1, "cf" + "ff" * 8),
    ],
)
def test_values_that_are_encoded(value: Any, text: str) -> None:
    packed = encode(Packet(PacketType.ACK, "/", 1, [value]))
    assert bytes.fromhex("91" + text) in packed
    assert isinstance(feed(packed), Packet)


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Point,
        2**64,
        -(2**63) - 1,
        "\ud800",
        CIRCLE,
        1j,
        {1: 2},
        {b"x": 2},
        [({"a": [{None: 1}]},)],
        Point(1, more={1: 2}),
    ],
)
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(Packet(PacketType.EVENT, "/", None, ["x", value]))


# Whatever may come

KEYS = st.text(max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
    | st.datetimes(timezones=st.just(UTC)).map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
    ),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=20),
    max_leaves=30,
)


@given(st.lists(VALUES, max_size=5), st.none() | st.integers(0, 10**15 - 1))
def test_what_is_encoded_comes_back(args: list[Any], ack_id: int | None) -> None:
    packet = Packet(PacketType.EVENT, "/a", ack_id, ["name", *args])
    assert feed(encode(packet)) == packet


@given(st.binary(max_size=200))
def test_any_bytes_give_a_packet_or_a_violation(data: bytes) -> None:
    assert isinstance(feed(data), (Packet, Violation))


@given(st.lists(VALUES, max_size=5), st.integers(0), st.integers(0, 255))
def test_one_wrong_byte_gives_a_packet_or_a_violation(args: list[Any], at: int, byte: int) -> None:
    data = bytearray(encode(Packet(PacketType.EVENT, "/a", None, ["name", *args])))
    data[at % len(data)] = byte
    assert isinstance(feed(bytes(data)), (Packet, Violation))


@given(st.lists(VALUES, max_size=5))
def test_no_front_part_of_a_packet_is_one(args: list[Any]) -> None:
    data = encode(Packet(PacketType.EVENT, "/a", None, ["name", *args]))
    for end in range(len(data)):
        assert isinstance(feed(data[:end]), Violation)


@given(st.binary(max_size=100))
def test_reader_and_msgpack_agree(data: bytes) -> None:
    """What the reader takes, the msgpack package takes for the same, where the two mean the same."""
    try:
        value = read(data, 64)
    except ValueError:
        return
    theirs = msgpack.unpackb(data, timestamp=3, strict_map_key=False, ext_hook=lambda code, found: None)
    if b"\x00" not in data:  # neither of the forms of extension type 0
        assert repr(theirs) == repr(value)


# Mostly what begins a value that the package reads: few random bytes would get past the first.
HEADS = st.sampled_from(
    [0x00, 0x01, 0x80, 0x81, 0x90, 0x91, 0x92, 0xA0, 0xA1, 0xC0, 0xC1, 0xC3, 0xCC, 0xD9, 0xDC]
)
PLAIN = st.lists(HEADS, max_size=8).map(bytes) | st.binary(max_size=8)


@given(PLAIN, st.integers(1, 4))
def test_package_and_reader_take_the_same(data: bytes, depth: int) -> None:
    def outcome(function: Any) -> str:
        try:
            return repr(function(data, depth))
        except ValueError as error:
            return type(error).__name__

    assert outcome(read_value) == outcome(read)


@given(st.lists(VALUES, max_size=5))
def test_package_and_reader_take_packets_for_the_same(args: list[Any]) -> None:
    packed = encode(Packet(PacketType.EVENT, "/", None, ["x", *args]))
    assert repr(read_value(packed, 64)) == repr(read(packed, 64))


def test_reader_says_what_is_wrong() -> None:
    for data, error in ((b"\x91\x91\x90", TooDeep), (b"\xa1\xff", NotText), (b"\xc1", ValueError)):
        with pytest.raises(error):
            read(data, 2)


def test_a_missing_package_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from protocol.socketio import msgpack as subject

    monkeypatch.setitem(sys.modules, "msgpack", None)
    subject._package.cache_clear()
    with pytest.raises(ImportError, match="msgpack"):
        MsgpackParser()
