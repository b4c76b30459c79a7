"""Cases for section 12: from polling to WebSocket, and what can go wrong on the way."""

from __future__ import annotations

import trio

from broker.conformance.cases import Deviation, expect, expect_equal
from broker.conformance.frames import CLOSE, PING, PONG, TEXT, build
from broker.conformance.lab import ServerLab
from broker.conformance.websocket import WebSocketPeer

from .catalogue import CASES


async def probed(lab: ServerLab, sid: str) -> WebSocketPeer:
    """Open a WebSocket for the session and let it prove itself."""
    probe = await lab.probe(sid)
    probe.answered_101()
    await probe.send("2probe")
    await probe.expect("3probe", lab.patience)
    return probe


@CASES.case("upgrade/whole", "EIO-UPG-7", "EIO-UPG-3")
async def whole(lab: ServerLab) -> None:
    """Probe, UPGRADE, and the session goes on over the WebSocket."""
    _, websocket = await lab.upgraded()
    await websocket.echo("over websocket")
    await websocket.echo("twice")


@CASES.case("upgrade/before-connect", "EIO-UPG-7")
async def before_connect(lab: ServerLab) -> None:
    """A session may upgrade before it joins a namespace."""
    peer = await lab.polling()
    probe = await probed(lab, peer.sid)
    await probe.send("5")
    await probe.join()
    await probe.echo("x")


@CASES.case("upgrade/no-open", "EIO-UPG-2")
async def no_open(lab: ServerLab) -> None:
    """A probe gets no OPEN: nothing comes before `3probe`."""
    peer = await lab.polling_member()
    probe = await lab.probe(peer.sid)
    probe.answered_101()
    await probe.silent(0.1)


@CASES.case("upgrade/probe-again", "EIO-UPG-3", "EIO-UPG-1")
async def probe_again(lab: ServerLab) -> None:
    """A further `2probe` is answered again."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await probe.send("2probe")
    await probe.expect("3probe", lab.patience)
    await probe.send("5")
    await probe.echo("x")


@CASES.case("upgrade/noop-releases-get", "EIO-UPG-4")
async def noop(lab: ServerLab) -> None:
    """From `3probe` on a parked GET is answered with `6` within 100 ms."""
    peer = await lab.polling_member()
    parked = await peer.parked()
    await probed(lab, peer.sid)
    answer = await lab.answer(parked, "GET", 0.1 + lab.patience)
    expect_equal(answer.text, "6", "answer to the parked GET")


@CASES.case("upgrade/noop-again", "EIO-UPG-4")
async def noop_again(lab: ServerLab) -> None:
    """A GET that comes later in the upgrade is released as well."""
    peer = await lab.polling_member()
    await probed(lab, peer.sid)
    for _ in range(2):
        answer = await peer.get(0.1 + 2 * lab.patience)
        if answer.text != "2":
            expect_equal(answer.text, "6", "answer to the GET")
        else:
            await peer.send("3")


@CASES.case("upgrade/no-noop-before-probe", "EIO-UPG-4")
async def no_noop_before(lab: ServerLab) -> None:
    """Before `2probe` a parked GET stays parked."""
    peer = await lab.polling_member()
    parked = await peer.parked()
    probe = await lab.probe(peer.sid)
    probe.answered_101()
    answer = await lab.answer(parked)
    expect_equal(answer.text, "2", "answer to the parked GET")


@CASES.case("upgrade/polling-meanwhile", "EIO-UPG-5")
async def meanwhile(lab: ServerLab) -> None:
    """Until `5` the session is on polling, in both directions."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await peer.send('42["message","on polling"]')
    packet = await peer.receive()
    while packet == "6":
        packet = await peer.receive()
    expect_equal(packet, '42["message-back","on polling"]', "answer on polling")
    await probe.silent(0.05)


