"""Who is let in: middlewares, structure, origin, capacity and the application's own word, in this order."""

from __future__ import annotations

import logging
from inspect import isawaitable

from broker.flow.request import HttpRequest, Opening
from broker.sessions.engine import Engine
from broker.sessions.session import Session
from protocol import Refusal, Refused
from protocol.engineio.handshake import check_request
from protocol.engineio.origin import origin_allowed, origin_detail
from protocol.engineio.owner import owner_of
from protocol.http_head import Header

from .engine_hooks import EngineHooks, HttpResponse

logger = logging.getLogger(__name__)

_COME_BACK = (Refusal.DRAINING, Refusal.OVERLOADED, Refusal.ADDRESS_OVERLOADED)
RETRY_AFTER = "5"  # seconds; told to whoever comes while the broker drains or is full


class Admission:
    """Decides on each request to the engine. Spec: EIO-HS-18.

    Args:
        engine: The broker's engine.
        hooks: The application's hooks.
    """

    def __init__(self, engine: Engine, hooks: EngineHooks) -> None:
        self._engine = engine
        self.hooks = hooks

    async def admit(self, request: HttpRequest) -> Session | Opening | HttpResponse | Refused:
        """Decide on one request.

        Returns:
            The session it is for, the opening of a new one, an answer that ends it, or why it is refused.
        """
        outcome = await self._decide(request)
        if isinstance(outcome, Refused):
            self.hooks.refused(request, outcome)
        return outcome

    async def _decide(self, request: HttpRequest) -> Session | Opening | HttpResponse | Refused:
        refused = self._check_headers(request)
        if refused is not None:
            return refused
        response = await self.hooks.run_middlewares(request)
        if response is not None:
            return response
        if request.method == "OPTIONS" and self._engine.settings.cors_allowed_origins:
            return self._preflight(request)
        if len(request.headers) > self._engine.limits.header_count:
            # The listener has looked at the first request of a connection, not at those that follow.
            detail = f"more than {self._engine.limits.header_count} header fields"
            return Refused(Refusal.HEAD_TOO_LARGE, detail)
        asked = request.engine_request()
        if asked is None:
            return Refused(Refusal.BAD_REQUEST, "the query has too many fields", rule="BAD_QUERY")
        settings = self._engine.settings
        refused = check_request(asked, settings.transports, self._engine.transport_of)
        refused = refused or self._check_origin(request)
        if refused is not None:
            return self._is_elsewhere(asked.parameter("sid"), refused) or refused
        session_id = asked.parameter("sid")
        if session_id is not None:
            return self._engine.sessions[session_id]
        refused = self._check_open(request) or self._check_capacity(request)
        return refused or await self._ask_application(request) or Opening(request)

    async def admit_websocket(
        self, request: HttpRequest
    ) -> tuple[Session | Opening | HttpResponse | Refused, str]:
        """Decide on a request for a WebSocket: its session needs an id before the handshake is answered.

        Returns:
            What `admit` returns, and the id of the session if one is to be opened, else an empty text.
        """
        target = await self.admit(request)
        if not isinstance(target, Opening):
            return target, ""
        session_id = await self.new_session_id(request)
        if isinstance(session_id, str):
            return target, session_id
        self.hooks.refused(request, session_id)
        return session_id, ""

    def _check_headers(self, request: HttpRequest) -> Refused | None:
        """Refuse a body whose end two parsers would see in two places."""
        if request.header("transfer-encoding") is not None and request.header("content-length") is not None:
            return Refused(Refusal.BAD_HTTP, "both Content-Length and Transfer-Encoding are given")
        return None

    def _check_origin(self, request: HttpRequest) -> Refused | None:
        """Refuse pages of other origins, on every kind of request. Spec: EIO-ORIGIN-1."""
        origin = request.header("origin")
        host = request.header("host")
        allowed = self._engine.settings.cors_allowed_origins
        if origin_allowed(origin, host, allowed):
            return None
        return Refused(Refusal.ORIGIN_NOT_ALLOWED, origin_detail(origin or "", host, allowed))

    def _is_elsewhere(self, session_id: str | None, refused: Refused) -> Refused | None:
        """Tell an unknown session of this node from one of another node. Spec: EIO-SID-5."""
        mark = self._engine.session_mark
        if refused.refusal is not Refusal.SESSION_UNKNOWN or not mark or session_id is None:
            return None
        owner = owner_of(session_id)
        if owner is None or owner.mark[0] == mark[0]:
            return None
        return Refused(Refusal.SESSION_ELSEWHERE, f"node {owner.node} holds the session")

    def _check_open(self, request: HttpRequest) -> Refused | None:
        """Refuse newcomers unless open, and while draining."""
        if not self._engine.is_open:
            return Refused(Refusal.DRAINING, "the broker is not open")
        if self._engine.draining or request.door in self._engine.closing:
            return Refused(Refusal.DRAINING)
        return None

    def _check_capacity(self, request: HttpRequest) -> Refused | None:
        """Refuse newcomers beyond the bounds of all and of their address."""
        if self._engine.is_full_for(request.address):
            return Refused(Refusal.ADDRESS_OVERLOADED)
        limits = self._engine.limits
        if len(self._engine.sessions) >= limits.sessions:
            return Refused(Refusal.OVERLOADED)
        if len(self._engine.joining) >= limits.unjoined_sessions:
            return Refused(Refusal.OVERLOADED, "too many sessions have joined no namespace yet")
        return None

    async def _ask_application(self, request: HttpRequest) -> Refused | None:
        """Ask `allow_request`: False or a text refuses, as raising does. Spec: EIO-HS-9."""
        allow = self._engine.settings.allow_request
        if allow is None:
            return None
        try:
            verdict = allow(request)
            verdict = await verdict if isawaitable(verdict) else verdict
        except Exception:
            logger.exception("allow_request failed")
            return Refused(Refusal.FORBIDDEN, rule="ALLOW_REQUEST_FAILED")
        if isinstance(verdict, str):
            return Refused(Refusal.FORBIDDEN, message=verdict)
        return None if verdict or verdict is None else Refused(Refusal.FORBIDDEN)

    async def new_session_id(self, request: HttpRequest) -> str | Refused:
        """Return an id for a new session, the application's if it makes them. Spec: EIO-SID-1, EIO-HS-16."""
        session_id = await self._make_session_id(request)
        # Others may have come in while the application was asked for its word, or for the id.
        return self._check_capacity(request) or session_id

    async def _make_session_id(self, request: HttpRequest) -> str | Refused:
        generate = self._engine.settings.generate_id
        if generate is None:
            return self._engine.new_session_id()
        try:
            made = generate(request)
            session_id = await made if isawaitable(made) else made
        except Exception:
            logger.exception("generate_id failed")
            session_id = None
        if isinstance(session_id, str) and session_id:
            session_id += self._engine.session_mark
            if session_id not in self._engine.sessions:
                return session_id
        return Refused(Refusal.BAD_REQUEST, rule="ID_GENERATION_ERROR")

    # Headers

    def answer_headers(self, request: HttpRequest, *, initial: bool = False) -> tuple[Header, ...]:
        """Return CORS headers and what the application adds; for errors as well."""
        return (*self._cors_headers(request), *self.hooks.response_headers(request, initial))

    def cookie_headers(self, session: Session) -> tuple[Header, ...]:
        """Return the cookie of the first polling response. Spec: EIO-COOKIE-1."""
        cookie = self._engine.settings.cookie
        return () if cookie is None else (("Set-Cookie", cookie.render(session.id)),)

    def _cors_headers(self, request: HttpRequest) -> tuple[Header, ...]:
        """Return the CORS headers; none without `cors_allowed_origins`. Spec: EIO-ORIGIN-4."""
        settings = self._engine.settings
        allowed = settings.cors_allowed_origins
        origin = request.header("origin")
        if not allowed:
            return ()
        if allowed == "*":
            return (("Access-Control-Allow-Origin", "*"),)
        vary = ("Vary", "Origin")
        if origin is None or origin not in allowed:
            return (vary,)
        headers: tuple[Header, ...] = (("Access-Control-Allow-Origin", origin), vary)
        if settings.cors_credentials:
            headers += (("Access-Control-Allow-Credentials", "true"),)
        return headers

    def _preflight(self, request: HttpRequest) -> HttpResponse | Refused:
        """Answer a preflight request. Spec: EIO-ORIGIN-5."""
        refused = self._check_origin(request)
        if refused is not None:
            return refused
        settings = self._engine.settings
        headers: list[Header] = [
            ("Cache-Control", "no-store"),
            ("Access-Control-Allow-Methods", ",".join(settings.cors_methods)),
        ]
        wanted = ",".join(settings.cors_allowed_headers) or request.header("access-control-request-headers")
        if wanted:
            headers.append(("Access-Control-Allow-Headers", wanted))
        if settings.cors_max_age is not None:
            headers.append(("Access-Control-Max-Age", str(settings.cors_max_age)))
        return HttpResponse(204, headers=tuple(headers))


def refusal_headers(refused: Refused) -> tuple[Header, ...]:
    """Return the headers that belong to a refusal."""
    headers: tuple[Header, ...] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    if refused.refusal in _COME_BACK:
        headers += (("Retry-After", RETRY_AFTER),)
    if refused.refusal is Refusal.METHOD_NOT_ALLOWED:
        headers += (("Allow", "GET, POST"),)  # EIO-POLL-15
    if refused.refusal in (Refusal.BAD_HTTP, Refusal.HEAD_TOO_LARGE):
        headers += (("Connection", "close"),)  # LIM-2
    return headers
