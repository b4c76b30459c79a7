"""Situations at the end: closes, disconnections, silence, packets that cannot be read."""

from __future__ import annotations

import trio

from broker.conformance.cases import Deviation, Late
from protocol import Refusal

from .judging import SITUATIONS
from .lab import ClientLab


def _add(transport: str) -> None:
    @SITUATIONS.case(f"end/server-closes/{transport}", "SIO-REASON-3", "SIO-REASON-2", "DRAIN-3")
    async def server_closes(lab: ClientLab) -> None:
        """A session that the server closes without DISCONNECT brings the client back, with a CONNECT."""
        session = await lab.member()
        await session.close()
        request = await lab.comes_back()
        again = type(session)(lab, lab.new_id())
        await again.open(request, upgrades=[])
        await again.join()
        await again.echo("back again")

    @SITUATIONS.case(f"end/server-disconnects/{transport}", "SIO-DIS-2", "SIO-REASON-3")
    async def server_disconnects(lab: ClientLab) -> None:
        """After DISCONNECT the client does not come back by itself."""
        session = await lab.member()
        await session.send("41")
        with trio.move_on_after(2.0):
            while True:
                packet = await session.receive(10)
                if isinstance(packet, str) and packet.startswith("40"):
                    raise Deviation("the client asked again")
        await lab.stays_away(0.5)

    @SITUATIONS.case(f"end/client-leaves/{transport}", "SIO-DIS-1")
    async def client_leaves(lab: ClientLab) -> None:
        """A client that leaves says `41`, closes the session, and does not come back."""
        session = await lab.member()
        await session.send('42["leave"]')
        packet = await session.receive()
        if packet != "41":
            raise Deviation(f"expected DISCONNECT, got {packet!r}")
        with trio.move_on_after(2.0) as scope:
            await session.ended.wait()
        if scope.cancelled_caught:
            raise Late("the client left its last namespace and kept the session")
        await lab.stays_away(1.7)

    @SITUATIONS.case(f"end/no-ping/{transport}", "EIO-HB-8", "SIO-REASON-2")
    async def no_ping(lab: ClientLab) -> None:
        """Without a PING for pingInterval + pingTimeout the client ends the session and comes back."""
        session = await lab.session(pingInterval=300, pingTimeout=200, upgrades=[])
        await session.join()
        start = trio.current_time()
        await lab.comes_back(4)
        if trio.current_time() - start < 0.4:
            raise Deviation("the client ended the session too early")

    def add_unreadable(name: str, clause: str, *packets: str | bytes) -> None:
        @SITUATIONS.case(f"unreadable/{name}/{transport}", clause, "SIO-REASON-2", "SIO-REASON-3")
        async def unreadable(lab: ClientLab) -> None:
            """A packet that cannot be decoded ends the session, and the client comes back."""
            session = await lab.member()
            await session.send(*packets)
            await lab.comes_back(4)

    add_unreadable("type", "SIO-PKT-1", "49")
    add_unreadable("json", "SIO-PKT-6", '42["message",}')
    add_unreadable("payload", "SIO-PKT-4", '42{"a":1}')
    add_unreadable("surplus-binary", "SIO-BIN-5", b"\x01")
    add_unreadable("text-between", "SIO-BIN-5", '451-["message",{"_placeholder":true,"num":0}]', '42["x"]')


for _transport in ("polling", "websocket"):
    _add(_transport)


@SITUATIONS.case("end/connection-breaks/websocket", "WS-8", "SIO-REASON-3")
async def breaks(lab: ClientLab) -> None:
    """A connection that breaks brings the client back."""
    session = await lab.member()
    assert session._stream is not None
    await trio.aclose_forcefully(session._stream)
    await lab.comes_back()


def _add_unknown(name: str, clause: str, refusal: Refusal) -> None:
    @SITUATIONS.case(f"end/{name}/polling", clause, "SIO-REASON-3")
    async def unknown(lab: ClientLab) -> None:
        """A refusal that says that the session is not here ends it on the client, and it comes back."""
        session = await lab.member()
        lab.unknown = refusal
        lab.sessions.pop(session.sid)
        await session.send("6")
        await lab.comes_back()


_add_unknown("session-unknown", "EIO-CLOSE-6", Refusal.SESSION_UNKNOWN)
_add_unknown("session-elsewhere", "EIO-SID-5", Refusal.SESSION_ELSEWHERE)
_add_unknown("owner-silent", "EIO-SID-5", Refusal.OWNER_SILENT)
