"""Cases for section 25: drain. The server `drain` drains when asked, and starts anew afterwards.

They run one after another, since each ends every session of that server.
"""

from __future__ import annotations

import trio

from broker.conformance.cases import Deviation, Late, expect, expect_equal
from broker.conformance.lab import ServerLab
from broker.conformance.websocket import WebSocketPeer

from .catalogue import CASES


async def fresh(lab: ServerLab) -> WebSocketPeer:
    """Join the server `drain`, once it is up."""
    lab.use("drain")
    for _ in range(60):
        try:
            return await lab.member()
        except (OSError, Deviation, trio.BrokenResourceError):
            await trio.sleep(0.05)
    raise Late("the server `drain` of the fixture does not come up")


@CASES.case("drain/refuses-handshakes", "DRAIN-1", "EIO-HS-16", needs=["drain"], alone=True)
async def refuses(lab: ServerLab) -> None:
    """Handshakes are refused with 503, code 108 and Retry-After; sessions that exist are served."""
    peer = await fresh(lab)
    other = await lab.member()
    await peer.emit("slow-echo", 300, "busy")
    await other.emit("drain")
    watcher = await lab.http("GET", "EIO=4&transport=polling")
    for _ in range(10):
        if watcher.status != 200:
            break
        await trio.sleep(0.02)
        watcher = await lab.http("GET", "EIO=4&transport=polling")
    expect_equal((watcher.status, watcher.code), (503, 108), "status and code")
    expect((watcher.header("retry-after") or "").isdigit(), "no Retry-After in seconds")
    event = await peer.event()
    expect_equal(event.args[-1], "busy", "answer of a session that exists")


@CASES.case("drain/lets-handlers-finish", "DRAIN-2", needs=["drain"], alone=True)
async def lets_finish(lab: ServerLab) -> None:
    """Handlers finish and their acks are sent, then the session is closed with 1001."""
    peer = await fresh(lab)
    other = await lab.member()
    await peer.emit("slow-echo", 300, "done", ack=9)
    await trio.sleep(0.05)
    await other.emit("drain")
    await peer.event()
    event = await peer.event()
    expect_equal((event.kind, event.ack), (3, 9), "the ack of the running handler")
    await peer.expect_closed(1001, "server shutting down", 1.0)


@CASES.case("drain/no-disconnect", "DRAIN-3", "SIO-REASON-3", needs=["drain"], alone=True)
async def no_disconnect(lab: ServerLab) -> None:
    """No DISCONNECT is sent, since clients would not come back."""
    peer = await fresh(lab)
    await peer.emit("drain")
    closed = await peer.ended(2.0)
    expect_equal(closed.code, 1001, "close code")
    try:
        text = await peer.text()
    except Deviation:
        return
    raise Deviation(f"the server sent {text!r} before the end")


@CASES.case("drain/polling", "DRAIN-2", "EIO-CLOSE-3", needs=["drain"], alone=True)
async def on_polling(lab: ServerLab) -> None:
    """A session on polling gets `1`."""
    await fresh(lab)
    peer = await lab.polling_member()
    await peer.send('42["drain"]')
    for _ in range(10):
        answer = await peer.get()
        packets = answer.text.split("\x1e")
        if packets[-1] == "1":
            expect("41" not in packets, "a DISCONNECT was sent")
            return
        if "2" in packets:
            await peer.post("3")
    raise Deviation("no CLOSE came")


@CASES.case("drain/ends-at-deadline", "DRAIN-4", needs=["drain"], alone=True)
async def at_deadline(lab: ServerLab) -> None:
    """At its deadline (1 s in the fixture) the server closes what is left."""
    peer = await fresh(lab)
    await peer.emit("slow-echo", 20_000, "never")
    other = await lab.member()
    await other.emit("drain")
    start = trio.current_time()
    await peer.ended(4.0)
    waited = trio.current_time() - start
    expect(waited > 0.5, f"closed after {waited:.2f} s, while a handler was running")


@CASES.case("drain/paced", "DRAIN-4", needs=["drain"], alone=True)
async def paced(lab: ServerLab) -> None:
    """The closes are spread over time."""
    first = await fresh(lab)
    peers = [first, *[await lab.member() for _ in range(9)]]
    times: list[float] = []

    async def watch(peer: WebSocketPeer) -> None:
        await peer.ended(4.0)
        times.append(trio.current_time())

    await first.emit("drain")
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(watch, peer)
    expect(max(times) - min(times) > 0.05, f"all closed within {max(times) - min(times):.3f} s")
