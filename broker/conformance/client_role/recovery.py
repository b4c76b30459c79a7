"""Situations of recovery: what a client asks for when it comes back, and what it does with the answer."""

from __future__ import annotations

import json
from typing import Any

from broker.conformance.cases import Deviation, Skip, expect, expect_equal

from .judging import SITUATIONS
from .lab import ClientLab
from .session import ClientSession

FIRST = "1732412882123-0"
SECOND = "1732412882123-1"


async def _let_in(lab: ClientLab) -> ClientSession:
    session = await lab.session(upgrades=[])
    await session.receive()
    await session.send('40{"sid":"conformanceKitSocket","pid":"conformanceKitPid"}')
    # An ack shows that it has the answer; an event that asks for one brings no offset.
    await session.send('420["message-with-ack"]')
    expect_equal(await session.receive(), "430[]", "ack")
    return session


async def _asked(lab: ClientLab, session: ClientSession) -> tuple[ClientSession, dict[str, Any]]:
    """End the session, and return the next one with the object of its CONNECT."""
    await session.close()
    request = await lab.comes_back()
    again = ClientSession(lab, lab.new_id())
    await again.open(request, upgrades=[])
    packet = await again.receive()
    if not isinstance(packet, str) or not packet.startswith("40"):
        raise Deviation(f"expected CONNECT, got {packet!r}")
    asked = json.loads(packet[2:] or "{}")
    if "pid" not in asked:
        raise Skip("the client takes no part in recovery")
    return again, asked


def _add(transport: str) -> None:
    @SITUATIONS.case(f"recovery/asks/{transport}", "SIO-REC-6", "SIO-REC-11")
    async def asks(lab: ClientLab) -> None:
        """The client comes back with the pid, and the offset of the last event that it got."""
        session = await _let_in(lab)
        await session.send(f'42["message","one","{FIRST}"]')
        await session.receive()
        await session.send(f'42["message",2,"{SECOND}"]')
        await session.receive()
        _, asked = await _asked(lab, session)
        expect_equal((asked["pid"], asked.get("offset")), ("conformanceKitPid", SECOND), "pid and offset")
        expect_equal(asked.get("token"), "123", "auth of the client fixture")

    @SITUATIONS.case(f"recovery/idle/{transport}", "SIO-REC-6")
    async def idle(lab: ClientLab) -> None:
        """A client that has got no event comes back with the pid alone."""
        _, asked = await _asked(lab, await _let_in(lab))
        expect_equal(asked["pid"], "conformanceKitPid", "pid")
        expect(asked.get("offset") is None, f"an offset that nobody gave it: {asked.get('offset')!r}")

    @SITUATIONS.case(f"recovery/missed-first/{transport}", "SIO-REC-9")
    async def missed_first(lab: ClientLab) -> None:
        """Events that come before the answer to CONNECT are handed to the application, after it."""
        again, _ = await _asked(lab, await _let_in(lab))
        await again.send(f'42["message","missed","{FIRST}"]')
        await again.send('40{"sid":"conformanceKitSocket","pid":"conformanceKitPid"}')
        packet = await again.receive()
        expect(isinstance(packet, str) and '"missed"' in packet, f"expected the echo, got {packet!r}")

    @SITUATIONS.case(f"recovery/refused/{transport}", "SIO-REC-7")
    async def refused(lab: ClientLab) -> None:
        """A refused recovery is no refused connection, whatever the word for it."""
        again, _ = await _asked(lab, await _let_in(lab))
        await again.send('40{"sid":"another","pid":"anotherPid","recovery":"from the future"}')
        await again.send(f'42["message","new","{SECOND}"]')
        packet = await again.receive()
        expect(isinstance(packet, str) and '"new"' in packet, f"expected the echo, got {packet!r}")
        _, asked = await _asked(lab, again)
        expect_equal((asked["pid"], asked.get("offset")), ("anotherPid", SECOND), "pid and offset")


for _transport in ("polling", "websocket"):
    _add(_transport)