@CASES.case("upgrade/waiting-packets-move", "EIO-UPG-7", "EIO-UPG-14", "FLOW-4")
async def waiting_move(lab: ServerLab) -> None:
    """What waits at `5` is sent on the WebSocket, in order, before anything later."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await peer.send(*(f'42["message",{number}]' for number in range(5)))
    await probe.send("5")
    await probe.emit("message", 5)
    found = [(await probe.event()).args[0] for _ in range(6)]
    expect_equal(found, list(range(6)), "order of the echoes")


@CASES.case("upgrade/parked-get-at-switch", "EIO-UPG-7")
async def parked_at_switch(lab: ServerLab) -> None:
    """A GET that is parked at `5` is answered with `6`."""
    peer = await lab.polling_member()
    probe = await lab.probe(peer.sid)
    probe.answered_101()
    parked = await peer.parked()
    await probe.raw(build(TEXT, b"2probe") + build(TEXT, b"5"))
    answer = await lab.answer(parked, "GET", lab.patience)
    expect_equal(answer.text, "6", "answer to the parked GET")
    await probe.expect("3probe")
    await probe.echo("x")


@CASES.case("upgrade/messages-right-behind", "EIO-UPG-7")
async def right_behind(lab: ServerLab) -> None:
    """Messages that follow `5` at once are messages of the session."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await probe.raw(build(TEXT, b"5") + build(TEXT, b'42["message","at once"]'))
    expect_equal((await probe.event()).args, ["at once"], "echo")


@CASES.case("upgrade/all-in-one-piece", "EIO-UPG-7", "WS-1")
async def one_piece(lab: ServerLab) -> None:
    """Probe, UPGRADE and a message may come right behind the WebSocket handshake."""
    peer = await lab.polling_member()
    behind = b"".join(build(TEXT, text) for text in (b"2probe", b"5", b'42["message","x"]'))
    probe = await lab.probe(peer.sid, behind=behind)
    probe.answered_101()
    await probe.expect("3probe")
    expect_equal((await probe.event()).args, ["x"], "echo")


def _add_afterwards(method: str) -> None:
    @CASES.case(f"upgrade/polling-afterwards/{method.lower()}", "EIO-UPG-8", "EIO-HS-7")
    async def afterwards(lab: ServerLab) -> None:
        """After the switch polling is refused with 400 and code 3; the session is untouched."""
        peer, websocket = await lab.upgraded()
        await websocket.echo("switched")
        response = await lab.http(method, peer.query, body="6" if method == "POST" else None)
        expect_equal((response.status, response.code), (400, 3), "status and code")
        await websocket.echo("unharmed")


_add_afterwards("GET")
_add_afterwards("POST")


def _add_failure(name: str, *messages: str | bytes, clauses: tuple[str, ...] = ()) -> None:
    @CASES.case(f"upgrade/failure/{name}", "EIO-UPG-9", "EIO-UPG-1", *clauses)
    async def failure(lab: ServerLab) -> None:
        """The probe is closed and nothing else: the session stays on polling, and a new probe may follow."""
        peer = await lab.polling_member()
        probe = await lab.probe(peer.sid)
        probe.answered_101()
        for message in messages:
            await probe.send(message)
        await probe.expect_closed(1000, "upgrade failed", lab.patience)
        await peer.echo("still on polling")
        again = await probed(lab, peer.sid)
        await again.send("5")
        await again.echo("on websocket")


_add_failure("upgrade-without-probe", "5", clauses=("EIO-UPG-10",))
_add_failure("message-before-probe", '42["message"]')
_add_failure("message-after-probe", "2probe", '42["message"]', clauses=("EIO-UPG-6",))
_add_failure("plain-ping", "2")
_add_failure("pong", "3")
_add_failure("binary", b"\x01")
_add_failure("close-packet", "1")
_add_failure("noop", "6")
_add_failure("probe-with-more", "2probex")
_add_failure("empty", "")
_add_failure("unknown", "abc")


@CASES.case("upgrade/ping-frame", "EIO-UPG-1", "WS-4")
async def ping_frame(lab: ServerLab) -> None:
    """A WebSocket ping frame on a probe is no packet: it is answered, and the probe goes on."""
    peer = await lab.polling_member()
    probe = await lab.probe(peer.sid)
    probe.answered_101()
    await probe.raw(build(PING, b"before") + build(TEXT, b"2probe"))
    expect_equal(await probe.control_frame(PONG), b"before", "payload of the pong frame")
    await probe.expect("3probe")
    await probe.raw(build(PING, b"behind") + build(TEXT, b"5"))
    expect_equal(await probe.control_frame(PONG), b"behind", "payload of the pong frame")
    await probe.echo("on websocket")


@CASES.case("upgrade/failure/connection-ends", "EIO-UPG-9")
async def connection_ends(lab: ServerLab) -> None:
    """A probe whose connection ends leaves the session on polling."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await trio.aclose_forcefully(probe.stream)
    await peer.echo("still on polling")


@CASES.case("upgrade/failure/close-frame", "EIO-UPG-9", "WS-5")
async def close_frame(lab: ServerLab) -> None:
    """So does one that is closed."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await probe.raw(build(CLOSE, (1000).to_bytes(2, "big")))
    await probe.ended(lab.patience)
    await peer.echo("still on polling")


