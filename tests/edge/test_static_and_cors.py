"""Edge cases 201 to 204: the files of the browser client, origins, and what browsers are told of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from broker import Broker, HttpRequest
from broker.server.static_client import NAMES, StaticClient
from tests.peers import (
    ENGINE_PATH,
    BareWebSocket,
    PollingPeer,
    Response,
    http,
    quick_broker,
    serving,
)

POLLING = f"{ENGINE_PATH}&transport=polling"
ORIGIN = "https://app.example"
VERSION = "9.8.7"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of small files in the place of the browser client."""
    (tmp_path / "VERSION").write_text(VERSION + "\n")
    for name in NAMES:
        (tmp_path / name).write_text(f"/* {name} {VERSION} */" * 50)
    return tmp_path


def broker_with(folder: Path, **options: Any) -> Broker:
    """Return a broker that serves the client from this folder."""
    broker = quick_broker(**options)
    broker._client = StaticClient(folder)
    return broker


# -- files of the client -------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NAMES))
async def test_201_files_of_the_client(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    async with serving(broker_with(folder)) as server:
        for target in (f"/socket.io/{name}", f"/socket.io/{name}?t=1&EIO=4"):
            got = await http(server, "GET", target)
            assert (got.status, got.body) == (200, content)
            kind = "application/json" if name.endswith(".map") else "application/javascript"
            assert got.header("content-type") == f"{kind}; charset=utf-8"
            assert got.header("etag") == f'"{VERSION}"'
            assert got.header("cache-control") == "public, max-age=0"
            assert got.header("content-encoding") is None


@pytest.mark.parametrize("tag", [f'"{VERSION}"', f'W/"{VERSION}"'])
async def test_201_a_file_that_the_browser_has(folder: Path, tag: str) -> None:
    async with serving(broker_with(folder)) as server:
        headers = [("If-None-Match", tag), ("Accept-Encoding", "gzip")]
        got = await http(server, "GET", "/socket.io/socket.io.js", headers)
        assert (got.status, got.body, got.header("etag")) == (304, b"", f'"{VERSION}"')
        other = [("If-None-Match", '"1.2.3"')]
        assert (await http(server, "GET", "/socket.io/socket.io.js", other)).status == 200


async def test_201_compressed(folder: Path) -> None:
    async with serving(broker_with(folder)) as server:
        for _ in range(2):
            got = await http(server, "GET", "/socket.io/socket.io.js", [("Accept-Encoding", "br, gzip")])
            assert got.header("content-encoding") == "gzip"
            assert got.header("vary") == "Accept-Encoding"
            assert gzip.decompress(got.body) == (folder / "socket.io.js").read_bytes()


async def test_201_head_has_no_body(folder: Path) -> None:
    size = len((folder / "socket.io.js").read_bytes())
    async with serving(broker_with(folder)) as server:
        got = await http(server, "HEAD", "/socket.io/socket.io.js")
        assert (got.status, got.body, got.header("content-length")) == (200, b"", str(size))


@pytest.mark.skipif(
    not resources.files("broker.bundle").joinpath("VERSION").is_file(),
    reason="the browser client is not in place",
)
async def test_201_the_real_client() -> None:
    version = StaticClient().version
    async with serving(quick_broker()) as server:
        for name in NAMES:
            got = await http(server, "GET", f"/socket.io/{name}")
            assert (got.status, got.header("etag")) == (200, f'"{version}"')
            if name.endswith(".js"):
                assert f"v{version}" in got.text[:200]
            else:
                json.loads(got.body)


async def test_201_a_client_that_was_not_fetched(tmp_path: Path) -> None:
    async with serving(broker_with(tmp_path)) as server:
        got = await http(server, "GET", "/socket.io/socket.io.js")
        assert got.status == 404
        assert b"make setup" in got.body
        assert (await http(server, "GET", POLLING)).status == 200


@pytest.mark.parametrize(
    "name",
    ["socket.io.esm.js", "VERSION", "__init__.py", "../socket.io.js", "%2e%2e/VERSION", "x/socket.io.js"],
)
async def test_202_other_files_are_requests_to_the_engine(folder: Path, name: str) -> None:
    async with serving(broker_with(folder)) as server:
        got = await http(server, "GET", f"/socket.io/{name}")
        assert (got.status, got.json["code"]) == (400, 0)


async def test_202_other_paths_and_methods(folder: Path) -> None:
    async with serving(broker_with(folder)) as server:
        assert (await http(server, "GET", "/socket.io.js")).status == 404
        assert (await http(server, "GET", "/other/socket.io.js")).status == 404
        assert (await http(server, "POST", "/socket.io/socket.io.js")).status == 400
    async with serving(broker_with(folder, path="/chat")) as server:
        assert (await http(server, "GET", "/chat/socket.io.js")).status == 200
        assert (await http(server, "GET", "/socket.io/socket.io.js")).status == 404


async def test_202_no_client() -> None:
    async with serving(quick_broker(serve_client=False)) as server:
        got = await http(server, "GET", "/socket.io/socket.io.js")
        assert (got.status, got.json["code"]) == (400, 0)


async def test_202_cors_headers_on_files(folder: Path) -> None:
    async with serving(broker_with(folder, cors_allowed_origins=[ORIGIN])) as server:
        got = await http(server, "GET", "/socket.io/socket.io.js", [("Origin", ORIGIN)])
        assert got.header("access-control-allow-origin") == ORIGIN
        assert "Origin" in (got.header("vary") or "")


# -- who is let in: every kind of request --------------------------------------------


Ask = Callable[[Any, PollingPeer, list[tuple[str, str]]], Any]


async def _handshake(server: Any, peer: PollingPeer, headers: list[tuple[str, str]]) -> Response:
    return await http(server, "GET", POLLING, headers)


async def _get(server: Any, peer: PollingPeer, headers: list[tuple[str, str]]) -> Response:
    return await http(server, "GET", peer.target, headers)


async def _post(server: Any, peer: PollingPeer, headers: list[tuple[str, str]]) -> Response:
    return await http(server, "POST", peer.target, headers, "6")


async def _websocket(server: Any, peer: PollingPeer, headers: list[tuple[str, str]]) -> Response:
    async with await BareWebSocket.open(server, headers=headers) as bare:
        return bare.answer


async def _upgrade(server: Any, peer: PollingPeer, headers: list[tuple[str, str]]) -> Response:
    async with await BareWebSocket.open(server, sid=peer.sid, headers=headers) as bare:
        return bare.answer


KINDS = [_handshake, _get, _post, _websocket, _upgrade]


async def _ready(server: Any) -> PollingPeer:
    """Open a polling session whose next GET has an answer waiting."""
    peer = await PollingPeer.open(server)
    await peer.send("40")
    return peer


@pytest.mark.parametrize("ask", KINDS)
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil",
    ],
)
async def test_204_an_origin_that_is_not_on_the_list(ask: Ask, origin: str) -> None:
    broker = quick_broker(cors_allowed_origins=[ORIGIN, "https://b.example"])
    seen: list[int] = []
    broker.engine.on("connection_error")(lambda request, refused: seen.append(refused.refusal.code))
    async with serving(broker) as server:
        peer = await _ready(server)
        answer = await ask(server, peer, [("Origin", origin)])
        assert answer.status == 403
        assert answer.json == {
            "code": 100,
            "message": "Origin not allowed",
            "detail": f"origin {origin} is not allowed; expected {ORIGIN}, https://b.example",
        }
        assert answer.header("access-control-allow-origin") is None
        assert answer.header("vary") == "Origin"
        assert seen == [100]
        assert (await peer.receive()).startswith("40{"), "the session is untouched"


