"""Frames in and out: RFC 6455, against a naive builder and against wsproto as the client."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage

from protocol import CloseCode, Limits, Violation
from protocol.websocket import (
    BINARY,
    CLOSE,
    FRAMES_PER_FEED,
    PING,
    PONG,
    TEXT,
    BinaryMessage,
    Control,
    ControlFrame,
    FrameError,
    FrameReader,
    Received,
    apply_mask,
    build_close,
    build_frame,
)

from .frames import client_frame

MAX = 100_000


def reader(max_bytes: int = MAX, fragments: int = 8) -> FrameReader:
    return FrameReader(max_bytes, Limits(fragments_per_message=fragments))


def feed(*pieces: bytes, max_bytes: int = MAX, fragments: int = 8) -> list[Received]:
    frames = reader(max_bytes, fragments)
    return [item for piece in pieces for item in frames.feed(piece)]


def single_error(*pieces: bytes, max_bytes: int = MAX, fragments: int = 8) -> FrameError:
    *before, error = feed(*pieces, max_bytes=max_bytes, fragments=fragments)
    assert not any(isinstance(item, FrameError) for item in before)
    assert isinstance(error, FrameError)
    assert 1000 <= error.close_code <= 1015
    return error


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 1023, 1024, 1025, 65535, 65536, 65537])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_whole_frames_of_every_length_form(size: int, opcode: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    (received,) = feed(client_frame(opcode, payload))
    assert received == payload
    assert isinstance(received, BinaryMessage) is (opcode == BINARY)


@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
def test_mask_is_xor_byte_by_byte(payload: bytes, mask: bytes) -> None:
    assert apply_mask(payload, mask) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def test_many_frames_in_one_chunk_keep_order() -> None:
    chunk = b"".join(client_frame(TEXT, b"4%d" % number) for number in range(50))
    assert feed(chunk) == [b"4%d" % number for number in range(50)]


def test_ping_pong_and_close_are_reported() -> None:
    received = feed(
        client_frame(PING, b"hi") + client_frame(PONG) + client_frame(CLOSE, b"\x03\xe8bye") + b"rest"
    )
    assert received == [
        ControlFrame(Control.PING, b"hi"),
        ControlFrame(Control.PONG),
        ControlFrame(Control.CLOSE, b"bye", 1000),
    ]


def test_close_without_code_is_1005() -> None:
    assert feed(client_frame(CLOSE)) == [ControlFrame(Control.CLOSE, b"", 1005)]


def test_data_after_close_is_ignored() -> None:
    frames = reader()
    frames.feed(client_frame(CLOSE))
    assert frames.feed(client_frame(TEXT, b"late")) == []
    assert not frames.mid_frame


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 4999])
def test_legal_close_codes(code: int) -> None:
    (received,) = feed(client_frame(CLOSE, code.to_bytes(2, "big")))
    assert received == ControlFrame(Control.CLOSE, b"", code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_illegal_close_codes_are_1002(code: int) -> None:
    error = single_error(client_frame(CLOSE, code.to_bytes(2, "big")))
    assert (error.violation, error.close_code) == (Violation.BAD_FRAME, 1002)


def test_close_payload_of_one_byte_is_1002() -> None:
    assert single_error(client_frame(CLOSE, b"\x03")).close_code == 1002


def test_close_reason_that_is_not_utf8_is_1007() -> None:
    error = single_error(client_frame(CLOSE, b"\x03\xe8\xff"))
    assert (error.violation, error.close_code) == (Violation.BAD_TEXT, 1007)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x81\x02hi", id="unmasked"),
        pytest.param(b"\x81\x7e\x00\x80", id="unmasked with a long length"),
        pytest.param(b"\x81\x7f" + b"\xff" * 8, id="unmasked with a very long length"),
        *(pytest.param(client_frame(TEXT | bit, b"x"), id=f"rsv {bit:#x}") for bit in (0x40, 0x20, 0x10)),
        *(pytest.param(client_frame(0x80 | code), id=f"opcode {code}") for code in (3, 4, 5, 6, 7)),
        *(pytest.param(client_frame(0x80 | code), id=f"opcode {code}") for code in (11, 12, 13, 14, 15)),
        *(pytest.param(client_frame(code), id=f"fragmented control {code}") for code in (8, 9, 10)),
        *(pytest.param(client_frame(code, b"x" * 126), id=f"long {code:#x}") for code in (CLOSE, PING, PONG)),
        pytest.param(client_frame(0x80, b"x"), id="final continuation of nothing"),
        pytest.param(client_frame(0x00, b"x"), id="continuation of nothing"),
        pytest.param(client_frame(0x01, b"x") + client_frame(TEXT, b"x"), id="text inside a message"),
        pytest.param(client_frame(0x01, b"x") + client_frame(0x02, b"x"), id="binary inside a message"),
        pytest.param(client_frame(TEXT, b"x", width=2), id="2-byte length for 1"),
        pytest.param(client_frame(TEXT, b"x" * 125, width=2), id="2-byte length for 125"),
        pytest.param(client_frame(TEXT, b"x" * 200, width=8), id="8-byte length for 200"),
        pytest.param(client_frame(0x01, b"x", width=8), id="8-byte length for a fragment of 1"),
        pytest.param(b"\x81\xff\x80" + bytes(7) + b"mask", id="length with the top bit"),
        pytest.param(b"\x81\xff" + b"\xff" * 8 + b"mask", id="length with all bits"),
    ],
)
def test_broken_framing_is_1002(frame: bytes) -> None:
    error = single_error(frame)
    assert (error.violation, error.close_code) == (Violation.BAD_FRAME, CloseCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("length", [MAX + 1, 2**31, 2**62, 2**63 - 1])
def test_announced_size_is_refused_before_it_arrives(length: int) -> None:
    error = single_error(b"\x82\xff" + length.to_bytes(8, "big"))
    assert (error.violation, error.close_code) == (Violation.MESSAGE_TOO_BIG, 1009)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_long_control_frame_is_refused_before_it_arrives(opcode: int) -> None:
    assert single_error(client_frame(opcode, b"x" * 126)[:4]).close_code == 1002


def test_message_of_exactly_the_bound_passes() -> None:
    assert feed(client_frame(TEXT, b"x" * 126), max_bytes=126) == [b"x" * 126]
    assert single_error(client_frame(TEXT, b"x" * 127), max_bytes=126).close_code == 1009


def test_fragments_are_joined() -> None:
    received = feed(client_frame(0x01, b"ab"), client_frame(0x00, b""), client_frame(0x80, b"cd"))
    assert received == [b"abcd"]
    (binary,) = feed(client_frame(0x02, b"\xff"), client_frame(0x80, b"\x00"))
    assert isinstance(binary, BinaryMessage)
    assert binary == b"\xff\x00"


def test_empty_fragments_make_an_empty_message() -> None:
    assert feed(client_frame(0x01), client_frame(0x80), client_frame(TEXT, b"next")) == [b"", b"next"]


def test_control_frames_between_fragments() -> None:
    frames = reader()
    assert frames.feed(client_frame(0x01, b"a") + client_frame(PING, b"p")) == [
        ControlFrame(Control.PING, b"p")
    ]
    assert frames.mid_frame
    assert frames.feed(client_frame(0x80, b"b")) == [b"ab"]
    assert not frames.mid_frame


def test_close_between_fragments_ends_the_stream() -> None:
    assert feed(client_frame(0x01, b"a") + client_frame(CLOSE) + client_frame(0x80, b"b")) == [
        ControlFrame(Control.CLOSE, b"", 1005)
    ]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_may_be_split_over_fragments(cut: int) -> None:
    smile = "😀".encode()
    assert feed(client_frame(0x01, smile[:cut]), client_frame(0x80, smile[cut:])) == [smile]


@pytest.mark.parametrize(
    "parts", [(b"\xf0\x9f", b"\x41"), (b"\xff", b""), (b"ok", b"\xf0\x9f"), (b"\xed\xa0", b"\x80")]
)
def test_invalid_utf8_over_fragments_is_1007(parts: tuple[bytes, bytes]) -> None:
    error = single_error(client_frame(0x01, parts[0]), client_frame(0x80, parts[1]))
    assert (error.violation, error.close_code) == (Violation.BAD_TEXT, 1007)


def test_fragments_together_are_bounded_before_the_last_arrives() -> None:
    first = client_frame(0x02, b"x" * 60)
    assert feed(first, client_frame(0x80, b"x" * 40), max_bytes=100) == [b"x" * 100]
    header_only = client_frame(0x80, b"x" * 41)[:2]
    assert single_error(first, header_only, max_bytes=100).close_code == 1009


def test_half_characters_count_toward_the_bound() -> None:
    smile = "😀".encode()
    error = single_error(client_frame(0x01, smile[:3]), client_frame(0x80, smile[3:] + b"x"), max_bytes=4)
    assert error.close_code == 1009


def test_number_of_fragments_is_bounded() -> None:
    fine = [client_frame(0x01)] + [client_frame(0x00)] * 6 + [client_frame(0x80)]
    assert feed(*fine, fragments=8) == [b""]
    error = single_error(*fine[:-1], client_frame(0x00), client_frame(0x00), fragments=8)
    assert (error.violation, error.close_code) == (Violation.TOO_MANY_FRAGMENTS, 1008)


def test_what_was_held_is_let_go_after_an_error() -> None:
    frames = reader()
    frames.feed(client_frame(0x01, b"x"))
    assert frames.mid_frame
    frames.feed(client_frame(TEXT, b"x"))
    assert not frames.mid_frame
    assert frames.feed(client_frame(0x80, b"x")) == []


def test_messages_before_an_error_are_kept() -> None:
    first, error = feed(client_frame(TEXT, b"good") + b"\xff\xff" + bytes(12))
    assert first == b"good"
    assert isinstance(error, FrameError)


def test_mid_frame_follows_the_input() -> None:
    frames = reader()
    frame = client_frame(TEXT, b"x" * 200)
    for cut in (1, 2, 3, 4, 8, 50):
        assert frames.feed(frame[:cut]) == []
        assert frames.mid_frame
        assert frames.feed(frame[cut:]) == [b"x" * 200]
        assert not frames.mid_frame


def test_a_trickled_megabyte_costs_linear_time() -> None:
    def trickle(size: int) -> float:
        frames = reader(max_bytes=size)
        frame = client_frame(BINARY, bytes(size), width=8)
        started = time.process_time()
        for at in range(0, len(frame) - 64, 64):
            assert not frames.feed(frame[at : at + 64])
        (message,) = frames.feed(frame[at + 64 :])
        assert message == bytes(size)
        return time.process_time() - started

    trickle(100_000)
    # Quadratic cost would be a hundredfold. The process's own time: on a busy machine the short run has the
    # core for itself, the long one has not.
    assert min(trickle(1_000_000) for _ in range(3)) < 50 * min(trickle(100_000) for _ in range(3))


# Frames that are legal, damaged, or noise: what comes out may not depend on how it was cut.
_first_byte = st.sampled_from((0x00, 0x01, 0x02, 0x80, TEXT, BINARY, CLOSE, PING, PONG)) | st.integers(0, 255)
_payload = st.binary(max_size=140) | st.text(max_size=40).map(str.encode)
_frame = st.builds(client_frame, _first_byte, _payload, st.binary(min_size=4, max_size=4))
_stream = st.lists(_frame | st.binary(max_size=20), max_size=12).map(b"".join)


@given(_stream, st.data())
def test_cuts_do_not_matter_and_nothing_raises(stream: bytes, data: st.DataObject) -> None:
    whole = feed(stream, max_bytes=300)
    assert feed(*(stream[at : at + 1] for at in range(len(stream))), max_bytes=300) == whole
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    bounds = [0, *cuts, len(stream)]
    assert feed(*(stream[a:b] for a, b in pairwise(bounds)), max_bytes=300) == whole
    kinds = [type(item) for item in whole]
    assert FrameError not in kinds[:-1]


@given(
    st.lists(
        st.one_of(
            st.builds(TextMessage, st.text(max_size=300), st.booleans(), st.just(True)),
            st.builds(BytesMessage, st.binary(max_size=300), st.booleans(), st.just(True)),
            st.builds(Ping, st.binary(max_size=125)),
        ),
        max_size=10,
    )
)
def test_reads_what_wsproto_sends_as_client(events: list[Message | Ping]) -> None:
    peer = Connection(ConnectionType.CLIENT)
    expected: list[Received] = []
    joined: list[bytes] | None = None
    stream = b""
    kind: type[object] = Ping
    for event in events:
        if isinstance(event, Ping):
            expected.append(ControlFrame(Control.PING, bytes(event.payload)))
        else:
            if joined is not None and type(event) is not kind:
                continue  # inside a message wsproto would send another kind as its continuation
            kind = type(event)
            part = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
            joined = [*(joined or []), part]
            if event.message_finished:
                message = b"".join(joined)
                expected.append(message if kind is TextMessage else BinaryMessage(message))
                joined = None
        stream += peer.send(event)
    received = feed(stream, fragments=100)
    assert received == expected
    assert [type(item) for item in received] == [type(item) for item in expected]


@given(st.binary(max_size=70_000), st.sampled_from((TEXT, BINARY)))
def test_wsproto_reads_what_is_built(payload: bytes, opcode: int) -> None:
    if opcode == TEXT:
        payload = payload.decode(errors="ignore").encode()
    peer = Connection(ConnectionType.CLIENT)
    peer.receive_data(build_frame(opcode, payload))
    parts = [event.data for event in peer.events() if isinstance(event, (TextMessage, BytesMessage))]
    assert b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts) == payload


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_built_frames_have_the_shortest_length(size: int) -> None:
    frame = build_frame(BINARY, bytes(size))
    overhead = 2 if size < 126 else 4 if size < 65536 else 10
    assert len(frame) == size + overhead


def test_close_reason_is_cut_between_characters() -> None:
    frame = build_close(1000, "ä" * 100)
    assert len(frame) <= 2 + 125
    assert frame[4:].decode() == "ä" * 61
    peer = Connection(ConnectionType.CLIENT)
    peer.receive_data(frame)
    assert list(peer.events()) == [CloseConnection(1000, "ä" * 61)]


def test_a_flood_is_read_in_parts() -> None:
    """Also behind bytes that came before, with more between the parts, and a frame that is cut at the end."""
    frame = client_frame(PING, b"p")
    frames = FrameReader(MAX, Limits(), frame * 2)
    sizes = [len(frames.feed(frame * FRAMES_PER_FEED + frame[:3]))]
    assert frames.unread
    assert not frames.mid_frame
    sizes.append(len(frames.feed(frame[3:] + frame * FRAMES_PER_FEED + frame[:3])))
    while frames.unread:
        sizes.append(len(frames.feed()))
    assert sizes == [FRAMES_PER_FEED, FRAMES_PER_FEED, 3]
    assert frames.mid_frame
    assert len(frames.feed(frame[3:])) == 1


def test_a_part_that_holds_all_leaves_nothing() -> None:
    frames = reader()
    assert len(frames.feed(client_frame(PING, b"p") * FRAMES_PER_FEED)) == FRAMES_PER_FEED
    assert not frames.unread
    assert not frames.mid_frame


def test_frames_that_complete_nothing_count_too() -> None:
    frames = reader(fragments=1_000)
    assert frames.feed(client_frame(0x01) + client_frame(0x00) * FRAMES_PER_FEED) == []
    assert frames.unread == client_frame(0x01) + client_frame(0x00) * FRAMES_PER_FEED
    assert frames.feed() == []
    assert not frames.unread


def test_nothing_is_kept_behind_an_error_in_a_later_part() -> None:
    frames = reader()
    assert len(
        frames.feed(client_frame(PONG) * FRAMES_PER_FEED + client_frame(0x83) + client_frame(PONG))
    ) == (FRAMES_PER_FEED)
    (error,) = frames.feed()
    assert isinstance(error, FrameError)
    assert not frames.unread
    assert frames.feed(client_frame(PONG)) == []
