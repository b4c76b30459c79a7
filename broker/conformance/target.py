"""Where the server under test is, what its fixture offers, and how long the kit is patient with it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio

from .cases import Skip

DEFAULT_PATH = "/socket.io/"


@dataclass(frozen=True, slots=True)
class Target:
    """One server.

    Attributes:
        host: Host name or address.
        port: TCP port.
        path: Path of the engine, with its slash.
        tls: How to speak TLS; None for plain TCP.
    """

    host: str
    port: int
    path: str = DEFAULT_PATH
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin of a page of this server."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    async def connect(self, *, receive_buffer: int | None = None) -> trio.abc.Stream:
        """Open a connection.

        Args:
            receive_buffer: Bytes that the kernel may take before they are read; None leaves it the choice.

        Raises:
            OSError: Nobody listens there.
        """
        stream = await trio.open_tcp_stream(self.host, self.port)
        if receive_buffer is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if self.tls is None:
            return stream
        secure = trio.SSLStream(stream, self.tls, server_hostname=self.host, https_compatible=True)
        await secure.do_handshake()
        return secure


def parse_url(url: str, tls: ssl.SSLContext | None = None) -> Target:
    """Read `http(s)://HOST:PORT[/path/]`.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not http://HOST:PORT or https://HOST:PORT")
    secure = parts.scheme == "https"
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
    return Target(
        parts.hostname,
        parts.port or (443 if secure else 80),
        path if path.endswith("/") else path + "/",
        (tls or ssl.create_default_context()) if secure else None,
    )


@dataclass(slots=True)
class Fixture:
    """What the server under test offers.

    Attributes:
        main: The server itself.
        parts: Names of the optional parts it has.
        also: Further servers of the same implementation with other options, by name.
        transports: The transports that it has.
        elsewhere: Starts of case ids that something else decides, such as the HTTP server below, and what.
        patience: Seconds within which what has to happen at once must have happened.
        ping_interval: Seconds, as OPEN said.
        ping_timeout: Seconds, as OPEN said.
        max_payload: Bytes, as OPEN said.
    """

    main: Target
    parts: set[str] = field(default_factory=set)
    also: dict[str, Target] = field(default_factory=dict)
    transports: tuple[str, ...] = ("polling", "websocket")
    elsewhere: dict[str, str] = field(default_factory=dict)
    patience: float = 0.15
    ping_interval: float = 0.3
    ping_timeout: float = 0.2
    max_payload: int = 1_000_000

    def has(self, need: str) -> bool:
        """Tell whether a part, or a further server, is there."""
        return need in self.parts or need in self.also

    def decided_elsewhere(self, case_id: str) -> str | None:
        """Return who decides what this case is about, if it is not the implementation."""
        return next((who for start, who in self.elsewhere.items() if case_id.startswith(start)), None)

    def server(self, name: str) -> Target:
        """Return a further server.

        Raises:
            Skip: The fixture has none of this name.
        """
        if name not in self.also:
            raise Skip(f"the fixture has no server {name!r}")
        return self.also[name]