@pytest.mark.parametrize("ask", KINDS)
async def test_204_without_a_list_only_the_same_origin(ask: Ask) -> None:
    async with serving(quick_broker()) as server:
        host = f"127.0.0.1:{server.port}"
        for origin in (f"http://{host}", f"https://{host}"):
            answer = await ask(server, await _ready(server), [("Origin", origin)])
            assert answer.status in (200, 101)
            assert not [name for name, _ in answer.headers if name.startswith("access-control")]
        for origin in ("http://127.0.0.1", f"http://localhost:{server.port}", "null", "http://[::1", "x"):
            answer = await ask(server, await _ready(server), [("Origin", origin)])
            assert (answer.status, answer.json["code"]) == (403, 100)
            assert (
                answer.json["detail"] == f"origin {origin} is not allowed; expected the same origin ({host})"
            )


@pytest.mark.parametrize("ask", KINDS)
@pytest.mark.parametrize("credentials", [False, True])
async def test_203_an_origin_on_the_list(ask: Ask, credentials: bool) -> None:
    broker = quick_broker(cors_allowed_origins=["HTTPS://App.example:443"], cors_credentials=credentials)
    async with serving(broker) as server:
        answer = await ask(server, await _ready(server), [("Origin", ORIGIN)])
        assert answer.status in (200, 101)
        assert answer.header("access-control-allow-origin") == ORIGIN
        assert answer.header("access-control-allow-credentials") == ("true" if credentials else None)
        assert answer.header("vary") == "Origin"
        answer = await ask(server, await _ready(server), [])
        assert answer.status in (200, 101)
        assert answer.header("access-control-allow-origin") is None


