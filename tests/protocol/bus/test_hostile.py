"""What is no message is none, whoever sent it; and what has no form on the bus is refused."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import msgpack
import orjson
import pytest

from protocol.bus import classic, streams
from protocol.bus.channels import ClassicChannels, ClusterChannels
from protocol.bus.classic import ClassicRequest, RequestType
from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.commands import write_command
from protocol.bus.sharded import read_published
from protocol.bus.values import dump, dump_text, pack, read_any

DEPTH = 64
OPTS = {"rooms": [], "except": []}
PACKET = {"type": 2, "data": ["ev"]}
DEEP = b"\x91" * 100 + b"\xc0"


@pytest.mark.parametrize("body", [b"", b"{", b"\xc1", b"{}x", DEEP, b'{"a":' + b"[" * 99 + b"]" * 99 + b"}"])
def test_bytes_that_are_no_value(body: bytes) -> None:
    assert classic.read_broadcast(body, DEPTH) is None
    assert classic.read_request(body, DEPTH) is None
    assert classic.read_response(body, DEPTH) is None
    assert read_published(body, DEPTH) is None
    assert streams.read_session(b64encode(body), DEPTH) is None


@pytest.mark.parametrize(
    "value",
    [
        5,
        [],
        ["u", PACKET],
        [5, PACKET, OPTS],
        ["u", {**PACKET, "type": 5}, OPTS],
        ["u", PACKET, []],
        ["u", {**PACKET, "nsp": 5}, OPTS],
    ],
)
def test_values_that_are_no_broadcast(value: Any) -> None:
    assert classic.read_broadcast(msgpack.packb(value), DEPTH) is None


def test_a_broadcast_without_a_namespace_is_for_the_default_one() -> None:
    found = classic.read_broadcast(msgpack.packb(["u", PACKET, OPTS]), DEPTH)
    assert found is not None
    assert found.namespace == "/"


@pytest.mark.parametrize(
    "value",
    [
        {"type": "5"},
        {"type": 10},
        {"type": 1},
        {"type": 1, "requestId": 5},
        {"type": 1, "requestId": "r", "uid": 5},
        {"type": 0, "requestId": "r", "rooms": 5},
        {"type": 2},
        {"type": 2, "sid": "x"},
        {"type": 2, "sid": 5, "room": "r"},
        {"type": 3, "opts": OPTS},
        {"type": 4},
        {"type": 5, "requestId": "r"},
        {"type": 6},
        {"type": 7, "requestId": "r", "packet": PACKET},
        {"type": 7, "requestId": "r", "packet": 5, "opts": OPTS},
    ],
)
def test_values_that_are_no_request(value: Any) -> None:
    assert classic.read_request(orjson.dumps(value), DEPTH) is None


def test_requests_that_are_no_maps() -> None:
    assert classic.read_request(b"\x90", DEPTH) is None
    assert classic.read_response(b"\x90", DEPTH) is None


def test_requests_of_old_nodes_name_a_socket() -> None:
    found = classic.read_request(orjson.dumps({"type": 4, "sid": "x", "close": True}), DEPTH)
    assert found == ClassicRequest(type=RequestType.REMOTE_DISCONNECT, sid="x", close=True)


def test_requests_without_options_are_for_everyone() -> None:
    request = ClassicRequest(type=RequestType.BROADCAST, request_id="r", event=["ev"])
    found = classic.read_request(classic.write_request(request), DEPTH)
    assert found is not None
    assert found.options is not None
    assert found.options.rooms == ()


@pytest.mark.parametrize(
    "value",
    [
        {"requestId": 5},
        {"requestId": "r", "type": "8"},
        {"requestId": "r", "type": 5},
        {"requestId": "r", "type": 8},
        {"requestId": "r", "type": 8, "clientCount": -1},
        {"requestId": "r", "type": 8, "clientCount": True},
    ],
)
def test_values_that_are_no_response(value: Any) -> None:
    assert classic.read_response(orjson.dumps(value), DEPTH) is None


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"type"],
        [b"type", b"x"],
        [b"type", b"2", b"uid", b"u"],
        [b"type", b"2", b"uid", b"\xff", b"nsp", b"/"],
        [b"type", b"3", b"uid", b"u", b"nsp", b"/", b"data", b"*"],
        [b"type", b"3", b"uid", b"u", b"nsp", b"/", b"data", b"{"],
        [b"type", b"99", b"uid", b"u", b"nsp", b"/"],
    ],
)
def test_fields_that_are_no_entry(fields: list[bytes]) -> None:
    assert streams.read_entry(fields, DEPTH) is None


def test_entries_without_data() -> None:
    message = ClusterMessage(type=MessageType.HEARTBEAT, uid="u", namespace="/")
    assert streams.read_entry(streams.write_entry(message), DEPTH) == message


@pytest.mark.parametrize(
    "value", [5, {}, {"sid": "s", "pid": 5, "rooms": []}, {"sid": "s", "pid": "p", "rooms": 5}]
)
def test_values_that_are_no_session(value: Any) -> None:
    assert streams.read_session(b64encode(msgpack.packb(value)), DEPTH) is None


def test_sessions_with_odd_data() -> None:
    found = streams.read_session(b64encode(msgpack.packb({"sid": "s", "pid": "p", "rooms": []})), DEPTH)
    assert found == streams.KeptSession("s", "p", ())


def test_which_types_are_kept() -> None:
    event = ClusterMessage(type=MessageType.BROADCAST, uid="u", namespace="/")
    assert streams.is_kept(event)
    asking = ClusterMessage(type=MessageType.BROADCAST, uid="u", namespace="/", request_id="r")
    assert not streams.is_kept(asking)
    assert not streams.is_kept(ClusterMessage(type=MessageType.FETCH_SOCKETS, uid="u", namespace="/"))


def test_ids_of_entries() -> None:
    assert streams.is_entry_id("1795331954973-0")
    for text in ("", "1", "1-", "-1", "1-0 ", "x-1", "1-0-0", "$", "1" * 30 + "-0"):
        assert not streams.is_entry_id(text)


def test_several_streams_as_the_reference_chooses_them() -> None:
    assert streams.stream_name("s", 1, "/") == "s"
    assert streams.stream_name("ss", 3, "/") == "ss-2"
    assert streams.stream_name("ss", 3, "/tenant-1") == "ss--1"  # the reference reads no such one
    assert streams.stream_names("s", 1) == ["s"]
    assert streams.stream_names("ss", 3) == ["ss--2", "ss--1", "ss-0", "ss-1", "ss-2"]


def test_what_has_no_form() -> None:
    with pytest.raises(TypeError, match="object"):
        dump({"x": object()})
    with pytest.raises(TypeError):
        dump_text({"x": 1 << 80})
    with pytest.raises(TypeError):
        pack({"x": object()})
    with pytest.raises(TypeError, match="keys"):
        pack({"x": {1: 2}})


def test_bytes_dates_and_sets() -> None:
    assert dump({"b": b"\x01\x02"}) == b'{"b":{"type":"Buffer","data":[1,2]}}'
    assert dump_text({"b": [b"\x01"]}) is None
    assert dump_text([{1}]) == b"[[1]]"
    moment = datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)
    assert read_any(pack(moment), DEPTH) == moment.replace(microsecond=123_000)
    assert read_any(pack(moment.replace(tzinfo=None)), DEPTH) == moment.replace(microsecond=123_000)


def test_commands() -> None:
    assert write_command(("PING",)) == b"*1\r\n$4\r\nPING\r\n"
    assert write_command(("XADD", "é", b"\xff\r\n", 10)) == (
        b"*4\r\n$4\r\nXADD\r\n$2\r\n\xc3\xa9\r\n$3\r\n\xff\r\n\r\n$2\r\n10\r\n"
    )


def test_names_of_channels() -> None:
    classic_names = ClassicChannels("socket.io", "/", "QDjrOE")
    assert classic_names.request == "socket.io-request#/#"
    assert classic_names.response == "socket.io-response#/#"
    assert classic_names.own_response == "socket.io-response#/#QDjrOE#"
    names = ClusterChannels("p", "/", "dynamic")
    assert names.public == "p#/#"
    assert names.private("u") == "p#/#u#"
    assert names.broadcast(("a", "b")) == "p#/#"
    assert names.broadcast(("x" * 20,)) == "p#/#"


def test_sessions_with_more_than_the_reference_keeps() -> None:
    session = streams.KeptSession("s", "p", ("r",), {}, {"lost": None}, "n")
    assert streams.read_session(streams.write_session(session), DEPTH) == session
    odd = b64encode(msgpack.packb({"sid": "s", "pid": "p", "rooms": [], "more": 1}))
    assert streams.read_session(odd, DEPTH) == streams.KeptSession("s", "p", ())


def test_which_of_its_sender_an_entry_is() -> None:
    assert streams.read_ordinal([b"uid", b"u", b"no", b"12"]) == 12
    for fields in ([], [b"no"], [b"no", b""], [b"no", b"-1"], [b"no", b"1" * 16]):
        assert streams.read_ordinal(fields) is None
