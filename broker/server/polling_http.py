"""Long-polling over ASGI: one GET or POST to an answer. Spec: EIO-POLL-1 to EIO-POLL-14."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from broker.flow.encoded import ControlMessage
from broker.flow.request import HttpRequest, Opening
from broker.sessions.engine import Engine
from broker.sessions.session import Session
from broker.transports.base import TransportEnded
from broker.transports.polling import Flight, Overlap, Polling
from protocol import DisconnectReason, Refusal, Refused
from protocol.engineio.packet import encode_packet
from protocol.engineio.payload import decode_pieces
from protocol.http_head import Header
from protocol.websocket import BinaryMessage, FrameError, Received

from .admission import Admission
from .engine_hooks import HttpResponse

ASGIReceive = Callable[[], Awaitable[dict[str, Any]]]

_NO_STORE: Header = ("Cache-Control", "no-store")
_PLAIN_TEXT: Header = ("Content-Type", "text/plain; charset=UTF-8")


class PollingHttp:
    """Answers the polling requests that admission has let through.

    Args:
        engine: The broker's engine.
        admission: For ids and cookies.
    """

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self._engine = engine
        self._admission = admission

    async def answer(
        self, request: HttpRequest, target: Session | Opening, receive: ASGIReceive
    ) -> HttpResponse | Refused:
        """Answer one request."""
        if isinstance(target, Opening):
            return await self._open(target)
        if request.method == "GET":
            return await self._poll(target, receive)
        if request.method == "POST":
            return await self._post(request, target, receive)
        return Refused(Refusal.METHOD_NOT_ALLOWED, "a session takes GET and POST requests")

    async def _open(self, opening: Opening) -> HttpResponse | Refused:
        """Open a session in the server scope; the answer is its OPEN packet."""
        session_id = await self._admission.new_session_id(opening.request)
        if isinstance(session_id, Refused):
            return session_id
        polling = Polling(self._engine.limits.packets_per_poll)
        session = self._engine.open_session(opening, session_id, polling)
        first = [ControlMessage(self._engine.open_text(session, "polling"))]
        await self._engine.nursery.start(session.run, first)
        payload = await polling.poll()
        return _payload(payload, polling.flight, self._admission.cookie_headers(session))

    async def _poll(self, session: Session, receive: ASGIReceive) -> HttpResponse | Refused:
        polling = session.transport
        assert isinstance(polling, Polling)
        payload: bytes | None = None
        flight: Flight | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_abort, session, receive, nursery.cancel_scope)
                try:
                    payload = await polling.poll()
                    flight = polling.flight
                except Overlap:
                    session.close(DisconnectReason.TRANSPORT_ERROR, text="overlapping GET requests")
                nursery.cancel_scope.cancel()
        except trio.Cancelled:
            if flight is not None:
                flight.fail()
            raise
        if payload is None:
            return Refused(Refusal.OVERLAPPING_REQUEST, "another GET of this session is open")
        return _payload(payload, flight)

    async def _post(
        self, request: HttpRequest, session: Session, receive: ASGIReceive
    ) -> HttpResponse | Refused:
        polling = session.transport
        assert isinstance(polling, Polling)
        if (request.header("content-type") or "").startswith("application/octet-stream"):
            session.close(DisconnectReason.TRANSPORT_ERROR, text="binary POST body")
            return Refused(Refusal.BAD_REQUEST, "the body of a POST is text", rule="BINARY_BODY")
        if polling.is_posting:
            session.close(DisconnectReason.TRANSPORT_ERROR, text="overlapping POST requests")
            return Refused(Refusal.OVERLAPPING_REQUEST, "another POST of this session is open")
        with trio.CancelScope() as scope, polling.open_post(scope):
            body = await self._read_body(request, session, receive)
            if isinstance(body, Refused):
                return body
            return await self._deliver(session, polling, body)
        return _too_late(session)

    async def _deliver(self, session: Session, polling: Polling, body: bytes) -> HttpResponse | Refused:
        for packets, violation in decode_pieces(body, self._engine.limits):
            received: list[Received] = [
                BinaryMessage(packet.data) if packet.binary else encode_packet(packet) for packet in packets
            ]
            if violation is not None:
                # Behind what is good, so that the session takes that first.
                received.append(FrameError(violation, violation.close_code, violation.text))
            try:
                await polling.post(received)
            except TransportEnded:
                return _too_late(session)
            if violation is not None:
                return Refused(Refusal.PARSE_FAILED, violation.text, rule=violation.name)
        return HttpResponse(200, b"ok", (("Content-Type", "text/html"), _NO_STORE))

    async def _read_body(
        self, request: HttpRequest, session: Session, receive: ASGIReceive
    ) -> bytes | Refused:
        """Read a body within its bounds of size and time. Spec: EIO-POLL-8, EIO-POLL-14."""
        limit = self._engine.settings.max_payload_bytes
        too_large = Refused(Refusal.PAYLOAD_TOO_LARGE, f"a payload is {limit} bytes at most")
        declared = request.header("content-length") or "0"
        if not declared.isdigit() or len(declared) > 15 or int(declared) > limit:
            return too_large
        body = bytearray()
        with trio.move_on_after(self._engine.limits.body_timeout):
            while True:
                event = await receive()
                if event["type"] != "http.request":
                    session.close(DisconnectReason.TRANSPORT_ERROR, text="POST request aborted")
                    return Refused(Refusal.BAD_REQUEST, rule="ABORTED")
                body += event.get("body", b"")
                if len(body) > limit:
                    return too_large
                if not event.get("more_body", False):
                    return bytes(body)
        session.close(DisconnectReason.TRANSPORT_ERROR, text="POST request too slow")
        return Refused(Refusal.REQUEST_TIMEOUT, "the body did not arrive in time")


async def _watch_abort(session: Session, receive: ASGIReceive, scope: trio.CancelScope) -> None:
    """End the session if its client gives up the GET it is waiting on. Spec: EIO-POLL-7."""
    while (await receive())["type"] != "http.disconnect":
        pass
    session.close(DisconnectReason.TRANSPORT_ERROR, text="poll connection closed prematurely")
    scope.cancel()


def _too_late(session: Session) -> Refused:
    """Refuse a POST whose transport ended before its packets were taken. Spec: EIO-CLOSE-6, EIO-UPG-8."""
    if session.reason is None:
        return Refused(Refusal.BAD_REQUEST, "the session is on websocket now", rule="TRANSPORT_MISMATCH")
    return Refused(Refusal.SESSION_UNKNOWN)


def _payload(body: bytes, flight: Flight | None, headers: tuple[Header, ...] = ()) -> HttpResponse:
    return HttpResponse(200, body, (_PLAIN_TEXT, _NO_STORE, *headers), flight)
