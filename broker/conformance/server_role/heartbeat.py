"""Cases for section 13: pings, deadlines and signs of life."""

from __future__ import annotations

import trio

from broker.conformance.cases import Deviation, expect, expect_equal
from broker.conformance.frames import PING, PONG, TEXT, build
from broker.conformance.lab import ServerLab

from .catalogue import CASES


@CASES.case("heartbeat/first-ping", "EIO-HB-1")
async def first_ping(lab: ServerLab) -> None:
    """The first PING comes pingInterval after OPEN."""
    peer = await lab.session(pongs=False)
    start = trio.current_time()
    await peer.join()
    await peer.expect("2", lab.fixture.ping_interval + lab.patience)
    waited = trio.current_time() - start
    expect(waited > 0.75 * lab.fixture.ping_interval, f"PING after {waited:.3f} s")


@CASES.case("heartbeat/next-ping", "EIO-HB-1")
async def next_ping(lab: ServerLab) -> None:
    """The next PING comes pingInterval after the answer to the last."""
    peer = await lab.member(pongs=False)
    await peer.expect("2")
    await trio.sleep(0.1)
    start = trio.current_time()
    await peer.send("3")
    await peer.expect("2", lab.fixture.ping_interval + lab.patience)
    waited = trio.current_time() - start
    expect(waited > 0.75 * lab.fixture.ping_interval, f"PING after {waited:.3f} s")


@CASES.case("heartbeat/one-unanswered", "EIO-HB-1")
async def one_unanswered(lab: ServerLab) -> None:
    """There are never two unanswered PINGs."""
    peer = await lab.member(pongs=False)
    await peer.expect("2")
    closed = await peer.ended(lab.fixture.ping_timeout + lab.patience + 0.2)
    expect_equal(len(peer.pings), 1, f"number of PINGs before {closed}")


@CASES.case("heartbeat/server-pings", "EIO-HB-1")
async def several_pings(lab: ServerLab) -> None:
    """A session whose PINGs are answered lives on."""
    peer = await lab.member()
    await peer.silent(4 * lab.fixture.ping_interval)
    expect(len(peer.pings) >= 3, f"only {len(peer.pings)} PINGs in four intervals")


@CASES.case("heartbeat/timeout", "EIO-HB-2", "SIO-REASON-1")
async def timeout(lab: ServerLab) -> None:
    """Without a sign of life the session ends pingTimeout after the PING, with `ping timeout`."""
    peer = await lab.member(pongs=False)
    await peer.expect("2")
    start = trio.current_time()
    await peer.expect_closed(1000, "ping timeout", lab.fixture.ping_timeout + lab.patience)
    waited = trio.current_time() - start
    expect(waited > 0.75 * lab.fixture.ping_timeout, f"ended after {waited:.3f} s")


@CASES.case("heartbeat/timeout-on-polling", "EIO-HB-2", "EIO-HB-7")
async def timeout_polling(lab: ServerLab) -> None:
    """So it does on polling, also for a client that polls."""
    peer = await lab.polling_member()
    answer = await peer.get()
    expect_equal(answer.text, "2", "answer to the GET")
    parked = await peer.begin_get()
    ended = await lab.answer(parked, "GET", lab.fixture.ping_timeout + 2 * lab.patience)
    expect_equal(ended.text.split("\x1e")[-1], "1", "answer to the parked GET")
    await peer.expect_gone()


@CASES.case("heartbeat/get-is-no-life", "EIO-HB-3", "EIO-HB-7")
async def get_is_no_life(lab: ServerLab) -> None:
    """A GET is no packet: it does not lift the deadline."""
    peer = await lab.polling_member()
    start = trio.current_time()
    while trio.current_time() - start < 2.0:
        response = await peer.get()
        if response.status == 400 or response.text.endswith("1"):
            return
    raise Deviation("a client that only polls, and never answers, is still alive after 2 s")


def _add_life(name: str, sign: bytes | str) -> None:
    @CASES.case(f"heartbeat/life/{name}", "EIO-HB-3")
    async def life(lab: ServerLab) -> None:
        """Every packet and frame lifts the deadline, and the next PING is due an interval later."""
        peer = await lab.member(pongs=False)
        await peer.expect("2")
        await trio.sleep(0.3 * lab.fixture.ping_timeout)
        if isinstance(sign, bytes):
            await peer.raw(sign)
        else:
            await peer.send(sign)
        with trio.move_on_after(lab.fixture.ping_interval + lab.patience) as scope:
            while await peer.receive() != "2":
                continue
        expect(not scope.cancelled_caught, "no further PING an interval after the sign")


# Four times as long as the fixture waits for a sign of life. So much data makes cases beside it late.
LARGE = 8_000_000
RATE = 4_000_000.0


