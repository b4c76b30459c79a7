"""Hostile HTTP: rows 1 to 30 of the list, and the advisories about requests."""

from __future__ import annotations

import gzip
import socket
import struct
from urllib.parse import quote

import pytest
import trio

from broker.flow.request import HttpRequest
from tests.peers import (
    ENGINE_PATH,
    BareWebSocket,
    HttpPeer,
    PollingPeer,
    Response,
    build_frame,
    http,
    upgrade_head,
    websocket,
)

from .arena import CANARIES, Arena, arena, until

POLLING = f"{ENGINE_PATH}&transport=polling"
FRAMED = f"{ENGINE_PATH}&transport=websocket"
EVIL = ("Origin", "https://evil.example")


async def raw(where: Arena, data: bytes) -> bytes:
    """Send bytes; return all that comes until the broker closes."""
    async with await HttpPeer.open(where.server) as peer:
        try:
            await peer.send_raw(data)
        except trio.BrokenResourceError:
            pass
        return await peer.wait_closed()


def status_of(answer: bytes) -> int:
    """Return the status of a raw answer; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


async def goodbye(peer: PollingPeer) -> None:
    """End a polling session as a client does."""
    await peer.post("1")


def assert_quiet(answer: Response, status: int, code: int | None, secret: str = "") -> None:
    """Hold that an answer has this status and code, and shows nothing of the input."""
    assert answer.status == status
    if code is not None:
        assert answer.json["code"] == code
    assert not secret or secret not in answer.text
    assert "Traceback" not in answer.text


TARGETS = [
    # row, query, status, code
    (1, "EIO=4", 400, 0),
    *(
        (2, f"EIO=4&transport={one}", 400, 0)
        for one in ("abc", "webtransport", "Polling", "__class__", "__proto__", "constructor", "polling%00")
    ),
    (3, "EIO=4&transport=polling&transport=websocket", 400, 0),
    (3, "EIO=4&EIO=3&transport=polling", 400, 5),
    (3, "EIO=4&transport=polling&sid=a&sid=b", 400, 1),
    *(
        (4, f"EIO={one}&transport=polling", 400, 5)
        for one in ("", "3", "abc", "04", "4%20", quote("\uff14"), "4" * 5_000)
    ),
    (4, "transport=polling", 400, 5),
    (5, "EIO=4&transport=polling&sid=", 400, 1),
    *(
        (6, f"EIO=4&transport=polling&sid={one}", 400, 1)
        for one in ("unknown", "__proto__", "constructor", "a%00b", "a%2Fb", "a%0D%0Ab", quote("\U0001f600"))
    ),
    (9, "EIO=4&transport=websocket", 400, 3),
    (29, "EIO=4&transport=polling&j=0", 200, None),
    (29, "EIO=4&transport=polling&j=alert(1)", 200, None),
]


@pytest.mark.parametrize(("row", "query", "status", "code"), TARGETS, ids=lambda one: str(one)[:45])
async def test_queries(row: int, query: str, status: int, code: int | None) -> None:
    async with arena() as where:
        answer = await http(where.server, "GET", f"/socket.io/?{query}")
        assert_quiet(answer, status, code)
        if row == 29:  # JSONP is no more: the parameter is one that nobody knows, never a script
            assert answer.header("content-type") == "text/plain; charset=UTF-8"
            sid = answer.text.split('"')[3]
            await http(where.server, "POST", f"{POLLING}&sid={sid}", body="1")


async def test_row_06_long_session_id() -> None:
    async with arena() as where:
        data = f"GET {POLLING}&sid={'x' * 65_536} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        assert status_of(await raw(where, data)) in (0, 431)  # 0: cut off by a reset while it still sends


async def test_row_07_post_without_session() -> None:
    async with arena() as where:
        assert_quiet(await http(where.server, "POST", POLLING, body="40"), 400, 2)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PATCH", "__INIT__"])
async def test_row_08_methods(method: str) -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        answer = await http(where.server, method, peer.target)
        assert answer.status in (400, 405)
        assert await peer.status() == 200
        await goodbye(peer)


async def test_row_10_transport_mismatch_leaves_the_session() -> None:
    async with arena() as where, websocket(where.server) as peer:
        sid = (await peer.opened())["sid"]
        assert_quiet(await http(where.server, "GET", f"{POLLING}&sid={sid}"), 400, 3, sid)
        await peer.join()
        await peer.emit("echo", 1)
        await peer.expect('42["echo",1]')


@pytest.mark.parametrize("version", ["EIO=3", ""])
async def test_row_11_upgrade_in_another_version(version: str) -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        path = f"/socket.io/?{version}"
        async with await BareWebSocket.open(where.server, path, sid=peer.sid) as bare:
            await bare.send_frame(0x1, b"junk")
            await bare.expect_close()
        assert await peer.status() == 200
        await goodbye(peer)


async def test_row_12_overlapping_gets() -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        await http(where.server, "POST", peer.target, body="40")
        await peer.receive()
        async with await HttpPeer.open(where.server) as parked:
            await parked.send("GET", peer.target)
            await trio.sleep(0.02)
            second = await peer.get()
            assert (await parked.receive()).text == "1"
            assert_quiet(second, 400, 103)
        assert await peer.status() == 400


async def test_row_13_overlapping_posts() -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        async with await HttpPeer.open(where.server) as slow:
            await slow.send("POST", peer.target, [("Content-Length", "10")])
            await trio.sleep(0.02)
            assert_quiet(await peer.post("40"), 400, 103)
        assert await peer.status() == 400


async def test_row_14_binary_bodies_are_answered() -> None:
    """CVE-2026-59725: a refused one that got no answer kept its connection."""
    async with arena() as where:
        for _ in range(20):
            peer = await PollingPeer.open(where.server)
            answer = await peer.post(b"\0\1", [("Content-Type", "application/octet-stream")])
            assert_quiet(answer, 400, 3)


async def test_row_15_declared_length_above_the_limit() -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        async with await HttpPeer.open(where.server) as bare:
            await bare.send("POST", peer.target, [("Content-Length", "100000000")])
            assert_quiet(await bare.receive("POST"), 413, 101)
        await goodbye(peer)


CHUNKS = [
    ("grows past the limit", b"20000\r\n" + b"a" * 131_072 + b"\r\n"),
    ("absurd size", b"fffffffff\r\n"),
    ("negative size", b"-1\r\na\r\n"),
    ("long extension", b"1;" + b"x" * 100_000 + b"\r\na\r\n"),
    ("bad terminator", b"1\r\naXX0\r\n\r\n"),
]


@pytest.mark.parametrize("chunk", [pytest.param(one[1], id=one[0]) for one in CHUNKS])
async def test_row_16_chunked_bodies(chunk: bytes) -> None:
    """CVE-2020-36048 and CVE-2025-43859."""
    async with arena(max_payload_bytes=100_000) as where:
        peer = await PollingPeer.open(where.server)
        async with await HttpPeer.open(where.server) as bare:
            await bare.send("POST", peer.target, [("Transfer-Encoding", "chunked")])
            try:
                await bare.send_raw(chunk)
                if chunk.startswith(b"fff"):
                    await bare.send_raw(b"a" * 200_000)
            except trio.BrokenResourceError:
                pass
            answer = await bare.receive("POST")
            assert answer.status in (400, 413, 431)
        await goodbye(peer)


async def test_row_17_compressed_body() -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        bomb = gzip.compress(b"4" * 1_000_000)
        answer = await peer.post(bomb, [("Content-Encoding", "gzip")])
        assert answer.status == 400  # nothing here inflates: it is no payload
        assert await peer.status() == 400


BODIES = [
    (18, "empty", b""),
    (18, "one separator", b"\x1e"),
    (18, "empty packet between", b"4a\x1e\x1e4b"),
    (18, "half a million noops", b"6\x1e" * 499_999 + b"6"),
    (19, "not UTF-8", b"4\xff\xfe"),
    (19, "byte order mark", b"\xef\xbb\xbf4a"),
    (19, "surrogate", b'42["\xed\xa0\x80"]'),
]


@pytest.mark.parametrize("body", [pytest.param(one[2], id=f"{one[0]} {one[1]}") for one in BODIES])
async def test_rows_18_19_bodies(body: bytes) -> None:
    async with arena(limits={"close_timeout": 0.2}) as where:
        peer = await PollingPeer.open(where.server)
        answer = await peer.post(body)
        assert answer.status in (200, 400)  # 200: taken, and then the session ends
        await until(lambda: where.broker.statistics().sessions == where_started(where))


def where_started(where: Arena) -> int:
    """Return how many sessions there are without the attacker's: the canaries'."""
    return len(where.broker.of("/canary").sockets)


SMUGGLED = [
    ("CL and TE", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
    ("TE and CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
    ("two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n"),
    *((f"length {one}", f"Content-Length: {one}\r\n") for one in ("+5", "5, 6", "0x5", "-1", "1_0", "5 5")),
    ("xchunked", "Transfer-Encoding: xchunked\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
]


@pytest.mark.parametrize("headers", [pytest.param(one[1], id=one[0]) for one in SMUGGLED])
async def test_row_20_smuggling(headers: str) -> None:
    """What stands behind the odd request is never taken for a request of its own."""
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        smuggled = f"GET {POLLING} HTTP/1.1\r\nHost: x\r\n\r\n"
        data = f"POST {peer.target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n0\r\n\r\n{smuggled}".encode()
        sessions = where.broker.statistics().sessions
        async with await HttpPeer.open(where.server) as bare:
            await bare.send_raw(data)
            answer = await bare.wait_closed()
        assert status_of(answer) in (0, 400, 413, 501)
        assert answer.count(b"HTTP/1.1 ") <= 1
        assert where.broker.statistics().sessions <= sessions
        await goodbye(peer)


HEADERS = [
    ("bare line feed", b"GET / HTTP/1.1\nHost: x\n\n"),
    ("folded line", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"),
    ("blank before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"),
    ("CR in a value", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n"),
    ("name that is no token", b"GET / HTTP/1.1\r\nHost: x\r\nX(: a\r\n\r\n"),
    ("no host", b"GET / HTTP/1.1\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
]


@pytest.mark.parametrize("head", [pytest.param(one[1], id=one[0]) for one in HEADERS])
@pytest.mark.parametrize("framed", [False, True], ids=["plain", "websocket"])
async def test_rows_21_25_headers(head: bytes, framed: bool) -> None:
    async with arena(limits={"header_timeout": 0.2}) as where:
        if framed:
            head = head.replace(b"GET / ", f"GET {FRAMED} ".encode(), 1)
            head = head.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nUpgrade: websocket\r\n", 1)
        async with await HttpPeer.open(where.server) as peer:
            await peer.send_raw(head)
            answer = await peer.stream.receive_some()
        # A folded line is one that older servers took: it is joined, and the request is one for nothing.
        assert status_of(bytes(answer)) in (0, 400, 404, 408)


HEADS_TOO_LARGE = [
    ("target", f"GET {POLLING}&x={'x' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("block", f"GET {POLLING} HTTP/1.1\r\nHost: x\r\n" + f"X: {'x' * 4_000}\r\n" * 5 + "\r\n"),
    ("fields", f"GET {POLLING} HTTP/1.1\r\nHost: x\r\n" + "X: 1\r\n" * 101 + "\r\n"),
    ("cookie", f"GET {POLLING} HTTP/1.1\r\nHost: x\r\nCookie: {'x' * 16_384}\r\n\r\n"),
    ("fields of a handshake", upgrade_head(FRAMED).decode()[:-2] + "X: 1\r\n" * 2_001 + "\r\n"),
]


@pytest.mark.parametrize("head", [pytest.param(one[1], id=one[0]) for one in HEADS_TOO_LARGE])
async def test_row_22_large_heads(head: str) -> None:
    """CVE-2024-37890: more headers than the limit, so that Upgrade was lost."""
    async with arena() as where:
        async with await HttpPeer.open(where.server) as peer:
            await peer.send_raw(head.encode())
            answer = await peer.receive()
        assert_quiet(answer, 431, 106)
        assert where.refusals == {"HEAD_TOO_LARGE": 1}


async def test_row_23_trickled_head() -> None:
    async with arena(limits={"header_timeout": 0.1}) as where, await HttpPeer.open(where.server) as peer:
        for octet in b"GET / HTTP/1.1":
            try:
                await peer.send_raw(bytes([octet]))
            except trio.BrokenResourceError:
                break
            await trio.sleep(0.01)
        assert status_of(await peer.wait_closed()) in (0, 408)
        assert where.refusals == {"REQUEST_TIMEOUT": 1}


async def test_row_23_trickled_body() -> None:
    async with arena(limits={"body_timeout": 0.1}) as where:
        peer = await PollingPeer.open(where.server)
        async with await HttpPeer.open(where.server) as slow:
            await slow.send("POST", peer.target, [("Content-Length", "1000")])
            for _ in range(5):
                await slow.send_raw(b"4")
                await trio.sleep(0.005)
            assert_quiet(await slow.receive("POST"), 408, 105)


async def test_row_23_connections_that_say_nothing() -> None:
    async with arena(limits={"header_timeout": 0.1}) as where, trio.open_nursery() as nursery:

        async def say_nothing() -> None:
            async with await HttpPeer.open(where.server) as peer:
                assert await peer.wait_closed() == b""

        for _ in range(30):
            nursery.start_soon(say_nothing)


STRANGERS = [
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("HTTP/0.9", b"GET /\r\n\r\n"),
    ("absolute target", b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n"),
    ("zeros", bytes(1_000_000)),
    ("upgrade to h2c", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n"),
]


@pytest.mark.parametrize("data", [pytest.param(one[1], id=one[0]) for one in STRANGERS])
async def test_row_24_other_protocols(data: bytes) -> None:
    async with arena(limits={"header_timeout": 0.2}) as where:
        async with await HttpPeer.open(where.server) as peer:
            try:
                await peer.send_raw(data)
            except trio.BrokenResourceError:
                pass
            try:
                answer = bytes(await peer.stream.receive_some())
            except trio.BrokenResourceError:
                answer = b""
        assert status_of(answer) in (0, 400, 404, 408, 431)


ORIGINS = [
    *(
        "https://evil.example",
        "null",
        "https://good.example.evil",
        "https://goodexample",
        "http://good.example",
    ),
    *(
        "https://good.example:444",
        "https://good.example.",
        "https://user@good.example",
        "https://good.example/x",
    ),
    *("file://", "https://", "good.example", "https://evil.example https://good.example"),
]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_rows_26_27_origins(origin: str) -> None:
    """CVE-2019-13611 and CVE-2020-28481: GET, POST and WebSocket alike, and no word that lets a page read."""
    async with arena(cors_allowed_origins=["https://good.example"]) as where:
        peer = await PollingPeer.open(where.server)
        for answer in (
            await http(where.server, "GET", POLLING, [("Origin", origin)]),
            await peer.post("40", [("Origin", origin)]),
            (await _upgrade(where, [("Origin", origin)])),
        ):
            assert answer.status in (400, 403)
            assert answer.header("access-control-allow-origin") is None
        await goodbye(peer)


async def _upgrade(where: Arena, headers: list[tuple[str, str]]) -> Response:
    async with await BareWebSocket.open(where.server, headers=headers) as bare:
        return bare.answer


async def test_row_26_default_is_the_same_origin() -> None:
    async with arena() as where:
        answer = await http(where.server, "GET", POLLING, [EVIL])
        assert_quiet(answer, 403, 100)
        assert answer.header("access-control-allow-origin") is None


async def test_row_28_preflight_of_a_stranger() -> None:
    async with arena(cors_allowed_origins=["https://good.example"]) as where:
        wanted = [EVIL, ("Access-Control-Request-Headers", "x-evil, x%0d%0aset-cookie: a=b")]
        answer = await http(where.server, "OPTIONS", POLLING, wanted)
        assert answer.status in (204, 403)
        assert answer.header("access-control-allow-origin") is None
        assert answer.header("access-control-allow-headers") is None


async def test_row_30_pipelined_requests() -> None:
    async with arena() as where, await HttpPeer.open(where.server) as peer:
        request = b"GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: x\r\n\r\n"
        await peer.send_raw(request * 200)
        for _ in range(200):
            assert (await peer.receive()).status == 400


async def test_row_30_expect_without_a_body() -> None:
    async with arena(limits={"body_timeout": 0.1}) as where:
        peer = await PollingPeer.open(where.server)
        async with await HttpPeer.open(where.server) as bare:
            await bare.send("POST", peer.target, [("Content-Length", "4"), ("Expect", "100-continue")])
            assert (await bare.receive("POST")).status == 408


@pytest.mark.parametrize("target", ["transport=__proto__", "transport=constructor", "EIO=4"])
async def test_cve_2023_31125_upgrade_with_a_strange_transport(target: str) -> None:
    async with arena() as where, await HttpPeer.open(where.server) as peer:
        await peer.send_raw(upgrade_head(f"/socket.io/?{target}", peer.authority))
        assert (await peer.receive()).status == 400


@pytest.mark.parametrize("known", [False, True])
async def test_cve_2022_21676_garbage_right_behind_the_upgrade(known: bool) -> None:
    async with arena() as where:
        peer = await PollingPeer.open(where.server)
        garbage = build_frame(0x1, b"x", rsv=7) + bytes(range(256))
        sid = peer.sid if known else None
        async with await BareWebSocket.open(where.server, sid=sid, extra=garbage) as bare:
            await bare.expect_close()
        assert await peer.status() == 200
        await goodbye(peer)


async def test_cve_2022_41940_reset_right_behind_the_upgrade() -> None:
    async with arena() as where:
        for target in (FRAMED, f"{FRAMED}&sid=unknown", "/socket.io/?EIO=4", "/"):
            peer = await HttpPeer.open(where.server)
            await peer.send_raw(upgrade_head(target, peer.authority))
            assert isinstance(peer.stream, trio.SocketStream)
            peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await peer.abort()


async def test_cve_2021_32640_blanks_in_a_handshake_header() -> None:
    async with arena() as where:
        value = "b" + " " * 15_000 + "x"
        began = trio.current_time()
        async with await BareWebSocket.open(
            where.server, headers=[("Sec-WebSocket-Protocol", value)]
        ) as bare:
            assert bare.answer.status in (101, 400)
        assert trio.current_time() - began < 1


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end of stream"])
async def test_client_that_goes_while_its_request_is_served(reset: bool) -> None:
    """Its connection must not wait for a next request, which would keep it for half a minute."""
    asked, answer = trio.Event(), trio.Event()

    async def allow(request: HttpRequest) -> bool:
        if request.header("x-slow") is None:
            return True
        asked.set()
        await answer.wait()
        return False

    async with arena(allow_request=allow) as where:
        async with await HttpPeer.open(where.server) as peer:
            await peer.send("GET", POLLING, [("X-Slow", "1")])
            await asked.wait()
            if reset:
                assert isinstance(peer.stream, trio.SocketStream)
                peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await http(where.server, "GET", "/elsewhere")  # behind the end in the broker's queue of what is ready
        answer.set()


async def test_half_open_handshakes_are_bounded() -> None:
    async with arena(limits={"handshakes": 4}) as where:
        idle = [await HttpPeer.open(where.server) for _ in range(4)]
        await trio.sleep(0.05)
        refused = await http(where.server, "GET", POLLING)
        assert_quiet(refused, 503, 107)
        assert refused.header("retry-after") is not None
        assert where.refusals == {"TOO_MANY_HANDSHAKES": 1}
        for peer in idle:
            await peer.abort()
        await trio.sleep(0.05)
        peer = await PollingPeer.open(where.server)
        await goodbye(peer)


async def test_sessions_of_one_address_are_bounded() -> None:
    most = CANARIES + 5
    async with arena(proxy_addresses=(), limits={"sessions_per_address": most}) as where:
        room = most - where.broker.statistics().sessions
        peers = [await PollingPeer.open(where.server) for _ in range(room)]
        refused = await http(where.server, "GET", POLLING)
        assert_quiet(refused, 429, 110)
        assert refused.header("retry-after") is not None
        assert (await _upgrade(where, [])).status == 429
        await goodbye(peers.pop())
        await until(lambda: where.broker.statistics().sessions == most - 1)
        peers.append(await PollingPeer.open(where.server))
        for peer in peers:
            await goodbye(peer)
