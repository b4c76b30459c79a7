"""Cases for section 23: limits. Most need the server `bounded` of the fixture, whose limits are small."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import TEXT, build
from broker.conformance.http import ResponseReader
from broker.conformance.lab import ServerLab
from broker.conformance.packets import parse_connected

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
