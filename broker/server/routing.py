"""Which requests are the engine's, and what a path below it names."""

from __future__ import annotations

from broker.flow.request import HttpRequest
from broker.flow.settings import Settings


def is_engine_path(settings: Settings, path: str) -> bool:
    """Tell whether a path is the engine's. Spec: EIO-HTTP-1."""
    if path.startswith(settings.path + "/"):
        return True
    return not settings.add_trailing_slash and path == settings.path


def client_file(settings: Settings, path: str) -> str | None:
    """Return what stands behind the engine's path if it could be a file."""
    prefix = settings.path + "/"
    return path[len(prefix) :] or None if path.startswith(prefix) else None


def wants_base64(request: HttpRequest) -> bool:
    """Tell whether the client wants binary packets as text, also over a WebSocket. Spec: EIO-HTTP-2."""
    asked = request.engine_request()
    return asked is not None and asked.parameter("b64") not in (None, "", "0")
