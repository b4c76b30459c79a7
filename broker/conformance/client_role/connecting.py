"""Situations at the start: handshake, CONNECT, refusals."""

from __future__ import annotations

import json

import trio

from broker.conformance.cases import Deviation, expect, expect_equal

from .judging import SITUATIONS
from .lab import ClientLab
from .session import ClientSession


def _each(*transports: str) -> tuple[str, ...]:
    return transports or ("polling", "websocket")


async def _expect_no_second_connect(lab: ClientLab, session: ClientSession) -> None:
    with trio.move_on_after(2.5):
        packet = await session.receive(10)
        if isinstance(packet, str) and packet.startswith("40"):
            raise Deviation("the client asked again")
        await trio.sleep(2)
    await lab.stays_away(0.2)


def _add_request(transport: str) -> None:
    @SITUATIONS.case(f"handshake/request/{transport}", "EIO-HTTP-1", "EIO-HTTP-2", "EIO-HS-8", "EIO-HS-9")
    async def request(lab: ClientLab) -> None:
        """The first request is a GET of the path with its slash, with EIO=4, a transport and no sid."""
        request = await lab.handshake()
        expect_equal((request.method, request.path), ("GET", "/socket.io/"), "method and path")
        expect_equal(request.query.get("EIO"), "4", "EIO")
        expect_equal(request.query.get("transport"), transport, "transport")

    @SITUATIONS.case(f"handshake/connect-first/{transport}", "SIO-CON-1", "SIO-CON-2", "EIO-HS-12")
    async def connect_first(lab: ClientLab) -> None:
        """After OPEN the client sends CONNECT for `/` with its credentials, and nothing before."""
        session = await lab.session()
        packet = await session.receive()
        expect(isinstance(packet, str) and packet.startswith("40"), f"expected CONNECT first, got {packet!r}")
        expect_equal(json.loads(str(packet)[2:] or "{}"), {"token": "123"}, "auth of the client fixture")

    @SITUATIONS.case(f"handshake/waits-for-open/{transport}", "EIO-HS-12")
    async def waits(lab: ClientLab) -> None:
        """The client sends nothing for the session before OPEN, and no second handshake."""
        request = await lab.handshake()
        await lab.stays_away(0.3)
        session = ClientSession(lab, lab.new_id())
        await session.open(request, upgrades=[])
        await session.join()

    @SITUATIONS.case(f"handshake/odd-sid/{transport}", "EIO-SID-1")
    async def odd_sid(lab: ClientLab) -> None:
        """Any session id of characters that need no encoding is taken as it is."""
        session = await lab.session(sid="a.b~c-d_e")
        await session.join()
        await session.echo("x")

    @SITUATIONS.case(f"handshake/unknown-keys/{transport}", "GEN-5")
    async def unknown_keys(lab: ClientLab) -> None:
        """Keys of OPEN and CONNECT that nobody knows are ignored."""
        session = await lab.session(future={"a": [1]}, other=None)
        await session.receive()
        await session.send('40{"sid":"conformanceKitSocket","pid":"x","future":[1]}')
        await session.echo("x")

    @SITUATIONS.case(f"handshake/unknown-code/{transport}", "EIO-ERR-1", "SIO-REASON-3")
    async def unknown_code(lab: ClientLab) -> None:
        """A refusal with a code that it does not know is taken by its status, and the client tries again."""
        request = await lab.handshake()
        body = '{"code":999,"message":"From the future","detail":"?"}'
        request.respond(400, body, content_type="application/json")
        await lab.comes_back()

    @SITUATIONS.case(f"handshake/retry-after/{transport}", "SIO-REASON-4", "EIO-HS-16")
    async def retry_after(lab: ClientLab) -> None:
        """The client waits at least as long as Retry-After says."""
        request = await lab.handshake()
        body = '{"code":108,"message":"Server is draining"}'
        request.respond(503, body, [("Retry-After", "3")], "application/json")
        answered = trio.current_time()
        again = await lab.comes_back(10)
        waited = again.arrived - answered
        expect(waited >= 2.9, f"it came back after {waited:.2f} s, asked to wait for 3 s")

    @SITUATIONS.case(f"handshake/pace/{transport}", "SIO-REASON-4")
    async def pace(lab: ClientLab) -> None:
        """The waits start at 1 s and double, each changed by up to half."""
        request = await lab.handshake()
        waits: list[float] = []
        for _ in range(2):
            request.respond(500, "")
            answered = trio.current_time()
            request = await lab.comes_back(8)
            waits.append(request.arrived - answered)
        expect(0.45 <= waits[0] <= 1.8, f"first wait {waits[0]:.2f} s")
        expect(0.9 <= waits[1] <= 3.4, f"second wait {waits[1]:.2f} s")

    @SITUATIONS.case(f"connect/refused/{transport}", "SIO-CON-5", "SIO-REASON-3")
    async def refused(lab: ClientLab) -> None:
        """After CONNECT_ERROR the client does not ask again by itself."""
        session = await lab.session(upgrades=[])
        await session.receive()
        await session.send('44{"message":"no","data":{"retry":false}}')
        await _expect_no_second_connect(lab, session)

    @SITUATIONS.case(f"connect/refused-by-string/{transport}", "SIO-PKT-4", "SIO-CON-5")
    async def refused_by_string(lab: ClientLab) -> None:
        """A CONNECT_ERROR with a string, as older servers send it, is one like any other."""
        session = await lab.session(upgrades=[])
        await session.receive()
        await session.send('44"no"')
        await _expect_no_second_connect(lab, session)

    @SITUATIONS.case(f"connect/no-sid/{transport}", "SIO-CON-3")
    async def no_sid(lab: ClientLab) -> None:
        """An answer to CONNECT without sid is the sign of an older server: the client fails."""
        session = await lab.session(upgrades=[])
        await session.receive()
        await session.send("40", '42["message","x"]')
        with trio.move_on_after(0.7):
            while True:
                packet = await session.receive()
                expect(
                    not (isinstance(packet, str) and packet.startswith("42")),
                    "the client works with a server that gave it no socket id",
                )

    @SITUATIONS.case(f"connect/early-event/{transport}", "SIO-EVT-6")
    async def early_event(lab: ClientLab) -> None:
        """An event that comes before the answer to CONNECT is kept until then."""
        session = await lab.session(upgrades=[])
        await session.receive()
        await session.send('42["message","early"]')
        await trio.sleep(0.05)
        await session.send('40{"sid":"conformanceKitSocket"}')
        event = await session.event(2.0)
        expect_equal(event.args, ["early"], "echo")


for _transport in _each():
    _add_request(_transport)
