"""Cases for section 23: limits. Most need the server `bounded` of the fixture, whose limits are small."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import PING, TEXT, build
from broker.conformance.http import ResponseReader
from broker.conformance.lab import ServerLab, joined
from broker.conformance.packets import parse_connected
from broker.conformance.websocket import WebSocketPeer

from .catalogue import CASES


@CASES.case("limit/head-too-large", "LIM-2", "LIM-1")
async def head_too_large(lab: ServerLab) -> None:
    """A head of more than 16 384 bytes is answered 431 with code 106."""
    response = await lab.http("GET", "EIO=4&transport=polling", [("X-Long", "x" * 16_400)])
    expect_equal((response.status, response.code), (431, 106), "status and code")


@CASES.case("limit/too-many-headers", "LIM-2")
async def too_many_headers(lab: ServerLab) -> None:
    """A head of more than 100 fields is answered 431 with code 106."""
    response = await lab.http("GET", "EIO=4&transport=polling", [(f"X-{at}", "x") for at in range(101)])
    expect_equal((response.status, response.code), (431, 106), "status and code")


@CASES.case("limit/slow-head", "LIM-2", needs=["bounded"])
async def slow_head(lab: ServerLab) -> None:
    """A head that is not complete in time (300 ms in the fixture) is answered 408 with code 105."""
    lab.use("bounded")
    stream = await lab.connect()
    await stream.send_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: ")
    response = await lab.answer(ResponseReader(stream), "GET", 0.3 + 2 * lab.patience)
    expect_equal((response.status, response.code), (408, 105), "status and code")


@CASES.case("limit/body-of-get", "LIM-3")
async def body_of_get(lab: ServerLab) -> None:
    """A body on a GET is not read as packets."""
    peer = await lab.polling_member()
    response = await lab.http("GET", peer.query, (), '42["message","no"]')
    expect_equal(response.status, 200, "status")
    expect('"no"' not in response.text, "the body of a GET was acted on")


ASSEMBLY_TIMEOUT = 0.3


async def _again_and_again(peer: WebSocketPeer, data: bytes) -> None:
    while data:
        await peer.raw(data)
        await trio.sleep(0.05)


def _add_begun(name: str, first: bytes, then: bytes) -> None:
    @CASES.case(f"limit/begun-message/{name}", "LIM-8", "SIO-ERR-1", needs=["bounded"])
    async def begun(lab: ServerLab) -> None:
        """A message that is not complete in time (300 ms in the fixture) ends the session, whatever comes."""
        lab.use("bounded")
        peer = await lab.member(pongs=False)
        start = trio.current_time()
        await peer.raw(first)
        lab.start_soon(_again_and_again, peer, then)
        await peer.expect_closed(1008, "message not completed in time", ASSEMBLY_TIMEOUT + 2 * lab.patience)
        waited = trio.current_time() - start
        expect(waited > 0.75 * ASSEMBLY_TIMEOUT, f"ended after {waited:.3f} s")


_add_begun("header", build(TEXT, b"4")[:1], b"")
_add_begun("payload", build(TEXT, b"4" * 1_000)[:20], b"4")
_add_begun("fragments", build(TEXT, b"42", final=False), build(0, b"x", final=False))
_add_begun("control-frames", build(TEXT, b"42", final=False), build(PING))


@CASES.case("limit/begun-message/each-anew", "LIM-8", needs=["bounded"])
async def begun_anew(lab: ServerLab) -> None:
    """Each message has the time for itself."""
    lab.use("bounded")
    peer = await lab.member(pongs=False)
    for number in range(3):
        frame = build(TEXT, b'42["message",%d]' % number)
        await peer.raw(frame[:5])
        await trio.sleep(ASSEMBLY_TIMEOUT / 2)
        await peer.raw(frame[5:])
        while (text := await peer.text()) == "2":
            continue
        expect_equal(text, f'42["message-back",{number}]', "echo")


@CASES.case("limit/rate/within", "LIM-9", needs=["rated"])
async def rate_within(lab: ServerLab) -> None:
    """What comes at once within the rate for 2 s (40 packets in the fixture) is taken without a word."""
    lab.use("rated")
    peer = await lab.member()
    await peer.raw(build(TEXT, b'42["nobody listens"]') * 30)
    await peer.echo("unharmed")


@CASES.case("limit/rate/warned", "LIM-9", "SIO-ANS-1", needs=["rated"])
async def rate_warned(lab: ServerLab) -> None:
    """Beyond that the client is warned in each of its namespaces, once, and the session goes on."""
    lab.use("rated")
    peer = await lab.member()
    await peer.join("/custom")
    await peer.raw(build(TEXT, b'42["nobody listens"]') * 60)
    warnings = [await peer.event(), await peer.event()]
    expect_equal({event.namespace for event in warnings}, {"/", "/custom"}, "namespaces with a warning")
    for event in warnings:
        expect_equal((event.name, event.args[0]["error"]["code"]), ("error", "rate_limited"), "warning")
    await peer.echo("unharmed")


def _add_too_fast(name: str, frame: bytes) -> None:
    @CASES.case(f"limit/rate/exceeded/{name}", "LIM-9", "SIO-ERR-1", needs=["rated"])
    async def too_fast(lab: ServerLab) -> None:
        """As much again beyond the rate ends the session."""
        lab.use("rated")
        peer = await lab.member()
        await peer.raw(frame * 150)
        await peer.expect_closed(1008, "too many packets a second", 2 * lab.patience)


_add_too_fast("events", build(TEXT, b'42["nobody listens"]'))
_add_too_fast("control-frames", build(PING))


@CASES.case("limit/rate/exceeded/polling", "LIM-9", "SIO-ERR-3", needs=["rated"])
async def too_fast_on_polling(lab: ServerLab) -> None:
    """So does it on polling, where each packet of a POST counts."""
    lab.use("rated")
    peer = await lab.polling_member()
    await peer.post(joined(['42["nobody listens"]'] * 150))
    answer = await peer.get()
    expect_equal(answer.text.split("\x1e")[-1], "1", "end of the answer to the GET")
    await peer.expect_gone()


@CASES.case("limit/namespaces", "SIO-NSP-3", "LIM-1", needs=["bounded"])
async def namespaces(lab: ServerLab) -> None:
    """A CONNECT for one namespace more than may be (2 in the fixture) is refused, and the session stays."""
    lab.use("bounded")
    peer = await lab.member()
    await peer.join("/custom")
    await peer.send("40/slow,")
    text = await peer.text()
    expect(text.startswith('44/slow,{"message":'), f"expected CONNECT_ERROR, got {text!r}")
    await peer.echo("unharmed")


@CASES.case("limit/namespaces-freed", "SIO-NSP-3", needs=["bounded"])
async def namespaces_freed(lab: ServerLab) -> None:
    """A namespace that was left does not count."""
    lab.use("bounded")
    peer = await lab.member()
    await peer.join("/custom")
    await peer.send("41/custom,")
    await peer.send("40/slow,")
    parse_connected(await peer.text(), "/slow")


@CASES.case("limit/namespaces-made", "SIO-CON-6", "LIM-6", needs=["bounded", "dynamic"])
async def namespaces_made(lab: ServerLab) -> None:
    """A namespace more than may be made on demand (2 in the fixture) is one that does not exist."""
    lab.use("bounded")
    first, second, third = await lab.session(), await lab.session(), await lab.session()
    await first.join("/made-1")
    await second.join("/made-2")
    await third.send("40/made-3,")
    await third.expect('44/made-3,{"message":"Invalid namespace"}')
    await third.join("/made-1")


@CASES.case("limit/slow-consumer", "FLOW-7", "LIM-4", needs=["bounded", "burst"])
async def slow_consumer(lab: ServerLab) -> None:
    """More than outbox_hard_bytes for a client that does not poll ends its session."""
    lab.use("bounded")
    peer = await lab.polling_member()
    for _ in range(12):
        response = await peer.post('42["letters",9000]')
        if response.status != 200:
            break
    await trio.sleep(lab.patience)
    answer = await lab.http("POST", peer.query, body="6")
    if answer.status == 200:
        got = await peer.get()
        expect(got.text.endswith("1"), "the session of a slow consumer goes on")


@CASES.case("limit/slow-consumer-reason", "FLOW-7", "SIO-REASON-1", needs=["bounded", "burst", "reasons"])
async def slow_consumer_reason(lab: ServerLab) -> None:
    """The reason is `slow consumer`."""
    from .polling_faults import expect_reason

    lab.use("bounded")
    watcher = await lab.member()
    peer = await lab.polling()
    socket_id = await peer.join()
    for _ in range(12):
        if (await peer.post('42["letters",9000]')).status != 200:
            break
    await expect_reason(lab, watcher, socket_id, "slow consumer")


@CASES.case("limit/back-pressure", "LIM-5", "FLOW-6", needs=["bounded", "slow-echo"])
async def back_pressure(lab: ServerLab) -> None:
    """Events that wait for handlers are not lost when the queue (8 in the fixture) is full."""
    lab.use("bounded")
    peer = await lab.member()
    await peer.raw(b"".join(build(TEXT, b'42["slow-echo",10,%d]' % number) for number in range(30)))
    found = [(await peer.event()).args[-1] for _ in range(30)]
    expect_equal(found, list(range(30)), "order of the answers")


@CASES.case("limit/stalled", "LIM-5", "SIO-REASON-1", needs=["bounded", "slow-echo"])
async def stalled(lab: ServerLab) -> None:
    """After pause_timeout (1 s in the fixture) of a full queue the session ends with `handler stalled`."""
    lab.use("bounded")
    peer = await lab.member()
    await peer.raw(b"".join(build(TEXT, b'42["slow-echo",3000,%d]' % number) for number in range(30)))
    await peer.expect_closed(1013, "handler stalled", 1.4 + 2 * lab.patience)
