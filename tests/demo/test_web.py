"""The page of the chat as an ASGI application."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import attrs
import pytest

from broker.demo import app
from broker.demo.web import FILES


@attrs.frozen
class Response:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def ask(path: str, method: str = "GET", headers: Mapping[bytes, bytes] = {}) -> Response:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:  # noqa: ASYNC124 - ASGI wants a coroutine
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:  # noqa: ASYNC124 - likewise
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers.items())}
    await app(scope, receive, send)
    start, body = sent
    return Response(start["status"], dict(start["headers"]), body["body"])


@pytest.mark.parametrize("path", FILES)
async def test_every_file_has_its_type_and_guards(path: str) -> None:
    response = await ask(path)
    assert response.status == 200
    assert response.headers[b"content-type"].decode() == FILES[path][1]
    assert response.headers[b"cache-control"] == b"no-cache"
    assert response.headers[b"x-content-type-options"] == b"nosniff"
    assert b"default-src 'none'" in response.headers[b"content-security-policy"]
    assert int(response.headers[b"content-length"]) == len(response.body) > 0


def test_every_file_of_the_page_is_known() -> None:
    names = {file.name for file in files("broker.demo").joinpath("page").iterdir()}
    assert names == {name for name, _ in FILES.values()}


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    for path in FILES:
        text = (await ask(path)).body.decode()
        links = set(re.findall(r"(?:https?:|wss?:)?//[a-z0-9.]+\.[a-z]+", text))
        assert links <= {"http://www.w3.org"}, path  # the name of SVG, not an address
        assert "innerHTML" not in text


async def test_head_has_the_headers_alone() -> None:
    response = await ask("/", "HEAD")
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers[b"content-length"]) > 0


async def test_an_unchanged_file_is_not_sent_again() -> None:
    etag = (await ask("/app.js")).headers[b"etag"]
    again = await ask("/app.js", headers={b"if-none-match": etag})
    assert (again.status, again.body) == (304, b"")
    assert (await ask("/app.js", headers={b"if-none-match": b'"other"'})).status == 200


@pytest.mark.parametrize("path", ["/nothing", "/../chat.py", "/page/index.html", "//", ""])
async def test_other_paths_are_not_found(path: str) -> None:
    assert (await ask(path)).status == 404


async def test_other_methods_are_refused() -> None:
    response = await ask("/", "POST")
    assert response.status == 405
    assert response.headers[b"allow"] == b"GET, HEAD"
