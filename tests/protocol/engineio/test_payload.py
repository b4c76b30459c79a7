"""Polling bodies; edge cases 97 and 98."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Limits, Violation
from protocol.engineio.packet import Packet, PacketType, encode_packet
from protocol.engineio.payload import PACKETS_PER_PIECE, decode_payload, decode_pieces, encode_payload

from .test_packet import packets

LIMITS = Limits(packets_per_payload=10)


@given(
    st.lists(
        packets.filter(lambda packet: packet.binary or b"\x1e" not in packet.data), min_size=1, max_size=10
    )
)
def test_round_trip(sent: list[Packet]) -> None:
    body = encode_payload(encode_packet(packet) for packet in sent)
    assert decode_payload(body, LIMITS) == (sent, None)


@given(st.lists(st.binary(max_size=8), max_size=12).map(b"\x1e".join))
def test_any_bytes_give_packets_and_perhaps_a_violation(body: bytes) -> None:
    received, violation = decode_payload(body, LIMITS)
    assert violation is None or isinstance(violation, Violation)
    assert all(isinstance(packet, Packet) for packet in received)
    assert violation is not None or len(received) == body.count(b"\x1e") + 1


def test_edge_97_five_packets() -> None:
    body = b"0\x1e1\x1e2probe\x1e3probe\x1e4test"
    sent = [
        Packet(PacketType.OPEN),
        Packet(PacketType.CLOSE),
        Packet(PacketType.PING, b"probe"),
        Packet(PacketType.PONG, b"probe"),
        Packet(PacketType.MESSAGE, b"test"),
    ]
    assert encode_payload(map(encode_packet, sent)) == body
    assert decode_payload(body, LIMITS) == (sent, None)


@pytest.mark.parametrize("body", [b"{", b"{}", b'["a123", "a456"]'])
def test_edge_98_malformed_payloads(body: bytes) -> None:
    assert decode_payload(body, LIMITS) == ([], Violation.UNKNOWN_PACKET)


@pytest.mark.parametrize(
    ("bad", "violation"),
    [
        (b"", Violation.EMPTY_PACKET),
        (b"abc", Violation.UNKNOWN_PACKET),
        (b"b?", Violation.BAD_BASE64),
        (b"4\xff", Violation.BAD_TEXT),
    ],
)
def test_packets_before_the_bad_one_are_kept(bad: bytes, violation: Violation) -> None:
    assert decode_payload(b"4ok\x1e" + bad + b"\x1e4lost", LIMITS) == (
        [Packet(PacketType.MESSAGE, b"ok")],
        violation,
    )


def test_empty_body_is_an_empty_packet() -> None:
    assert decode_payload(b"", LIMITS) == ([], Violation.EMPTY_PACKET)


def test_number_of_packets_is_bounded() -> None:
    received, violation = decode_payload(b"\x1e".join([b"6"] * 10), LIMITS)
    assert (len(received), violation) == (10, None)
    assert decode_payload(b"\x1e".join([b"6"] * 11), LIMITS) == ([], Violation.TOO_MANY_PACKETS)


@pytest.mark.parametrize("bad", [b"", b"\x1eabc\x1e6"])
def test_a_long_body_comes_in_pieces(bad: bytes) -> None:
    body = b"\x1e".join([b"6"] * (2 * PACKETS_PER_PIECE + 5)) + bad
    violation = Violation.UNKNOWN_PACKET if bad else None
    pieces = list(decode_pieces(body, Limits()))
    assert [len(packets) for packets, _ in pieces] == [PACKETS_PER_PIECE, PACKETS_PER_PIECE, 5]
    assert [found for _, found in pieces] == [None, None, violation]
    assert decode_payload(body, Limits()) == (
        [Packet(PacketType.NOOP)] * (2 * PACKETS_PER_PIECE + 5),
        violation,
    )