@pytest.mark.parametrize("ask", KINDS)
async def test_203_every_origin(ask: Ask) -> None:
    async with serving(quick_broker(cors_allowed_origins="*")) as server:
        for origin in (ORIGIN, "null"):
            answer = await ask(server, await _ready(server), [("Origin", origin)])
            assert answer.status in (200, 101)
            assert answer.header("access-control-allow-origin") == "*"


async def test_203_refusals_have_cors_headers() -> None:
    async with serving(quick_broker(cors_allowed_origins=[ORIGIN])) as server:
        for answer in (
            await http(server, "GET", f"{POLLING}&sid=unknown", [("Origin", ORIGIN)]),
            await http(server, "POST", POLLING, [("Origin", ORIGIN)]),
        ):
            assert answer.status == 400
            assert answer.header("access-control-allow-origin") == ORIGIN


# -- preflight requests ---------------------------------------------------------------


PREFLIGHT = "/socket.io/default/?transport=polling&EIO=4"
ASKED = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "x-one,x-two")]


async def test_203_preflight() -> None:
    broker = quick_broker(
        cors_allowed_origins=[ORIGIN],
        cors_methods=["GET", "POST"],
        cors_allowed_headers=["content-type"],
        cors_credentials=True,
        cors_max_age=600,
    )
    async with serving(broker) as server:
        answer = await http(server, "OPTIONS", PREFLIGHT, [("Origin", ORIGIN), *ASKED])
        assert (answer.status, answer.body) == (204, b"")
        assert answer.header("cache-control") == "no-store"
        told = {name: value for name, value in answer.headers if name.startswith("access-control")}
        assert told == {
            "access-control-allow-origin": ORIGIN,
            "access-control-allow-methods": "GET,POST",
            "access-control-allow-headers": "content-type",
            "access-control-allow-credentials": "true",
            "access-control-max-age": "600",
        }
        got = await http(server, "GET", PREFLIGHT, [("Origin", ORIGIN)])
        assert got.status == 200
        assert got.header("access-control-allow-origin") == ORIGIN
        assert got.header("access-control-allow-credentials") == "true"


async def test_203_preflight_reflects_the_headers_asked_for() -> None:
    async with serving(quick_broker(cors_allowed_origins=[ORIGIN])) as server:
        answer = await http(server, "OPTIONS", PREFLIGHT, [("Origin", ORIGIN), *ASKED])
        assert answer.header("access-control-allow-headers") == "x-one,x-two"
        assert answer.header("access-control-max-age") is None
        # It comes before all checks.
        answer = await http(server, "OPTIONS", "/socket.io/?sid=unknown", [("Origin", ORIGIN)])
        assert (answer.status, answer.header("access-control-allow-headers")) == (204, None)


async def test_204_preflight_of_another_origin() -> None:
    async with serving(quick_broker(cors_allowed_origins=[ORIGIN])) as server:
        answer = await http(server, "OPTIONS", PREFLIGHT, [("Origin", "https://evil.example"), *ASKED])
        assert (answer.status, answer.json["code"]) == (403, 100)
        assert not [name for name, _ in answer.headers if name.startswith("access-control")]


async def test_203_options_without_a_list_is_a_method_like_any_other() -> None:
    async with serving(quick_broker()) as server:
        answer = await http(server, "OPTIONS", POLLING, ASKED)
        assert (answer.status, answer.json["code"]) == (400, 2)
        peer = await _ready(server)
        for method in ("OPTIONS", "PUT", "DELETE", "PATCH"):
            answer = await http(server, method, peer.target)
            assert (answer.status, answer.json["code"]) == (405, 102)
        assert (await peer.receive()).startswith("40{")


# -- hooks see all of it ---------------------------------------------------------------


async def test_204_the_application_may_decide_about_origins() -> None:
    async def allow(request: HttpRequest) -> bool | str:
        return request.header("origin") == ORIGIN or "not from there"

    async with serving(quick_broker(cors_allowed_origins="*", allow_request=allow)) as server:
        assert (await http(server, "GET", POLLING, [("Origin", ORIGIN)])).status == 200
        answer = await http(server, "GET", POLLING, [("Origin", "https://evil.example")])
        assert (answer.status, answer.json) == (403, {"code": 4, "message": "not from there"})
        assert answer.header("access-control-allow-origin") == "*"
