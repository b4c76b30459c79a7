"""Where a Redis server is and how to get in, from a URL."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import trio
from attrs import field, frozen

from broker.flow.settings_checks import ConfigError

_PORT: Final = 6379
_SCHEMES: Final = ("redis", "rediss", "unix")


@frozen(kw_only=True)
class RedisAddress:
    """One server.

    Attributes:
        host: Name or address.
        port: TCP port.
        path: Unix socket; wins over both.
        username: Whom to log in as; None is the default user.
        password: With what; None does not log in.
        database: Number of the database; channels are shared by all, keys and streams are not.
        ssl_context: For TLS; None is without.
    """

    host: str = "127.0.0.1"
    port: int = _PORT
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    ssl_context: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    async def connect(self) -> trio.abc.Stream:
        """Open a stream to it.

        Raises:
            OSError: It cannot be reached.
        """
        if self.path is not None:
            return await trio.open_unix_socket(self.path)
        stream = await trio.open_tcp_stream(self.host, self.port)
        if self.ssl_context is None:
            return stream
        secure = trio.SSLStream(stream, self.ssl_context, server_hostname=self.host)
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(secure)
            raise
        return secure


def parse_url(url: str, ssl_context: ssl.SSLContext | None = None) -> RedisAddress:
    """Read `redis://`, `rediss://` or `unix://`: `redis://user:password@host:6379/0`, `unix:///path?db=0`.

    Args:
        url: The URL; user, password and path percent-encoded.
        ssl_context: For `rediss://`; None verifies the server by the certificates of the system.

    Raises:
        ConfigError: It is none of these.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # Its own words may show the password.
        raise ConfigError("adapter: the host in the Redis URL cannot be read") from None
    scheme = parts.scheme
    if "sentinel" in scheme:
        raise ConfigError(
            "adapter: Sentinel is not asked for the master; give the URL of the master, by a name that"
            " follows it (docs/scaling.md)"
        )
    if scheme not in _SCHEMES:
        raise ConfigError(f"adapter: a Redis URL begins with redis://, rediss:// or unix://, not {scheme}://")
    if "," in parts.netloc:
        raise ConfigError(
            "adapter: one server is needed, not a list; for Sentinel and Cluster see docs/scaling.md"
        )
    if ssl_context is not None and scheme != "rediss":
        raise ConfigError(f"adapter: ssl_context is for rediss://, not for {scheme}://")
    try:
        port, database = parts.port or _PORT, _database(scheme, parts.path, parts.query)
    except ValueError:
        raise ConfigError("adapter: port and database of a Redis URL are numbers") from None
    if scheme == "rediss" and ssl_context is None:
        ssl_context = ssl.create_default_context()
    return RedisAddress(
        host=parts.hostname or "127.0.0.1",
        port=port,
        path=unquote(parts.path) if scheme == "unix" else None,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        database=database,
        ssl_context=ssl_context,
    )


def _database(scheme: str, path: str, query: str) -> int:
    named = parse_qs(query).get("db")
    if named:
        return int(named[-1])
    return 0 if scheme == "unix" else int(path.strip("/") or 0)
