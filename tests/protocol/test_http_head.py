"""Request heads and WebSocket handshakes, legal, broken and hostile; edge case 17."""

from __future__ import annotations

import random
import re
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from protocol import Limits, Refusal, Refused
from protocol.http_head import RequestHead, accept_websocket, build_refusal, build_response, parse_head

LIMITS = Limits()
WEBSOCKET = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request(headers: dict[str, str], line: str = "GET /socket.io/?EIO=4 HTTP/1.1") -> bytes:
    lines = [line, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def parsed(data: bytes) -> RequestHead:
    head = parse_head(data, LIMITS)
    assert isinstance(head, RequestHead), head
    return head


def refused(data: bytes, limits: Limits = LIMITS) -> Refused:
    answer = parse_head(data, limits)
    assert isinstance(answer, Refused)
    return answer


def test_parts_of_a_head() -> None:
    head = parsed(
        request({"Host": "a", "X-A": "1", "x-a": "2", "Cookie": "k=\xe4"}, "POST /p/q?a=1&b=?c HTTP/1.1")
    )
    assert (head.method, head.path, head.query) == ("POST", "/p/q", "a=1&b=?c")
    assert head.header("x-a") == "1"
    assert head.header("cookie") == "k=\xe4"
    assert head.header("missing") is None
    assert not head.wants_websocket


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("//a//b", "//a//b", ""),
        ("http://host/socket.io/?x=1", "/socket.io/", "x=1"),
        ("http://host", "/", ""),
        ("http://host?x=/y", "/", "x=/y"),
        ("*", "/", ""),
    ],
)
def test_forms_of_the_target(target: str, path: str, query: str) -> None:
    head = parsed(request({"Host": "a"}, f"GET {target} HTTP/1.1"))
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("value", "wanted"), [("websocket", True), (" WebSocket ", True), ("h2c", False), ("", False)]
)
def test_wants_websocket(value: str, wanted: bool) -> None:
    assert parsed(request({"Host": "a", "Upgrade": value})).wants_websocket is wanted


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_malformed_heads(data: bytes) -> None:
    assert refused(data).refusal is Refusal.BAD_HTTP


def test_preface_of_http2_is_left_to_who_speaks_it() -> None:
    assert parsed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").method == "PRI"


def test_incomplete_head() -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\n").detail == "the request head is incomplete"


def test_detail_quotes_nothing_of_the_request() -> None:
    assert refused(b"GET / HTTP/1.1\r\nCookie secret\r\n\r\n").detail == "illegal header line"


def test_size_and_number_of_headers_are_bounded() -> None:
    small = Limits(header_bytes=200, header_count=5)
    too_large = refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300, small)
    assert too_large.refusal is Refusal.HEAD_TOO_LARGE
    many = {"Host": "a", **{f"X{number}": "" for number in range(5)}}
    assert refused(request(many), small).refusal is Refusal.HEAD_TOO_LARGE
    del many["X4"]
    assert isinstance(parse_head(request(many), small), RequestHead)


def test_cve_2024_37890_more_than_2000_headers() -> None:
    many = {f"X{number}": "" for number in range(2001)}
    assert refused(request({**many, **WEBSOCKET})).refusal is Refusal.HEAD_TOO_LARGE


def test_websocket_is_accepted_without_extension() -> None:
    offered = {
        **WEBSOCKET,
        "Sec-WebSocket-Extensions": "permessage-deflate",
        "Sec-WebSocket-Protocol": "a, b",
    }
    answer = accept_websocket(request(offered), (("Set-Cookie", "io=1"),))
    assert isinstance(answer, bytes)
    head = answer.lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert b"set-cookie: io=1\r\n" in head
    assert b"extensions" not in head
    assert head.count(b"protocol:") == head.count(b"sec-websocket-protocol: a\r\n") == 1


@pytest.mark.parametrize(("offered", "chosen"), [("", None), (", ,", None), (" b ,a", b"b"), (",a", b"a")])
def test_the_first_subprotocol_is_chosen(offered: str, chosen: bytes | None) -> None:
    answer = accept_websocket(request({**WEBSOCKET, "Sec-WebSocket-Protocol": offered}), ())
    assert isinstance(answer, bytes)
    found = re.findall(rb"sec-websocket-protocol: *([^\r]*)\r\n", answer, re.IGNORECASE)
    assert found == ([] if chosen is None else [chosen])


