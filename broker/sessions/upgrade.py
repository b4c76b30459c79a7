"""Moves a session from polling to a WebSocket: nothing lost, nothing doubled, whatever step fails."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from broker.flow.encoded import ControlMessage
from broker.transports.base import Transport, TransportEnded, WebSocketTransport
from broker.transports.framed import PongMessage
from broker.transports.polling import Polling
from protocol.engineio.packet import PING_PROBE, PONG_PROBE, UPGRADE
from protocol.engineio.transitions import UPGRADE as TABLE
from protocol.engineio.transitions import ProbeAction, ProbeInput, ProbeState
from protocol.websocket import Control, ControlFrame, Received

from .session import Session

_INPUTS = {PING_PROBE: ProbeInput.PING_PROBE, UPGRADE: ProbeInput.UPGRADE}
_PONG_MESSAGE = ControlMessage(PONG_PROBE)


async def upgrade(session: Session, transport: WebSocketTransport, timeout: float) -> bool:
    """Probe, and take the session over when the client says so. Spec: EIO-UPG-1 to EIO-UPG-14.

    Args:
        session: A session on polling that no other WebSocket is probing.
        transport: The WebSocket, with nothing sent on it yet.
        timeout: Seconds until the probe is given up.

    Returns:
        Whether the session goes on over `transport`. If not, the caller closes it; the session is as it was.
    """
    polling = session.transport
    assert isinstance(polling, Polling)
    switched = False
    session.begin_probe()
    try:
        with trio.move_on_after(timeout) as session.probe_scope:
            rest = await _probe(polling, transport)
            if rest is not None and session.reason is None:
                session.switch(transport, rest)
                polling.hand_over()
                switched = True
    finally:
        session.probe_scope = None
        if not switched:
            polling.end_upgrade()
            session.probe_failed()
    return switched


async def _probe(polling: Polling, transport: WebSocketTransport) -> Iterator[Received] | None:
    """Follow the upgrade table; return what came behind the UPGRADE packet, None if the probe failed."""
    state = ProbeState.AWAITING_PROBE
    while True:
        try:
            received = iter(await transport.receive())
            for message in received:
                if isinstance(message, ControlFrame) and message.kind is not Control.CLOSE:
                    # No packet: proxies and client libraries ping whenever they like. Spec: WS-4.
                    if message.kind is Control.PING:
                        await transport.write([PongMessage(message.payload)])
                    continue
                kind = _INPUTS.get(message) if type(message) is bytes else None  # BinaryMessage is bytes too
                state, action = TABLE[state, kind or ProbeInput.OTHER_PACKET]
                if action is ProbeAction.SWITCH:
                    return received
                if action is ProbeAction.CLOSE_PROBE:
                    return None
                await transport.write([_PONG_MESSAGE])
                polling.begin_upgrade()
        except TransportEnded:
            return None


def may_upgrade(session: Session) -> bool:
    """Tell whether a WebSocket may probe for this session now. Spec: EIO-UPG-12."""
    transport: Transport = session.transport
    return isinstance(transport, Polling) and session.probe_scope is None and session.reason is None
