"""Runs a session over a WebSocket, whatever carries it: a new session, or the upgrade of one on polling."""

from __future__ import annotations

import trio

from broker.flow.encoded import ControlMessage
from broker.flow.request import Opening
from broker.flow.scopes import cleanup_window
from broker.sessions.engine import Engine
from broker.sessions.session import Session
from broker.sessions.upgrade import may_upgrade, upgrade
from broker.transports.base import WebSocketTransport
from protocol import CloseCode, DisconnectReason


async def run_websocket(
    engine: Engine, target: Session | Opening, session_id: str, transport: WebSocketTransport
) -> None:
    """Serve a WebSocket whose handshake is done, until it is closed.

    Args:
        engine: The broker's engine.
        target: The session on polling that it wants to take over, or the opening of a new one.
        session_id: The id for a new session.
        transport: The WebSocket.

    Cancellation closes it.
    """

    async def serve() -> None:
        if isinstance(target, Opening):
            session = engine.open_session(target, session_id, transport)
            await session.run([ControlMessage(engine.open_text(session, "websocket"))])
        else:
            await _serve_upgrade(engine, target, transport)

    try:
        await transport.serve(serve)
    finally:
        transport.abort()


async def _serve_upgrade(engine: Engine, session: Session, transport: WebSocketTransport) -> None:
    if not may_upgrade(session) or not engine.upgrades_from("polling"):
        await _turn_away(engine, transport, CloseCode.POLICY, "session cannot be upgraded")
    elif await upgrade(session, transport, engine.settings.upgrade_timeout):
        await _carry(engine, session)
    else:
        await _turn_away(engine, transport, CloseCode.NORMAL, "upgrade failed")


async def _carry(engine: Engine, session: Session) -> None:
    """Stay until the session has ended, since this task owns its socket; cancellation ends the session."""
    try:
        await session.wait_ended()
    finally:
        session.close(DisconnectReason.SERVER_SHUTTING_DOWN)
        with cleanup_window(engine.limits.cleanup_timeout + engine.limits.close_timeout):
            await session.wait_ended()  # noqa: ASYNC102 - the window is shielded and has a deadline


async def _turn_away(engine: Engine, transport: WebSocketTransport, code: CloseCode, text: str) -> None:
    """Close a WebSocket that carries no session; its peer has `close_timeout` to close too."""
    with trio.move_on_after(engine.limits.close_timeout):
        await transport.close(code, text)