@CASES.case("heartbeat/large-message/websocket", "EIO-HB-9", "FLOW-9", needs=["burst"], alone=True)
async def large_websocket(lab: ServerLab) -> None:
    """A client that takes a large message slowly is not given up; PING comes next, ahead of what waits."""
    lab.rate = RATE
    peer = await lab.member(pongs=False)
    events = [b'42["letters",%d]' % LARGE, b'42["message",1]', b'42["message",2]']
    await peer.raw(b"".join(build(TEXT, event) for event in events))
    expect_equal(len(await peer.text(2 * LARGE / RATE)), LARGE + len('42["letters",""]'), "size of the event")
    await peer.expect("2")
    await peer.send("3")
    await peer.expect('42["message-back",1]')
    await peer.expect('42["message-back",2]')
    await peer.echo("alive")


@CASES.case("heartbeat/large-message/polling", "EIO-HB-9", "FLOW-9", needs=["burst"], alone=True)
async def large_polling(lab: ServerLab) -> None:
    """So it is on polling, where a large answer to a GET keeps PING from the client."""
    lab.rate = RATE
    peer = await lab.polling_member()
    await peer.send(f'42["letters",{LARGE}]')
    reader = await peer.begin_get()
    await trio.sleep(lab.patience)  # the answer has begun by then
    await peer.send('42["message",1]')
    answer = await lab.answer(reader, "GET", 2 * LARGE / RATE)
    expect_equal(len(answer.body), LARGE + len('42["letters",""]'), "size of the answer")
    behind = await peer.get()
    expect_equal(behind.text, '2\x1e42["message-back",1]', "answer to the next GET")
    await peer.send("3")
    await peer.echo("alive")


SIGNS: dict[str, bytes | str] = {
    "event": '42["nobody listens"]',
    "noop": "6",
    "ping-frame": build(PING),
    "pong-frame": build(PONG),
}
for _name, _sign in SIGNS.items():
    _add_life(_name, _sign)


@CASES.case("heartbeat/traffic-does-not-put-off", "EIO-HB-3")
async def not_put_off(lab: ServerLab) -> None:
    """While no PING is unanswered, traffic does not put off the next one."""
    peer = await lab.member()
    start = trio.current_time()
    while trio.current_time() - start < 2.5 * lab.fixture.ping_interval + lab.patience:
        await peer.send("6")
        await trio.sleep(0.05)
    expect(len(peer.pings) >= 2, f"{len(peer.pings)} PINGs in two and a half intervals full of traffic")


@CASES.case("heartbeat/unasked-pong", "EIO-HB-5")
async def unasked(lab: ServerLab) -> None:
    """A PONG that answers nothing is accepted."""
    peer = await lab.member()
    await peer.send("3")
    await peer.echo("unharmed")


@CASES.case("heartbeat/unasked-pong-restarts", "EIO-HB-5")
async def unasked_restarts(lab: ServerLab) -> None:
    """It starts the interval anew."""
    peer = await lab.member(pongs=False)
    await trio.sleep(0.6 * lab.fixture.ping_interval)
    start = trio.current_time()
    await peer.send("3")
    await peer.expect("2", lab.fixture.ping_interval + lab.patience)
    waited = trio.current_time() - start
    expect(waited > 0.75 * lab.fixture.ping_interval, f"PING {waited:.3f} s after an unasked PONG")


@CASES.case("heartbeat/many-unasked-pongs", "EIO-HB-5", "SIO-ERR-5")
async def many_unasked(lab: ServerLab) -> None:
    """Any number of them does no harm."""
    peer = await lab.member()
    await peer.raw(build(1, b"3") * 5_000)
    await peer.echo("unharmed")


def _add_client_ping(text: str, name: str) -> None:
    @CASES.case(f"heartbeat/client-ping/{name}", "EIO-HB-6", "SIO-ERR-1")
    async def client_ping(lab: ServerLab) -> None:
        """A PING of a client ends the session."""
        peer = await lab.member()
        await peer.send(text)
        await peer.expect_closed(1002, "ping from the client", lab.patience)


_add_client_ping("2", "plain")
_add_client_ping("2probe", "probe")
_add_client_ping("2abc", "payload")


@CASES.case("heartbeat/client-ping/polling", "EIO-HB-6", "SIO-ERR-3")
async def client_ping_polling(lab: ServerLab) -> None:
    """So it does on polling."""
    peer = await lab.polling_member()
    parked = await peer.parked()
    await peer.post("2")
    answer = await lab.answer(parked, "GET", lab.patience)
    expect_equal(answer.text.split("\x1e")[-1], "1", "answer to the parked GET")
    await peer.expect_gone()


@CASES.case("heartbeat/suspended-while-not-reading", "EIO-HB-4", "LIM-5", needs=["bounded", "slow-echo"])
async def suspended(lab: ServerLab) -> None:
    """While the server does not read, it does not hold the deadline against the client."""
    lab.use("bounded")
    peer = await lab.member()
    for _ in range(10):
        await peer.emit("slow-echo", 80)
    await peer.emit("message", "after all")
    for _ in range(10):
        expect_equal((await peer.event()).name, "slow-back", "name of the event")
    expect_equal((await peer.event()).args, ["after all"], "echo")
