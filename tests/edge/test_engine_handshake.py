"""Edge cases 1 to 30: the handshake, its checks, and the hooks around it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionRejected

from broker import Broker, HttpRequest, HttpResponse, Limits, Server, Socket
from tests.peers import (
    ENGINE_PATH,
    TEXT,
    BareWebSocket,
    HttpPeer,
    PollingPeer,
    Response,
    build_frame,
    client,
    http,
    quick_broker,
    serving,
    until,
    upgrade_head,
    websocket,
)

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"


def refusals(broker: Broker) -> list[tuple[int, str | None]]:
    """Record what `connection_error` tells."""
    seen: list[tuple[int, str | None]] = []

    @broker.engine.on("connection_error")
    def error(request: HttpRequest, refused: Any) -> None:
        seen.append((refused.refusal.code, refused.rule))

    return seen


async def ask(port: Any, target: str, headers: list[tuple[str, str]] | None = None) -> Response:
    """Ask for a WebSocket, and return the answer whatever it is."""
    async with await HttpPeer.open(port) as peer:
        await peer.send_raw(upgrade_head(target, peer.authority, headers or []))
        answer = await peer.receive()
        assert answer.header("connection") == "close"
        assert await peer.wait_closed() == b""
        return answer


async def test_001_polling_handshake() -> None:
    async with serving(quick_broker()) as server:
        response = await http(server, "GET", POLLING)
        assert response.status == 200
        assert response.header("content-type") == "text/plain; charset=UTF-8"
        assert response.header("cache-control") == "no-store"
        assert response.text[0] == "0"
        handshake = json.loads(response.text[1:])
        assert list(handshake) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
        assert len(handshake.pop("sid")) == 20
        assert handshake == {
            "upgrades": ["websocket"],
            "pingInterval": 300,
            "pingTimeout": 200,
            "maxPayload": 1_000_000,
        }


HANDSHAKES = [
    pytest.param("GET", "/socket.io/?transport=polling", 5, id="002_version_missing"),
    pytest.param("GET", "/socket.io/?transport=polling&EIO=abc", 5, id="002_version_abc"),
    pytest.param("GET", "/socket.io/?transport=polling&EIO=3", 5, id="014_version_3"),
    pytest.param("GET", "/socket.io/?transport=polling&EIO=4&EIO=4", 5, id="version_twice"),
    pytest.param("GET", "/socket.io/?EIO=4", 0, id="003_transport_missing"),
    pytest.param("GET", "/socket.io/?EIO=4&transport=abc", 0, id="003_transport_abc"),
    pytest.param("GET", "/socket.io/?EIO=4&transport=polling&transport=polling", 0, id="transport_twice"),
    pytest.param("GET", "/socket.io/?EIO=4&transport=webtransport", 0, id="transport_webtransport"),
    pytest.param("POST", POLLING, 2, id="004_post"),
    pytest.param("PUT", POLLING, 2, id="004_put"),
    pytest.param("HEAD", POLLING, None, id="004_head"),
    pytest.param("GET", "/socket.io/?EIO=4&transport=constructor", 0, id="007_constructor"),
    pytest.param("GET", "/socket.io/?EIO=4&transport=__proto__", 0, id="008_proto"),
    pytest.param("GET", f"{POLLING}&sid=test", 1, id="009_sid"),
    pytest.param("GET", f"{POLLING}&sid=", 1, id="009_sid_empty"),
    pytest.param("GET", f"{POLLING}&sid=a&sid=a", 1, id="009_sid_twice"),
    pytest.param("GET", WEBSOCKET, 3, id="011_websocket_without_upgrade"),
    pytest.param("OPTIONS", POLLING, 2, id="013_options_without_cors"),
    pytest.param("GET", POLLING + "&a=1" * 200, 3, id="query_of_201_parameters"),
    # The first check that fails decides.
    pytest.param("POST", "/socket.io/?transport=abc&sid=x", 0, id="order_transport_first"),
    pytest.param("PUT", "/socket.io/?transport=polling&sid=x", 1, id="order_sid_before_method_and_version"),
    pytest.param("POST", "/socket.io/?transport=websocket", 2, id="order_method_before_upgrade"),
    pytest.param("GET", "/socket.io/?transport=websocket", 3, id="order_upgrade_before_version"),
]
MESSAGES = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    5: "Unsupported protocol version",
}


@pytest.mark.parametrize(("method", "target", "code"), HANDSHAKES)
async def test_002_refused_handshakes(method: str, target: str, code: int | None) -> None:
    broker = quick_broker()
    seen = refusals(broker)
    async with serving(broker) as server:
        response = await http(server, method, target)
        assert response.status == 400
        assert response.header("content-type") == "application/json"
        assert response.header("cache-control") == "no-store"
        assert len(seen) == 1
        if code is not None:
            assert (response.json["code"], response.json["message"]) == (code, MESSAGES[code])
            assert set(response.json) <= {"code", "message", "detail"}
            assert seen[0][0] == code
        assert (await http(server, "GET", POLLING)).status == 200


ORIGIN_ELSEWHERE = [("Origin", "http://elsewhere.example")]
BAD_ORIGIN = [("Origin", "http://a\x7f.example")]


@pytest.mark.parametrize(
    ("method", "query", "headers", "code", "rule"),
    [
        ("GET", "transport=abc&sid={sid}", BAD_ORIGIN, 0, None),
        ("GET", "transport=polling&sid=unknown", BAD_ORIGIN, 3, "INVALID_ORIGIN"),
        ("GET", "transport=websocket&sid=unknown", ORIGIN_ELSEWHERE, 1, None),
        ("GET", "transport=websocket&sid={sid}", ORIGIN_ELSEWHERE, 3, "TRANSPORT_MISMATCH"),
        ("GET", "transport=polling&sid={sid}", ORIGIN_ELSEWHERE, 100, None),
        ("PUT", "transport=polling&sid={sid}", ORIGIN_ELSEWHERE, 100, None),
        ("PUT", "transport=polling&sid={sid}", [], 102, None),
        # Without a session: the method, then the version, then the origin.
        ("POST", "transport=polling", BAD_ORIGIN, 3, "INVALID_ORIGIN"),
        ("GET", "transport=polling", ORIGIN_ELSEWHERE, 5, None),
        ("GET", "transport=polling&EIO=4", ORIGIN_ELSEWHERE, 100, None),
    ],
)
async def test_009_the_first_check_that_fails_decides(
    method: str, query: str, headers: list[tuple[str, str]], code: int, rule: str | None
) -> None:
    broker = quick_broker()
    seen = refusals(broker)
    async with serving(broker) as server:
        peer = await PollingPeer.open(server)
        response = await http(server, method, "/socket.io/?" + query.format(sid=peer.sid), headers)
        assert response.json["code"] == code
        assert response.status == {100: 403, 102: 405}.get(code, 400)
        assert [found for found, _ in seen] == [code]
        assert rule is None or seen[0][1] == rule
        await peer.join()


async def test_010_the_order_of_capacity_and_application() -> None:
    asked: list[HttpRequest] = []
    broker = quick_broker(limits=Limits(sessions=1), allow_request=lambda request: asked.append(request))
    async with serving(broker) as server:
        await PollingPeer.open(server)
        assert (await http(server, "GET", POLLING, ORIGIN_ELSEWHERE)).json["code"] == 100
        assert (await http(server, "GET", POLLING)).json["code"] == 107
        assert len(asked) == 1


@pytest.mark.parametrize(("b64", "text"), [("1", True), ("true", True), ("0", False), ("", False)])
async def test_022_binary_as_text_if_asked_for(b64: str, text: bool) -> None:
    async with serving(quick_broker()) as server, client(server, path=f"{ENGINE_PATH}&b64={b64}") as peer:
        await peer.send_text('451-0["echo",{"_placeholder":true,"num":0}]')
        await peer.send_binary(b"\x01\x02")
        await peer.expect('451-["echo",{"_placeholder":true,"num":0}]')
        await peer.expect("bAQI=" if text else b"\x01\x02")
        # What the client sends may be either.
        await peer.receive()
        await peer.receive()
        await peer.send_text('451-["echo",{"_placeholder":true,"num":0}]')
        await peer.send_text("bAwQ=")
        await peer.expect('451-["echo",{"_placeholder":true,"num":0}]')
        await peer.expect("bAwQ=" if text else b"\x03\x04")


async def test_009_an_unknown_session_has_no_detail() -> None:
    async with serving(quick_broker()) as server:
        response = await http(server, "GET", f"{POLLING}&sid=test")
        assert response.body == b'{"code":1,"message":"Session ID unknown"}'


async def test_005_websocket_handshake() -> None:
    async with serving(quick_broker()) as server, websocket(server) as peer:
        assert (await peer.opened())["upgrades"] == []


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/socket.io/?transport=websocket", 5),
        ("/socket.io/?transport=websocket&EIO=abc", 5),
        ("/socket.io/?transport=websocket&EIO=3", 5),
        ("/socket.io/?EIO=4", 0),
        ("/socket.io/?EIO=4&transport=abc", 0),
        ("/socket.io/?EIO=4&transport=constructor", 0),
        ("/socket.io/?EIO=4&transport=__proto__", 0),
        ("/socket.io/?EIO=4&transport=polling", 3),
        (f"{WEBSOCKET}&sid=test", 1),
        (f"{WEBSOCKET}&sid=", 1),
        (f"{WEBSOCKET}&sid=a&sid=b", 1),
    ],
)
async def test_006_refused_websockets(target: str, code: int) -> None:
    broker = quick_broker()
    seen = refusals(broker)
    async with serving(broker) as server:
        answer = await ask(server, target)
        assert (answer.status, answer.json["code"]) == (400, code)
        assert answer.json["message"] == MESSAGES[code]
        assert answer.header("content-type") == "application/json"
        assert answer.header("cache-control") == "no-store"
        assert [found for found, _ in seen] == [code]


def _no() -> bool:
    return False


async def _async_no() -> bool:
    return False


async def _async_text() -> str:
    return "Thou shall not pass"


def _raise() -> bool:
    raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        (_no, "Forbidden"),
        (_async_no, "Forbidden"),
        (lambda: "Thou shall not pass", "Thou shall not pass"),
        (_async_text, "Thou shall not pass"),
        (_raise, "Forbidden"),
    ],
)
async def test_010_allow_request_refuses(allow: Any, message: str) -> None:
    async with serving(quick_broker(allow_request=lambda request: allow())) as server:
        for answer in (await http(server, "GET", POLLING), await ask(server, WEBSOCKET)):
            assert answer.status == 403
            assert answer.json == {"code": 4, "message": message}


@pytest.mark.parametrize("verdict", [True, None, 1])
async def test_010_allow_request_lets_in(verdict: Any) -> None:
    asked: list[HttpRequest] = []

    async def allow(request: HttpRequest) -> Any:
        asked.append(request)
        return verdict

    async with serving(quick_broker(allow_request=allow)) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        assert len(asked) == 1, "requests that name a session are not put to it"
        async with client(server):
            pass
        assert [request.websocket for request in asked] == [False, True]
        # Only what is sound otherwise is put to it.
        await http(server, "GET", "/socket.io/?transport=polling")
        await http(server, "GET", POLLING, [("Origin", "http://elsewhere.example")])
        assert len(asked) == 2


@pytest.mark.parametrize("value", ["http://a\tb", "caf\xe9", "http://a\x7f.example"])
async def test_012_origin_with_illegal_characters(value: str) -> None:
    broker = quick_broker(cors_allowed_origins="*")
    seen = refusals(broker)
    async with serving(broker) as server:
        for answer in (
            await http(server, "GET", POLLING, [("Origin", value)]),
            await ask(server, WEBSOCKET, [("Origin", value)]),
        ):
            assert answer.status == 400
            assert answer.json["code"] in (3, 109)
            assert not any(value in text for _, text in answer.headers)
        assert all(rule == "INVALID_ORIGIN" for _, rule in seen)


@pytest.mark.parametrize("is_async", [False, True])
async def test_015_generate_id(is_async: bool) -> None:
    numbers = iter(range(10))

    async def later(request: HttpRequest) -> str:
        return f"id-{next(numbers)}"

    make = later if is_async else lambda request: f"id-{next(numbers)}"
    async with serving(quick_broker(generate_id=make)) as server:
        assert (await PollingPeer.open(server)).sid == "id-0"
        async with websocket(server) as peer:
            assert (await peer.opened())["sid"] == "id-1"


@pytest.mark.parametrize("made", [RuntimeError("secret"), "", None, 7, "taken"])
async def test_015_generate_id_fails(made: Any) -> None:
    first = iter(["taken"])

    def make(request: HttpRequest) -> Any:
        for one in first:
            return one
        if isinstance(made, Exception):
            raise made
        return made

    broker = quick_broker(generate_id=make)
    seen = refusals(broker)
    async with serving(broker) as server:
        assert (await PollingPeer.open(server)).sid == "taken"
        for answer in (await http(server, "GET", POLLING), await ask(server, WEBSOCKET)):
            assert answer.status == 400
            assert answer.json == {"code": 3, "message": "Bad request"}
        assert broker.statistics().sessions == 1
        assert seen == [(3, "ID_GENERATION_ERROR")] * 2
        assert broker.statistics().refusals["ID_GENERATION_ERROR"] == 2


BROKEN_HANDSHAKES: list[list[tuple[str, str]]] = [
    [("sec-websocket-key", "")],
    [("sec-websocket-key", ""), ("sec-websocket-version", "")],
    [("sec-websocket-version", "")],
    [("sec-websocket-version", "8")],
    [("connection", "")],
    [("connection", "close")],
    [("host", "")],
]


@pytest.mark.parametrize("headers", BROKEN_HANDSHAKES)
async def test_017_handshake_without_its_headers(headers: list[tuple[str, str]]) -> None:
    broker = quick_broker()
    seen = refusals(broker)
    async with serving(broker) as server:
        async with await HttpPeer.open(server) as peer:
            await peer.send_raw(upgrade_head(WEBSOCKET, peer.authority, headers))
            answer = await peer.receive()
        if headers[0] == ("host", ""):
            assert answer.status == 400
            assert seen == []  # no HTTP/1.1, so no request of anybody's
        else:
            wrong_version = headers[0][0] == "sec-websocket-version"
            assert (answer.status, answer.json["code"]) == ((426, 111) if wrong_version else (400, 109))
            assert [code for code, _ in seen] == [answer.json["code"]]
        assert broker.statistics().sessions == 0
        assert (await http(server, "GET", POLLING)).status == 200


@pytest.mark.parametrize("extension", ["permessage-deflate", "permessage-deflate; =;;,", ";", "a" * 3_000])
async def test_017_the_protocol_offered_is_agreed_to_and_the_extension_is_not(extension: str) -> None:
    headers = [("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Extensions", extension)]
    async with serving(quick_broker()) as server, await BareWebSocket.open(server, headers=headers) as peer:
        assert peer.answer.status == 101
        assert peer.answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert peer.answer.header("sec-websocket-protocol") == "chat"
        assert peer.answer.header("sec-websocket-extensions") is None


@pytest.mark.parametrize("upgrade", [False, True])
async def test_018_garbage_behind_the_handshake(upgrade: bool) -> None:
    broker = quick_broker()
    async with serving(broker) as server:
        polling = await PollingPeer.open(server) if upgrade else None
        sid = polling.sid if polling else None
        async with await BareWebSocket.open(server, sid=sid, extra=b"\xff" * 40) as peer:
            assert peer.answer.status == 101
            assert (await peer.expect_close()).code in ((1002, 1000) if upgrade else (1002,))
        if polling:
            await polling.join()
        assert (await http(server, "GET", POLLING)).status == 200


async def test_018_frames_behind_the_handshake_are_taken() -> None:
    async with (
        serving(quick_broker()) as server,
        await BareWebSocket.open(server, extra=build_frame(TEXT, b"40")) as peer,
    ):
        first, second = await peer.receive_frame(), await peer.receive_frame()
        assert first is not None
        assert second is not None
        assert (first.payload[:2], second.payload[:3]) == (b"0{", b"40{")


@pytest.mark.parametrize("slash", [True, False])
async def test_019_trailing_slash(slash: bool) -> None:
    async with serving(quick_broker(add_trailing_slash=slash)) as server:
        without = await http(server, "GET", "/socket.io?EIO=4&transport=polling")
        assert without.status == (404 if slash else 200)
        below = await http(server, "GET", "/socket.io/foo/bar/?EIO=4&transport=polling")
        assert below.status == 200
        assert (await http(server, "GET", "/socket.iox/?EIO=4&transport=polling")).status == 404


async def test_019_another_path() -> None:
    async with serving(quick_broker(path="/chat/")) as server:
        await (await PollingPeer.open(server, "/chat/?EIO=4")).join()
        async with client(server, path="/chat/?EIO=4"):
            pass
        assert (await http(server, "GET", POLLING)).status == 404


async def test_020_upgrade_on_a_foreign_path() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "theirs"})
        await send({"type": "websocket.close", "code": 1000})

    broker = quick_broker()
    async with serving(broker) as server:
        with pytest.raises(ConnectionRejected) as refused:
            async with websocket(server, "/other/?EIO=4"):
                pass
        assert refused.value.status_code in (403, 404)
    async with serving(broker, app=_without_lifespan(app)) as server:
        async with websocket(server, "/other/?EIO=4") as peer:
            await peer.expect("theirs")
        async with client(server):
            pass


def _without_lifespan(app: Any) -> Any:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await app(scope, receive, send)

    return wrapped


async def test_021_other_paths_are_not_found_or_the_applications() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})

    broker = quick_broker()
    async with serving(broker) as server:
        assert (await http(server, "GET", "/")).status == 404
    async with serving(broker, app=_without_lifespan(app)) as server:
        assert (await http(server, "GET", "/")).body == b"hi"
        assert (await http(server, "GET", POLLING)).status == 200


async def test_022_the_query_is_seen() -> None:
    broker = quick_broker()
    seen: list[tuple[str, dict[str, str]]] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        seen.append((socket.transport, dict(socket.handshake.query)))

    path = "/socket.io/?a=b&name=J%C3%BCrgen+K&EIO=4"
    query = {"a": "b", "name": "Jürgen K", "EIO": "4"}
    async with serving(broker) as server:
        await (await PollingPeer.open(server, path)).join()
        async with client(server, path=path):
            pass
    assert seen == [
        ("polling", query | {"transport": "polling"}),
        ("websocket", query | {"transport": "websocket"}),
    ]


@pytest.mark.parametrize("options", [{"allow_upgrades": False}, {"transports": ("polling",)}])
async def test_023_no_upgrades(options: dict[str, Any]) -> None:
    async with serving(quick_broker(**options)) as server:
        peer = await PollingPeer.open(server)
        assert peer.handshake["upgrades"] == []
        if "transports" in options:
            assert (await ask(server, f"{WEBSOCKET}&sid={peer.sid}")).json["code"] == 0
        else:
            async with websocket(server, sid=peer.sid) as probe:
                assert (await probe.expect_close()).code == 1008
        await peer.join()


async def test_023_websocket_alone() -> None:
    async with serving(quick_broker(transports=("websocket",))) as server:
        assert (await http(server, "GET", POLLING)).json["code"] == 0
        async with client(server):
            pass


COOKIES = [
    (True, "io={sid}; Path=/; HttpOnly; SameSite=Lax"),
    ("name", "name={sid}; Path=/; HttpOnly; SameSite=Lax"),
    ({"path": "/custom"}, "io={sid}; Path=/custom; HttpOnly; SameSite=Lax"),
    ({"path": None}, "io={sid}; HttpOnly; SameSite=Lax"),
    ({"http_only": False}, "io={sid}; Path=/; SameSite=Lax"),
    ({"same_site": "Strict"}, "io={sid}; Path=/; HttpOnly; SameSite=Strict"),
    ({"same_site": "None", "secure": True}, "io={sid}; Path=/; HttpOnly; Secure; SameSite=None"),
]


@pytest.mark.parametrize(("cookie", "expected"), COOKIES)
async def test_025_cookie(cookie: Any, expected: str) -> None:
    async with serving(quick_broker(cookie=cookie)) as server:
        peer = await PollingPeer.open(server)
        assert peer.opened.all("set-cookie") == [expected.format(sid=peer.sid)]
        await peer.send("40")
        later = await peer.get()
        assert later.status == 200
        assert later.all("set-cookie") == []
        async with await BareWebSocket.open(server) as bare:
            assert bare.answer.all("set-cookie") == []
        # It proves nothing.
        named = [("Cookie", f"io={peer.sid}; name={peer.sid}")]
        again = await http(server, "GET", POLLING, named)
        assert peer.sid not in again.text


@pytest.mark.parametrize("cookie", [None, False])
async def test_025_no_cookie(cookie: Any) -> None:
    async with serving(quick_broker(cookie=cookie)) as server:
        assert (await PollingPeer.open(server)).opened.all("set-cookie") == []


async def test_026_nothing_is_stored() -> None:
    async with serving(quick_broker()) as server:
        peer = await PollingPeer.open(server)
        posted = await peer.post("40")
        got = await peer.get()
        refused = await http(server, "PUT", peer.target)
        for response in (peer.opened, posted, got, refused):
            assert response.all("cache-control") == ["no-store"]
            assert response.header("server") is None


async def test_027_header_hooks() -> None:
    broker = quick_broker()
    calls: list[str] = []

    @broker.engine.on("initial_headers")
    def initial(headers: list[tuple[str, str]], request: HttpRequest) -> None:
        calls.append("initial")
        headers.append(("X-First", "1"))

    @broker.engine.on("headers")
    def each(headers: list[tuple[str, str]], request: HttpRequest) -> None:
        calls.append("each")
        headers.append(("X-Each", request.method))

    @broker.engine.on("headers")
    def broken(headers: list[tuple[str, str]], request: HttpRequest) -> None:
        raise RuntimeError

    async with serving(broker) as server:
        peer = await PollingPeer.open(server)
        assert (peer.opened.header("x-first"), peer.opened.header("x-each")) == ("1", "GET")
        posted = await peer.post("40")
        assert (posted.header("x-first"), posted.header("x-each")) == (None, "POST")
        assert calls == ["initial", "each", "each"]
        async with await BareWebSocket.open(server) as bare:
            assert (bare.answer.header("x-first"), bare.answer.header("x-each")) == ("1", "GET")
        async with await BareWebSocket.open(server, sid=peer.sid) as probe:
            assert (probe.answer.header("x-first"), probe.answer.header("x-each")) == (None, "GET")
        refused = await http(server, "GET", "/socket.io/")
        assert (refused.header("x-first"), refused.header("x-each")) == (None, "GET")
    with pytest.raises(ValueError, match="no hook 'footers'"):
        broker.engine.on("footers")  # type: ignore[arg-type]


async def test_028_middlewares_run_in_order() -> None:
    broker = quick_broker()
    order: list[int] = []

    @broker.engine.use
    def first(request: HttpRequest) -> None:
        order.append(1)
        request.response_headers.append(("X-Frame-Options", "SAMEORIGIN"))

    @broker.engine.use
    async def second(request: HttpRequest) -> None:
        await trio.lowlevel.checkpoint()
        order.append(2)
        request.response_headers.append(("Set-Cookie", "session=1"))

    async with serving(broker) as server:
        peer = await PollingPeer.open(server)
        for response in (peer.opened, await peer.post("40")):
            assert response.header("x-frame-options") == "SAMEORIGIN"
            assert response.all("set-cookie") == ["session=1"]
        async with await BareWebSocket.open(server) as bare:
            assert bare.answer.status == 101
            assert bare.answer.all("set-cookie") == ["session=1"]
            assert bare.answer.header("x-frame-options") == "SAMEORIGIN"
        assert order == [1, 2] * 3


async def test_029_a_middleware_answers() -> None:
    broker = quick_broker()
    after: list[HttpRequest] = []
    broker.engine.use(lambda request: HttpResponse(503, b"later", (("Retry-After", "7"),)))
    broker.engine.use(after.append)
    async with serving(broker) as server:
        for answer in (await http(server, "GET", POLLING), await ask(server, WEBSOCKET)):
            assert (answer.status, answer.body, answer.header("retry-after")) == (503, b"later", "7")
        assert after == []


async def test_029_a_middleware_fails() -> None:
    broker = quick_broker()
    seen = refusals(broker)

    @broker.engine.use
    async def fail(request: HttpRequest) -> None:
        raise RuntimeError("secret")

    async with serving(broker) as server:
        for answer in (await http(server, "GET", POLLING), await ask(server, WEBSOCKET)):
            assert (answer.status, answer.json) == (400, {"code": 3, "message": "Bad request"})
    assert seen == [(3, "MIDDLEWARE_FAILURE")] * 2


async def test_030_the_address_of_the_peer() -> None:
    broker = quick_broker()
    seen: list[tuple[str, str, bool]] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        seen.append((socket.transport, socket.handshake.address, socket.handshake.secure))

    async with serving(broker) as server:
        await (await PollingPeer.open(server)).join()
        async with client(server):
            pass
    assert seen == [("polling", "127.0.0.1", False), ("websocket", "127.0.0.1", False)]


async def test_too_many_sessions() -> None:
    async with serving(quick_broker(limits=Limits(sessions=1))) as server:
        await PollingPeer.open(server)
        for answer in (await http(server, "GET", POLLING), await ask(server, WEBSOCKET)):
            assert (answer.status, answer.json["code"]) == (503, 107)
            assert answer.json["message"] == "Too many sessions"
            assert answer.header("retry-after") is not None


@pytest.mark.parametrize("target", [POLLING, WEBSOCKET])
@pytest.mark.parametrize("hook", ["allow_request", "generate_id"])
async def test_too_many_sessions_come_while_the_application_is_asked(hook: str, target: str) -> None:
    asked: list[HttpRequest] = []
    answer = trio.Event()

    async def ask_elsewhere(request: HttpRequest) -> str | bool:
        asked.append(request)
        name = f"session-{len(asked)}"
        await answer.wait()
        return name if hook == "generate_id" else True

    broker = quick_broker(ping_interval=25.0, limits=Limits(sessions=2), **{hook: ask_elsewhere})
    statuses: list[int] = []
    done = trio.Event()

    async def come(server: Server) -> None:
        async with await HttpPeer.open(server) as peer:
            await peer.send_raw(
                upgrade_head(target, headers=[("upgrade", "websocket" if target == WEBSOCKET else "")])
            )
            statuses.append(int((await peer.stream.receive_some()).split()[1]))
            await done.wait()

    async with serving(broker) as server, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(come, server)
        await until(lambda: len(asked) == 5)
        answer.set()
        await until(lambda: len(statuses) == 5)
        assert broker.engine.clients_count == 2
        assert statuses.count(503) == 3
        done.set()


async def test_draining_refuses_newcomers() -> None:
    broker = quick_broker()
    async with serving(broker) as server:
        await broker.drain(deadline=1)
        for answer in (await http(server, "GET", POLLING), await ask(server, WEBSOCKET)):
            assert (answer.status, answer.json["code"]) == (503, 108)
            assert answer.header("retry-after") is not None


async def test_the_handshake_is_what_the_first_request_said() -> None:
    broker = quick_broker()
    seen: list[Socket] = []
    broker.on("connect")(seen.append)
    async with serving(broker) as server:
        peer = await PollingPeer.open(server, headers=[("X-One", "a"), ("X-One", "b")])
        peer.headers = [("X-One", "changed")]
        await peer.join()
        handshake = seen[0].handshake
        assert handshake.headers["x-one"] == "a, b"
        assert handshake.url == POLLING
        assert handshake.xdomain is False
