"""Answers what load balancers and orchestrators ask: is it alive, is it ready for clients."""

from __future__ import annotations

from typing import Any

from broker.flow.request import HttpRequest
from broker.sessions.engine import Engine
from protocol.http_head import Header
from protocol.jsontext import dump

from .admission import RETRY_AFTER
from .drain import ENDING
from .engine_hooks import HttpResponse

ALIVE = "healthz"
READY = "readyz"

_HEADERS: tuple[Header, ...] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


async def answer_health(engine: Engine, request: HttpRequest, name: str | None) -> HttpResponse | None:
    """Return the answer for `healthz` and `readyz` below the path of the broker; None for any other name.

    Args:
        engine: The broker's engine.
        request: The request.
        name: What stands behind the path of the engine.
    """
    if name not in (ALIVE, READY):
        return None
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(405, _body("method not allowed"), (*_HEADERS, ("Allow", "GET, HEAD")))
    if name == ALIVE:
        return HttpResponse(200, _body("alive"), _HEADERS)
    problems = {} if engine.is_open else {"broker": "not running"}
    if request.door in engine.closing:
        problems = {"broker": ENDING}
    problems = problems or await engine.readiness.problems()
    if not problems:
        return HttpResponse(200, _body("ready"), _HEADERS)
    body = _body("not ready", reason=next(iter(problems.values())), checks=problems)
    return HttpResponse(503, body, (*_HEADERS, ("Retry-After", RETRY_AFTER)))


def _body(status: str, **more: Any) -> bytes:
    return dump({"status": status, **more})
