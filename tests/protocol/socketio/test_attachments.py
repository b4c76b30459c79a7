"""Binary packets: counts, placeholders, and what comes between; edge cases 135 and 147 to 150."""

from __future__ import annotations

import pytest

from protocol import Limits, Violation
from protocol.socketio.decoder import NEED_ATTACHMENTS
from protocol.socketio.packet import Packet, PacketType

from .decoding import PLACEHOLDER, accepted, binary_event, decoder, refused

V = Violation
EVENT = PacketType.EVENT


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"5",
            b"51",
            b"5a-",
            b"51.23-",
            b"5-",
            b'5-["x"]',
            b'50-["x"]',
            b'500-["x"]',
            b'5-1-["x"]',
            b'5--1-["x"]',
        ),
        *(
            b'5 1-["x"]',
            b'51 -["x"]',
            b'51e0-["x"]',
            b'50x1-["x"]',
            b'5+1-["x"]',
            b'5["a-b"]',
            b'5/a-b,["x"]',
        ),
        *(
            "5\u0661-[1]".encode(),
            "5²-[1]".encode(),
            b"6",
            b'6["-"]',
            b'51_0-["x"]',
            b"5" + b"1" * 16 + b"-[]",
        ),
    ],
)
def test_edge_147_illegal_attachments(text: bytes) -> None:
    assert refused(text) is V.ILLEGAL_ATTACHMENTS


def test_edge_148_number_of_attachments() -> None:
    subject = decoder()
    assert subject.feed_text(binary_event(10)) is NEED_ATTACHMENTS
    for number in range(9):
        assert subject.feed_binary(bytes([number])) is NEED_ATTACHMENTS
    packet = subject.feed_binary(b"\x09")
    assert packet == Packet(EVENT, "/", None, ["x", *(bytes([number]) for number in range(10))])
    assert refused(binary_event(11)) is V.TOO_MANY_ATTACHMENTS
    assert refused(binary_event(3), Limits(max_attachments=2)) is V.TOO_MANY_ATTACHMENTS


def test_cve_2026_33151_endless_attachments() -> None:
    assert refused(b'599999999-["x"]') is V.TOO_MANY_ATTACHMENTS


@pytest.mark.parametrize(
    "num",
    [
        b'"splice"',
        b"-1",
        b"1",
        b"1e9",
        b"0.5",
        b"0.0",
        b"null",
        b"true",
        b"false",
        b"[]",
        b"{}",
        b'"0"',
        b"9" * 30,
    ],
)
def test_edge_149_and_cve_2022_2421_placeholder_numbers(num: bytes) -> None:
    assert refused(b'51-["hello",' + PLACEHOLDER % num + b"]") is V.ILLEGAL_ATTACHMENTS


@pytest.mark.parametrize(
    "text",
    [
        b'51-["x"]',
        b'51-["x",{"_placeholder":true}]',
        b'51-["x",{"_placeholder":1,"num":0}]',
        b'51-["x",{"_placeholder":"true","num":0}]',
        b'51-["x",' + PLACEHOLDER % b"0" + b"," + PLACEHOLDER % b"0" + b"]",
        b'52-["x",' + PLACEHOLDER % b"0" + b"]",
        b'52-["x",' + PLACEHOLDER % b"0" + b"," + PLACEHOLDER % b"0" + b"]",
        b'52-["x",' + PLACEHOLDER % b"0" + b"," + PLACEHOLDER % b"2" + b"]",
        b'52-["x",' + PLACEHOLDER % b"0" + b"," + PLACEHOLDER % b"true" + b"]",
    ],
)
def test_placeholders_match_the_count_before_any_attachment_comes(text: bytes) -> None:
    assert refused(text) is V.ILLEGAL_ATTACHMENTS


def test_placeholders_in_any_place_and_order() -> None:
    subject = decoder()
    text = b'52-/a,7["x",{"k":[' + PLACEHOLDER % b"1" + b",null]}," + PLACEHOLDER % b"0" + b"]"
    assert subject.feed_text(text) is NEED_ATTACHMENTS
    assert subject.pending is not None
    assert subject.pending.namespace == "/a"
    assert subject.feed_binary(b"zero") is NEED_ATTACHMENTS
    assert subject.feed_binary(b"one") == Packet(EVENT, "/a", 7, ["x", {"k": [b"one", None]}, b"zero"])
    assert subject.pending is None


def test_placeholders_of_a_plain_event_are_left_alone() -> None:
    data = accepted(b'2["x",' + PLACEHOLDER % b"0" + b"]").data
    assert data == ["x", {"_placeholder": True, "num": 0}]


def test_edge_135_and_149_binary_without_header() -> None:
    assert decoder().feed_binary(b"\x01") is V.UNEXPECTED_BINARY


@pytest.mark.parametrize("text", [b'2["y"]', b"1", b"", b"garbage"])
def test_edge_149_text_between_header_and_attachment(text: bytes) -> None:
    subject = decoder()
    assert subject.feed_text(binary_event(1)) is NEED_ATTACHMENTS
    assert subject.feed_text(text) is V.UNEXPECTED_TEXT
    assert subject.pending is None
    assert subject.feed_binary(b"x") is V.UNEXPECTED_BINARY


def test_edge_150_reset_makes_the_decoder_usable_again() -> None:
    subject = decoder()
    subject.feed_text(binary_event(2))
    subject.feed_binary(b"x")
    subject.reset()
    assert subject.feed_text(b'2["y"]') == Packet(EVENT, "/", None, ["y"])


def test_attachments_together_are_bounded() -> None:
    subject = decoder(max_payload_bytes=10)
    subject.feed_text(binary_event(3))
    assert subject.feed_binary(b"x" * 4) is NEED_ATTACHMENTS
    assert subject.feed_binary(b"x" * 6) is NEED_ATTACHMENTS
    assert subject.feed_binary(b"x") is V.ATTACHMENTS_TOO_BIG
    assert subject.pending is None
    subject.feed_text(binary_event(1))
    assert isinstance(subject.feed_binary(b"x" * 10), Packet)
