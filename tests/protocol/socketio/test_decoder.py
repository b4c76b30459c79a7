"""Malformed and hostile Socket.IO packets, each with its outcome; edge cases 103 to 147."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import Limits, Violation
from protocol.socketio.decoder import NEED_ATTACHMENTS, decode_event
from protocol.socketio.packet import Packet, PacketType

from .decoding import PLACEHOLDER, accepted, decoder, refused

V = Violation
EVENT = PacketType.EVENT


@pytest.mark.parametrize(
    "text", [b"", b" ", b"abc", b"999", b"7", b"-1", b"\x00", b"/", b":", "٢[]".encode()]
)
def test_edge_106_and_147_unknown_type(text: bytes) -> None:
    assert refused(text) is V.UNKNOWN_TYPE


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"0[]",
            b'0"x"',
            b'0/admin,"invalid"',
            b"0true",
            b"0null",
            b"01.5",
            b"0{",
            b"0/a,b",
            b"0 ",
            b"0 {}",
        ),
        *(b"0/a, {}", b"0{}x", b"0{}{}", b"1{}", b"1/admin,{}", b"1null", b'1"x"', b"1[]", b"1 "),
        *(
            b"2",
            b"2/a,",
            b"212",
            b"2{}",
            b"2[]",
            b'2"x"',
            b"2true",
            b"2null",
            b"2[true]",
            b"2[false]",
            b"2[null]",
        ),
        *(b'2[{"a":1}]', b'2[{"toString":"foo"}]', b"2[[]]", b'2["x"', b'2["x"]]', b'2["x",]', b"2[NaN]"),
        *(b'2["x",NaN]', b'2["x",Infinity]', b'2["x",-Infinity]', b'2["x",1e999]', b'2["x",01]', b"2['x']"),
        *(b'2["x","\\ud800"]', b'2["x","\\udc00\\ud800"]', b'2["x","\x01"]', b'\x32\xef\xbb\xbf["x"]'),
        *(
            b'2 ["x"]',
            b'2\t["x"]',
            b'2\n["x"]',
            b'2\r["x"]',
            b'21 ["x"]',
            b'2abc["x"]',
            b'2-1["x"]',
            b'2+1["x"]',
        ),
        *(b'21.5["x"]', b'2/a,1 ["x"]', "2\u0661[1]".encode(), "2²[1]".encode()),
        *(b"31", b"31{}", b'31"x"', b"31null", b"31true"),
        *(b'4["some","data"', b"4", b"4[]", b"41.5", b"4true", b"4null"),
        *(b'51-{"a":{"_placeholder":true,"num":0}}', b"51-", b"51-1", b"51-/a,", b"61-1", b"61-1{}"),
        b'51-[{"_placeholder":true,"num":0}]',
        b"61-1" + PLACEHOLDER % b"0",
    ],
)
def test_edge_132_and_147_invalid_payload(text: bytes) -> None:
    assert refused(text) is V.INVALID_PAYLOAD


@pytest.mark.parametrize(
    "name", ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
)
def test_reserved_names(name: str) -> None:
    assert refused(f'2["{name}"]'.encode()) is V.RESERVED_EVENT
    assert refused(f'2/a,1["{name}","x"]'.encode()) is V.RESERVED_EVENT
    assert refused(f'51-["{name}",{{"_placeholder":true,"num":0}}]'.encode()) is V.RESERVED_EVENT
    assert decode_event(f'42["{name}"]'.encode(), 15, 64) is None


def test_edge_136_error_is_a_name_like_any_other() -> None:
    assert accepted(b'2["error","x"]').data == ["error", "x"]


@pytest.mark.parametrize("text", [b"3[]", b'3["x"]', b"3", b"61-[" + PLACEHOLDER % b"0" + b"]"])
def test_ack_without_id(text: bytes) -> None:
    assert refused(text) is V.BAD_ACK_ID


@pytest.mark.parametrize("text", [b"00", b"01{}", b"0/a,1", b"10", b"1/a,5", b'41"x"'])
def test_ids_where_none_belong(text: bytes) -> None:
    assert refused(text) is V.BAD_ACK_ID


def test_digits_of_an_id_are_bounded() -> None:
    assert accepted(b"2" + b"9" * 15 + b'["x"]').ack_id == 10**15 - 1
    assert accepted(b'2007["x"]').ack_id == 7
    assert refused(b"2" + b"9" * 16 + b'["x"]') is V.BAD_ACK_ID
    assert decode_event(b"42" + b"9" * 15 + b'["x"]', 15, 64) == (10**15 - 1, ["x"])
    assert decode_event(b"42" + b"9" * 16 + b'["x"]', 15, 64) is None


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        (b"2" + b"1" * 1_000_000, V.BAD_ACK_ID),
        (b"5" + b"1" * 1_000_000, V.ILLEGAL_ATTACHMENTS),
        (b"5" + b"1" * 1_000_000 + b"-[]", V.ILLEGAL_ATTACHMENTS),
        (b"0/" + b"a" * 1_000_000, V.BAD_NAMESPACE),
        (b'2["x",' + b"1" * 1_000_000 + b"]", V.INVALID_PAYLOAD),
        (b"2" + b"[" * 1_000_000, V.TOO_DEEP),
        (b'2["x",' + b'{"a":' * 150_000 + b"1" + b"}" * 150_000 + b"]", V.TOO_DEEP),
        (b'2["' + b"\\" * 1_000_001 + b'"]', V.INVALID_PAYLOAD),
    ],
    ids=["id", "count", "closed count", "namespace", "number", "open brackets", "objects", "backslashes"],
)
def test_cve_2020_36049_huge_inputs_cost_bounded_time(text: bytes, violation: Violation) -> None:
    started = perf_counter()
    assert refused(text) is violation
    assert decode_event(b"4" + text, 15, 64) is None
    # Linear work takes some 10 ms; anything quadratic in a megabyte takes minutes.
    assert perf_counter() - started < 5


@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_depth_at_the_limit_and_one_beyond(left: bytes, right: bytes) -> None:
    def event(depth: int) -> bytes:  # the event itself is one level
        return b'2["x",' + left * (depth - 1) + b"1" + right * (depth - 1) + b"]"

    assert accepted(event(64)).type is EVENT
    assert refused(event(65)) is V.TOO_DEEP
    assert decode_event(b"4" + event(64), 15, 64) is not None
    assert decode_event(b"4" + event(65), 15, 64) is None
    deepest = Limits(json_depth=254)
    assert accepted(event(254), deepest).type is EVENT
    assert refused(event(255), deepest) is V.TOO_DEEP


def test_deepest_attachment_is_put_back() -> None:
    subject = decoder(Limits(json_depth=254))
    text = b'51-["x",' + b"[" * 252 + PLACEHOLDER % b"0" + b"]" * 252 + b"]"
    assert subject.feed_text(text) is NEED_ATTACHMENTS
    assert isinstance(subject.feed_binary(b"x"), Packet)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'20["x"]', "x"),
        (b'2[""]', ""),
        (b"2[0]", 0),
        (b"2[-1]", -1),
        (b"2[1.5]", 1.5),
        (b'2["__proto__"]', "__proto__"),
        (b'2["\\u0000\\r\\n"]', "\x00\r\n"),
        ('2["é😀"]'.encode(), "é😀"),
    ],
)
def test_odd_but_legal_names(text: bytes, name: object) -> None:
    assert accepted(text).data == [name]


def test_integers_beyond_64_bits_become_floats() -> None:
    assert accepted(b'2["x",18446744073709551615,18446744073709551616]').data == [
        "x",
        2**64 - 1,
        float(2**64),
    ]


def test_last_of_duplicate_keys_holds() -> None:
    assert accepted(b'2["x",{"a":1,"a":2}]').data == ["x", {"a": 2}]


@pytest.mark.parametrize(
    ("text", "namespace"),
    [
        *((b"0", "/"), (b"0/", "/"), (b"0/,", "/"), (b"0/,{}", "/"), (b"0/custom", "/custom")),
        *(
            (b"0/custom,", "/custom"),
            (b"0//", "//"),
            (b"0/__proto__", "/__proto__"),
            (b"0/a?token=1", "/a?token=1"),
        ),
        *((b"0/a?b,{}", "/a?b"), (b"0/a b", "/a b"), (b'0/a{"b":1}', '/a{"b":1}'), (b"0/-1-", "/-1-")),
        *(("0/ä\u00a0\u200d😀".encode(), "/ä\u00a0\u200d😀"), (b"0/" + b"a" * 255, "/" + "a" * 255)),
    ],
)
def test_edge_104_and_107_namespaces(text: bytes, namespace: str) -> None:
    assert accepted(text).namespace == namespace
    assert accepted(b"1" + text[1:].partition(b",")[0]).namespace == namespace


@pytest.mark.parametrize(
    "name", [b"/a\x00", b"/a\r\nSet-Cookie: x", b"/\x1b[0m", b"/\x7f", "/\x85".encode(), b"/" + b"a" * 256]
)
def test_namespaces_that_are_refused(name: bytes) -> None:
    assert refused(b"0" + name) is V.BAD_NAMESPACE
    assert refused(b"2" + name + b',["x"]') is V.BAD_NAMESPACE


def test_length_of_a_namespace_is_counted_in_bytes() -> None:
    assert refused(b"0/" + "ä".encode() * 128) is V.BAD_NAMESPACE


@pytest.mark.parametrize(
    "text",
    [
        b"0/\xff",
        b'2["\xff"]',
        b'2["x",{"\xc3":1}]',
        b"0\xff",
        b'2["\xed\xa0\x80"]',
        b"1\xff",
        b"\xff",
        b"5\xff-",
        b"2\xff1[1]",
    ],
)
def test_text_that_is_not_utf8(text: bytes) -> None:
    assert refused(text) is V.BAD_TEXT
    assert V.BAD_TEXT.close_code == 1007


def test_edge_103_connect_data() -> None:
    assert accepted(b'0{"token":"123"}').data == {"token": "123"}
    assert accepted(b"0").data is None
    assert accepted(b"0{}").data == {}
    deep = b'{"a":' * 65 + b"1" + b"}" * 65
    assert refused(b"0" + deep) is V.TOO_DEEP


@pytest.mark.parametrize(
    "text",
    [b"", b"4", b"42", b"421", b"42/", b"420", b'42/a,["x"]', b"42[]", b'42["x"', b"42[1]", b'42 ["x"]'],
)
def test_fast_path_leaves_the_rest_to_the_decoder(text: bytes) -> None:
    assert decode_event(text, 15, 64) is None


# Bytes near the grammar: pieces of packets in any order, and noise.
_pieces = st.sampled_from(
    [
        *(
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
            b"6",
            b"51-",
            b"-",
            b"/",
            b"/a,",
            b",",
            b"12",
            b" ",
            b"[",
            b"]",
        ),
        *(b'["x"]', b'["x",' + PLACEHOLDER % b"0" + b"]", b"[" + PLACEHOLDER % b"0" + b"]", b'{"a":1}', b'"'),
        *(b"\\", b"null", b"\xff"),
    ]
)
_texts = st.lists(_pieces | st.binary(max_size=3), max_size=7).map(b"".join)


@given(st.lists(st.tuples(st.booleans(), _texts), max_size=6))
@example([(True, b'51-["x",{"_placeholder":true,"num":0}]'), (False, b"x")])
def test_any_messages_give_a_value(messages: list[tuple[bool, bytes]]) -> None:
    subject = decoder()
    for is_text, data in messages:
        waiting = subject.pending
        outcome = subject.feed_text(data) if is_text else subject.feed_binary(data)
        assert (subject.pending is not None) == (outcome is NEED_ATTACHMENTS)
        if isinstance(outcome, Packet):
            assert outcome.type not in (PacketType.BINARY_EVENT, PacketType.BINARY_ACK)
            assert (waiting is None) == is_text
        elif isinstance(outcome, Violation):
            return


@given(_texts)
@example(b'2["x"]')
@example(b'212["x"]')
@example(b"2")
def test_fast_path_agrees_with_the_decoder(text: bytes) -> None:
    fast = decode_event(b"42" + text, 15, 64)
    if fast is not None:
        assert decoder().feed_text(b"2" + text) == Packet(EVENT, "/", *fast)
    else:
        slow = decoder().feed_text(b"2" + text)
        # Only another namespace or a number for a name is left to the decoder.
        if isinstance(slow, Packet):
            assert text.startswith(b"/") or not isinstance(slow.data[0], str)
