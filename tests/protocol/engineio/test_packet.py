"""Engine.IO packets; edge cases 96 and 99."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import Violation
from protocol.engineio.packet import Packet, PacketType, decode_packet, encode_binary, encode_packet

packets = st.builds(
    Packet, st.sampled_from(PacketType), st.text(max_size=40).map(str.encode), st.just(False)
) | st.builds(Packet, st.just(PacketType.MESSAGE), st.binary(max_size=40), st.just(True))


@given(packets)
def test_round_trip(packet: Packet) -> None:
    assert decode_packet(encode_packet(packet)) == packet


@given(st.binary(max_size=40))
def test_any_bytes_give_a_packet_or_a_violation(text: bytes) -> None:
    assert isinstance(decode_packet(text), (Packet, Violation))


@given(st.binary(max_size=40))
def test_base64_without_padding(data: bytes) -> None:
    bare = b64encode(data).rstrip(b"=")
    assert decode_packet(b"b" + bare) == Packet(PacketType.MESSAGE, data, binary=True)


BASE64 = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}={0,2}|[A-Za-z0-9+/]{3}=?)?")


@given(st.text(alphabet="AZaz09+/=- \n", max_size=12))
@example("AQID=")
@example("AQID====")
@example("AQI==")
@example("A===")
def test_base64_is_accepted_exactly_as_the_grammar_says(text: str) -> None:
    accepted = decode_packet(b"b" + text.encode()) is not Violation.BAD_BASE64
    assert accepted is (BASE64.fullmatch(text) is not None)


def test_edge_96_parser_vectors() -> None:
    assert encode_packet(Packet(PacketType.MESSAGE, b"test")) == b"4test"
    assert decode_packet(b"") is Violation.EMPTY_PACKET
    assert decode_packet(b"a123") is Violation.UNKNOWN_PACKET


def test_edge_99_binary_in_base64() -> None:
    assert encode_binary(b"\x01\x02\x03\x04") == b"bAQIDBA=="
    assert decode_packet(b"bAQIDBA==") == Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04", binary=True)


def test_edge_63_base64_text_is_binary() -> None:
    assert decode_packet(b"bAQID") == Packet(PacketType.MESSAGE, b"\x01\x02\x03", binary=True)


@pytest.mark.parametrize(
    "text",
    [b"bA", b"bA===", b"b====", b"bAQ=D", b"bAQID=AQID", b"b AQID", b"bAQID\n", b"bAQ-_", b"b!", b"bAAAAA"],
)
def test_base64_garbage_is_refused(text: bytes) -> None:
    assert decode_packet(text) is Violation.BAD_BASE64


@pytest.mark.parametrize("text", [b"7", b"9", b"-", b" 4", b"\x00", b"B", b"/", b":"])
def test_unknown_types(text: bytes) -> None:
    assert decode_packet(text) is Violation.UNKNOWN_PACKET


@pytest.mark.parametrize("text", [b"4\xff", b"6\xc3", b"\xff", b"b\xff", "٤".encode()[:1]])
def test_text_that_is_not_utf8(text: bytes) -> None:
    assert decode_packet(text) is Violation.BAD_TEXT


def test_a_digit_of_another_script_is_no_type() -> None:
    assert decode_packet("٤hi".encode()) is Violation.UNKNOWN_PACKET