def _add_timeout(name: str, *messages: str) -> None:
    @CASES.case(f"upgrade/timeout/{name}", "EIO-UPG-11", "EIO-UPG-9", needs=["bounded"])
    async def timeout(lab: ServerLab) -> None:
        """A probe without `5` within the upgrade timeout is closed, and the session stays on polling."""
        lab.use("bounded")
        peer = await lab.polling_member()
        lab.start_soon(peer.keep_alive)
        probe = await lab.probe(peer.sid)
        probe.answered_101()
        for message in messages:
            await probe.send(message)
        await probe.expect_closed(1000, "upgrade failed", 0.4 + lab.patience)
        await peer.expect_alive()


_add_timeout("silent")
_add_timeout("probed", "2probe")


@CASES.case("upgrade/second-probe", "EIO-UPG-12")
async def second_probe(lab: ServerLab) -> None:
    """A second probe is answered 101 and closed with 1008; the first is untouched."""
    peer = await lab.polling_member()
    first = await probed(lab, peer.sid)
    second = await lab.probe(peer.sid)
    second.answered_101()
    await second.expect_closed(1008, None, lab.patience)
    await first.send("5")
    await first.echo("unharmed")


@CASES.case("upgrade/websocket-for-websocket", "EIO-UPG-12")
async def websocket_for_websocket(lab: ServerLab) -> None:
    """A WebSocket for a session that started on WebSocket is closed with 1008."""
    peer = await lab.member()
    second = await lab.probe(peer.sid)
    second.answered_101()
    await second.expect_closed(1008, None, lab.patience)
    await peer.echo("unharmed")


@CASES.case("upgrade/websocket-after-upgrade", "EIO-UPG-12")
async def websocket_after_upgrade(lab: ServerLab) -> None:
    """A WebSocket for a session that has upgraded is closed with 1008."""
    peer, websocket = await lab.upgraded()
    await websocket.echo("switched")
    second = await lab.probe(peer.sid)
    second.answered_101()
    await second.expect_closed(1008, None, lab.patience)
    await websocket.echo("unharmed")


@CASES.case("upgrade/session-ends", "EIO-UPG-13")
async def session_ends(lab: ServerLab) -> None:
    """If the session ends, its probe is closed."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await peer.send("1")
    await probe.expect_closed(1000, "upgrade failed", lab.patience)


@CASES.case("upgrade/order-to-server", "EIO-UPG-14", "FLOW-4")
async def order_to_server(lab: ServerLab) -> None:
    """What the client sends arrives in order, whichever transport carried it."""
    peer = await lab.polling_member()
    probe = await probed(lab, peer.sid)
    await peer.send('42["message",0]', '42["message",1]')
    await probe.raw(b"".join(build(TEXT, text) for text in (b"5", b'42["message",2]', b'42["message",3]')))
    found = [(await probe.event()).args[0] for _ in range(4)]
    expect_equal(found, [0, 1, 2, 3], "order")


@CASES.case("upgrade/heartbeat-goes-on", "EIO-UPG-15", "EIO-HB-2")
async def heartbeat_goes_on(lab: ServerLab) -> None:
    """A PONG that is due before the upgrade stays due after it."""
    peer = await lab.polling_member()
    answer = await peer.get()
    expect_equal(answer.text, "2", "answer to the GET")
    probe = await lab.probe(peer.sid)
    probe.answered_101()
    probe.pongs = False
    started = trio.current_time()
    await probe.send("2probe")
    await probe.expect("3probe")
    closed = await probe.ended(lab.fixture.ping_interval + lab.fixture.ping_timeout + 2 * lab.patience)
    waited = trio.current_time() - started
    if waited > lab.fixture.ping_timeout + 2 * lab.patience:
        raise Deviation(f"the deadline was put off: closed after {waited:.3f} s with {closed}")


@CASES.case("upgrade/heartbeat-on-new-transport", "EIO-UPG-15")
async def pong_on_new(lab: ServerLab) -> None:
    """A PONG may come on the new transport, and PINGs go there."""
    peer = await lab.polling_member()
    answer = await peer.get()
    expect_equal(answer.text, "2", "answer to the GET")
    probe = await probed(lab, peer.sid)
    await probe.raw(build(TEXT, b"5") + build(TEXT, b"3"))
    await probe.silent(lab.fixture.ping_interval + lab.fixture.ping_timeout)
    expect(probe.pings, "no PING on the WebSocket")
