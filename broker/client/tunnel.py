"""A connection through an HTTP proxy, for the WebSocket; long-polling leaves its proxy to httpx2."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import SplitResult, unquote, urlsplit

import h11
import trio


def check_proxy(proxy: str) -> None:
    """Refuse what cannot be the proxy of a WebSocket.

    Raises:
        ValueError: It is not the URL of an HTTP proxy.
    """
    parts = urlsplit(proxy)
    try:
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"the proxy must be http://HOST:PORT for a WebSocket, not {proxy!r}")


async def open_tunnel(proxy: str, host: str, port: int) -> trio.abc.Stream:
    """Ask a proxy to connect to a host.

    Args:
        proxy: Its URL, `http://[user:password@]host:port`, checked.
        host: The host to reach.
        port: The TCP port to reach.

    Raises:
        OSError: The proxy does not answer, or refuses.
        h11.ProtocolError: What it answers is not HTTP.
    """
    parts = urlsplit(proxy)
    assert parts.hostname is not None
    stream = await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    try:
        await _connect(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", _login(parts))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _login(parts: SplitResult) -> list[tuple[str, str]]:
    user, password = parts.username, parts.password
    if user is None:
        return []
    token = b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
    return [("Proxy-Authorization", f"Basic {token}")]


async def _connect(stream: trio.abc.Stream, target: str, login: list[tuple[str, str]]) -> None:
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(method="CONNECT", target=target, headers=[("Host", target), *login])
    data = http.send(request)
    assert data is not None
    await stream.send_all(data + (http.send(h11.EndOfMessage()) or b""))
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(65_536)))
            continue
        if isinstance(event, h11.Response):
            break
        if isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("the proxy ended the connection")
    if not 200 <= event.status_code < 300:
        raise ConnectionError(f"the proxy refused the connection with status {event.status_code}")
