"""The page of the chat as an ASGI application: a handful of known files, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import attrs

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SCRIPT = "text/javascript; charset=utf-8"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/manifest.webmanifest": ("manifest.webmanifest", "application/manifest+json"),
} | {f"/{name}.js": (f"{name}.js", SCRIPT) for name in ("app", "list", "log", "outbox", "panels")}
# Everything comes from this server. 'self' covers the WebSocket to it as well.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY: Headers = [
    (b"content-security-policy", POLICY.encode("ascii")),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


@attrs.frozen
class Page:
    """A file of the page with the headers that go with it."""

    body: bytes
    etag: bytes
    headers: Headers


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer GET and HEAD for the files of the page (ASGI 3, HTTP and lifespan)."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        await _answer(scope, send)
    else:
        raise ValueError(f"the page speaks HTTP only, not {scope['type']}")


async def _answer(scope: Scope, send: Send) -> None:
    if scope["path"] not in FILES:
        await _respond(send, 404, b"Not found\n")
        return
    if scope["method"] not in ("GET", "HEAD"):
        await _respond(send, 405, b"Only GET and HEAD\n", [(b"allow", b"GET, HEAD")])
        return
    page = _load(scope["path"])
    if dict(scope["headers"]).get(b"if-none-match") == page.etag:
        await _send(send, 304, b"", page.headers)
        return
    headers = [*page.headers, (b"content-length", b"%d" % len(page.body))]
    await _send(send, 200, page.body if scope["method"] == "GET" else b"", headers)


@cache
def _load(path: str) -> Page:
    """Read a file of the package, once; `path` is a key of FILES, never what a peer made up."""
    name, content_type = FILES[path]
    body = files(__package__).joinpath("page", name).read_bytes()
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode("ascii")
    headers = [
        (b"content-type", content_type.encode("ascii")),
        (b"cache-control", b"no-cache"),
        (b"etag", etag),
        *SECURITY,
    ]
    return Page(body, etag, headers)


async def _respond(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    plain: Headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    await _send(send, status, body, [*plain, *SECURITY, *(headers or [])])


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    for _ in range(2):  # one startup, one shutdown
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
