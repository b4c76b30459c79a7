"""One function for each parser: any bytes in, and only what it documents may come out.

A target returns nothing; what it raises is a finding.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable

from broker.client.errors import parse_retry_after
from broker.flow.settings import Settings
from broker.flow.settings_checks import ConfigError
from broker.flow.settings_sources import structure
from protocol import Limits, Refused, Violation
from protocol.engineio.handshake import EngineRequest, check_request, parse_query
from protocol.engineio.origin import origin_allowed, origin_detail
from protocol.engineio.packet import decode_packet
from protocol.engineio.payload import decode_payload
from protocol.http_head import HEAD_END, accept_websocket, parse_head
from protocol.jsontext import JSONError, is_utf8, load
from protocol.socketio.decoder import NEED_ATTACHMENTS, Decoder, decode_event
from protocol.socketio.msgpack import MsgpackDecoder
from protocol.socketio.packet import Packet
from protocol.websocket import ControlFrame, FrameError, FrameReader

_LIMITS = Limits(packets_per_payload=100, fragments_per_message=16)
_MAX_BYTES = 65_536
_TRANSPORTS = ("polling", "websocket")


def websocket_frames(data: bytes) -> None:
    """Frames, whole and again byte by byte: both must give the same."""
    reader = FrameReader(_MAX_BYTES, _LIMITS)
    whole = reader.feed(data)
    while reader.unread:
        whole += reader.feed()
    reader = FrameReader(_MAX_BYTES, _LIMITS)
    pieces = [one for octet in data for one in reader.feed(bytes([octet]))]
    assert pieces == whole
    assert [type(one) for one in pieces] == [type(one) for one in whole]
    assert all(isinstance(one, (bytes, ControlFrame, FrameError)) for one in whole)


def engineio_packet(data: bytes) -> None:
    """One Engine.IO packet."""
    decode_packet(data)


def engineio_payload(data: bytes) -> None:
    """A polling body."""
    packets, violation = decode_payload(data, _LIMITS)
    assert violation is None or isinstance(violation, Violation)
    assert len(packets) <= _LIMITS.packets_per_payload


def socketio_messages(data: bytes) -> None:
    """The messages of a session; NUL ends one, and an odd first byte makes it binary."""
    decoder = Decoder(_LIMITS, _MAX_BYTES)
    for message in data.split(b"\0"):
        if message[:1] and message[0] & 0x80:
            decoded = decoder.feed_binary(message)
        else:
            decoded = decoder.feed_text(message)
        assert decoded is NEED_ATTACHMENTS or isinstance(decoded, (Packet, Violation))
        if isinstance(decoded, Violation):
            assert decoder.pending is None, "something is held after a violation"
            return


def socketio_event(data: bytes) -> None:
    """The short way for plain events agrees with the decoder."""
    quick = decode_event(b"42" + data, _LIMITS.ack_id_digits, _LIMITS.json_depth)
    if quick is None:
        return
    decoded = Decoder(_LIMITS, _MAX_BYTES).feed_text(b"2" + data)
    assert isinstance(decoded, Packet)
    assert (decoded.ack_id, decoded.data) == quick


def json_text(data: bytes) -> None:
    """JSON, of which only `JSONError` may escape."""
    try:
        load(data, _LIMITS.json_depth)
    except JSONError:
        return
    assert is_utf8(data)


def request_head(data: bytes) -> None:
    """The head of a request, and the answer to its WebSocket handshake."""
    head = data + HEAD_END
    parsed = parse_head(head, _LIMITS)
    if isinstance(parsed, Refused):
        return
    assert len(parsed.headers) <= _LIMITS.header_count
    answer = accept_websocket(head, ())
    assert isinstance(answer, Refused) or answer.startswith(b"HTTP/1.1 101 ")


def request_query(data: bytes) -> None:
    """The query of a request, up to the verdict."""
    query = parse_query(data.decode("latin-1"))
    if query is not None:
        check_request(EngineRequest("GET", query, upgrade=bool(data[:1])), _TRANSPORTS, {}.get)


def msgpack_packet(data: bytes) -> None:
    """A packet of the MessagePack parser, with our own reader and the fast one in front of it."""
    decoded = MsgpackDecoder(_LIMITS).feed_binary(data)
    assert isinstance(decoded, (Packet, Violation))


def request_origin(data: bytes) -> None:
    """The Origin and Host headers, with a NUL between."""
    origin, _, host = data.decode("latin-1").partition("\0")
    if not origin_allowed(origin, host, ("https://good.example",)):
        assert isinstance(origin_detail(origin, host, ("https://good.example",)), str)


def settings_file(data: bytes) -> None:
    """A TOML file, of which only `ConfigError` may escape."""
    try:
        tree = tomllib.loads(data.decode("utf-8", "replace"))
    except ValueError:
        return
    try:
        structure(Settings, tree)
    except ConfigError:
        return


def settings_environment(data: bytes) -> None:
    """Environment variables, NAME=VALUE a line."""
    lines = [line.partition("=") for line in data.decode("utf-8", "replace").split("\n")]
    try:
        Settings.from_environ({f"BROKER_{name}": value for name, _, value in lines})
    except ConfigError:
        return


def retry_after(data: bytes) -> None:
    """The Retry-After header that a server sends our client."""
    assert parse_retry_after(data) >= 0


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        websocket_frames,
        engineio_packet,
        engineio_payload,
        socketio_messages,
        socketio_event,
        json_text,
        request_head,
        request_query,
        request_origin,
        msgpack_packet,
        settings_file,
        settings_environment,
        retry_after,
    )
}

SEEDS: dict[str, list[bytes]] = {
    "websocket_frames": [
        b"\x81\x85\0\0\0\0Hello",
        b"\x01\x81\0\0\0\0a\x89\x80\0\0\0\0\x80\x81\0\0\0\0b",
        b"\x88\x82\0\0\0\0\x03\xe8",
        b"\x82\xfe\0\x7e\0\0\0\0" + bytes(126),
    ],
    "engineio_packet": [b"4hello", b"bAQID", b"2probe", b"3", b"6"],
    "engineio_payload": [b"4a\x1e4b\x1ebAQID\x1e2"],
    "socketio_messages": [
        b'2["a",1]',
        b'0/chat,{"token":1}',
        b'51-["a",{"_placeholder":true,"num":0}]\0\x81data',
        b'3/chat,12["x"]',
        b"1",
        b"4{}",
    ],
    "socketio_event": [b'["a",1]', b'12["a",{"b":[1]}]'],
    "json_text": [b'{"a":[1,2.5e3,"\\u00e9",null,true]}', b"[[[[]]]]"],
    "request_head": [
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
        b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Extensions: permessage-deflate; a=b",
    ],
    "request_origin": [b"https://good.example\0good.example", b"http://x:80\0x", b"null\0[::1]:80"],
    "msgpack_packet": [
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a\xc4\x03\1\2\3",
        b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x01\xa4data\x91\xcb\x3f\xf0\0\0\0\0\0\0",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a\xd6\xff\0\0\0\x01",
    ],
    "settings_file": [
        b'path = "/a"\nping_interval = 1.5\ncors_allowed_origins = ["https://a.example"]\n',
        b'cookie = "io"\n[limits]\nrooms_per_socket = 5\n',
        b'[cookie]\nname = "io"\nsame_site = "None"\nsecure = true\n[recovery]\nwindow = 60\n',
    ],
    "settings_environment": [
        b"PATH=/a\nPING_INTERVAL=1.5",
        b"LIMITS_ROOMS_PER_SOCKET=5\nCOOKIE_NAME=io\nCORS_ALLOWED_ORIGINS=https://a.example,https://b.example",
    ],
    "retry_after": [b"120", b"1.5", b"Wed, 21 Oct 2015 07:28:00 GMT"],
    "request_query": [b"EIO=4&transport=polling&sid=abc", b"EIO=4&transport=websocket"],
}
