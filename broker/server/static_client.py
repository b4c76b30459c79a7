"""Serves the official browser client, if the set-up step has put it into the package."""

from __future__ import annotations

import gzip
from importlib import resources
from importlib.resources.abc import Traversable

from broker.flow.request import HttpRequest
from protocol.http_head import Header

from .engine_hooks import HttpResponse

_SCRIPTS = ("socket.io.js", "socket.io.min.js", "socket.io.msgpack.min.js", "socket.io.esm.min.js")
NAMES = frozenset(name + suffix for name in _SCRIPTS for suffix in ("", ".map"))


class StaticClient:
    """The files of the browser client.

    Args:
        folder: Where they are, with their version in the file VERSION; None takes those of the package.
    """

    def __init__(self, folder: Traversable | None = None) -> None:
        self._folder = resources.files("broker.bundle") if folder is None else folder
        self._contents: dict[str, bytes] = {}
        self._compressed: dict[str, bytes] = {}
        version = self._folder.joinpath("VERSION")
        self.version = version.read_text().strip() if version.is_file() else None

    def answer(self, request: HttpRequest, name: str) -> HttpResponse | None:
        """Return the answer for a file of the client; None if `name` is none of them.

        Args:
            request: A GET or HEAD request.
            name: What stands behind the path of the engine.
        """
        if name not in NAMES or request.method not in ("GET", "HEAD"):
            return None
        if self.version is None:
            text = b"The browser client is not installed; `make setup` puts it in place.\n"
            return HttpResponse(404, text, (("Content-Type", "text/plain; charset=utf-8"),))
        etag = f'"{self.version}"'
        headers: tuple[Header, ...] = (
            ("Cache-Control", "public, max-age=0"),
            ("ETag", etag),
            ("Vary", "Accept-Encoding"),
        )
        if request.header("if-none-match") in (etag, f"W/{etag}"):
            return HttpResponse(304, headers=headers)
        kind = "application/json" if name.endswith(".map") else "application/javascript"
        headers += (("Content-Type", f"{kind}; charset=utf-8"),)
        if "gzip" not in (request.header("accept-encoding") or ""):
            return HttpResponse(200, self._content(name), headers)
        if name not in self._compressed:
            self._compressed[name] = gzip.compress(self._content(name), mtime=0)
        return HttpResponse(200, self._compressed[name], (*headers, ("Content-Encoding", "gzip")))

    def _content(self, name: str) -> bytes:
        if name not in self._contents:
            self._contents[name] = self._folder.joinpath(name).read_bytes()
        return self._contents[name]