@pytest.mark.parametrize("offered", ["caf\xe9", "\xff"])
def test_a_subprotocol_that_is_not_ascii_is_refused(offered: str) -> None:
    answer = accept_websocket(request({**WEBSOCKET, "Sec-WebSocket-Protocol": offered}), ())
    assert isinstance(answer, Refused)
    assert answer.refusal is Refusal.BAD_HTTP


def test_wsproto_as_client_takes_the_answer() -> None:
    client = WSConnection(ConnectionType.CLIENT)
    answer = accept_websocket(client.send(Request(host="a", target="/")), ())
    assert isinstance(answer, bytes)
    client.receive_data(answer)
    assert isinstance(next(iter(client.events())), AcceptConnection)


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Version": None},
        {"Sec-WebSocket-Version": "8"},
        {"Connection": "close"},
        {"Upgrade": "h2c"},
        {"Upgrade": None},
    ],
)
def test_edge_17_websocket_handshakes_that_lack_something(changes: dict[str, str | None]) -> None:
    headers = {name: value for name, value in {**WEBSOCKET, **changes}.items() if value is not None}
    answer = accept_websocket(request(headers), ())
    assert isinstance(answer, Refused)
    wrong_version = "Sec-WebSocket-Version" in changes
    assert answer.refusal is (Refusal.WEBSOCKET_VERSION if wrong_version else Refusal.BAD_HTTP)


def test_websocket_needs_get() -> None:
    assert isinstance(accept_websocket(request(WEBSOCKET, "POST / HTTP/1.1"), ()), Refused)


def test_incomplete_websocket_handshake() -> None:
    answer = accept_websocket(request(WEBSOCKET)[:-2], ())
    assert answer == Refused(Refusal.BAD_HTTP, "the WebSocket handshake is incomplete")


@pytest.mark.parametrize("offer", ["constructor", "__proto__", "a; b; c", ";;;", ",", "a;=", 'a;b="', "\xe9"])
def test_ghsa_5v72_odd_extensions_crash_nothing(offer: str) -> None:
    answer = accept_websocket(request({**WEBSOCKET, "Sec-WebSocket-Extensions": offer}), ())
    assert isinstance(answer, (bytes, Refused))


def test_malformed_extension_header_is_refused() -> None:
    answer = accept_websocket(request({**WEBSOCKET, "Sec-WebSocket-Extensions": "\xe9"}), ())
    assert answer == Refused(Refusal.BAD_HTTP, "a WebSocket header is malformed")


def test_cve_2021_32640_blanks_in_the_protocol_header() -> None:
    started = perf_counter()
    accept_websocket(request({**WEBSOCKET, "Sec-WebSocket-Protocol": "b" + " " * 10_000 + "x"}), ())
    assert perf_counter() - started < 1


@given(st.randoms(use_true_random=False))
def test_damaged_heads_never_raise(source: random.Random) -> None:
    data = bytearray(
        request({**WEBSOCKET, "Sec-WebSocket-Extensions": "a; b=1", "Sec-WebSocket-Protocol": "x"})
    )
    for _ in range(source.randint(1, 5)):
        at = source.randrange(len(data))
        if source.random() < 0.5:
            data[at] = source.choice(b'\x00\t\n\r ",:;=\x7f\x80\xffA')
        else:
            del data[at : at + source.randint(1, 12)]
    assert isinstance(parse_head(bytes(data), LIMITS), (RequestHead, Refused))
    assert isinstance(accept_websocket(bytes(data), ()), (bytes, Refused))


def test_responses() -> None:
    assert build_response(204, b"", (("X", "1"),)) == (
        b"HTTP/1.1 204 No Content\r\nX: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    answer = build_refusal(Refused(Refusal.FORBIDDEN, message="Thou shall not pass\r\nX: y"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    )
    assert b"\r\nX: y" not in head
    assert body == b'{"code":4,"message":"Thou shall not pass\\r\\nX: y"}'
