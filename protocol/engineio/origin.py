"""Whether a browser page of this origin may talk to the broker."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

ANY_ORIGIN = "*"


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Tell whether a request is let in. Spec: EIO-ORIGIN-1.

    Args:
        origin: The Origin header; None for clients that are no browsers, which are let in.
        host: The Host header of the request.
        allowed: Origins let in; empty means the page's own host only; `"*"` lets all in.
    """
    if origin is None or ANY_ORIGIN in allowed:
        return True
    if allowed:
        return origin in allowed
    # A proxy in front may end TLS, so the scheme is not compared, only host and port.
    return host is not None and _host_of_origin(origin) == host.lower()


def _host_of_origin(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return name
    return f"{name}:{port}"


def origin_detail(origin: str, host: str | None, allowed: Collection[str]) -> str:
    """Say in one sentence which origin was refused and what was expected."""
    expected = ", ".join(allowed) if allowed else f"the same origin ({host})"
    return f"origin {origin} is not allowed; expected {expected}"
