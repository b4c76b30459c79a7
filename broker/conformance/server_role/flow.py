"""Cases for section 24: order and delivery."""

from __future__ import annotations

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import TEXT, build
from broker.conformance.lab import ServerLab

from .catalogue import CASES


@CASES.case("flow/order-websocket", "FLOW-2", "FLOW-1", needs=["burst"])
async def order_websocket(lab: ServerLab) -> None:
    """Messages of the server arrive in order, each once."""
    peer = await lab.member()
    await peer.emit("burst", 200)
    found = [(await peer.event()).args[0] for _ in range(200)]
    expect_equal(found, list(range(200)), "numbers")
    await peer.echo("and no more")


@CASES.case("flow/order-polling", "FLOW-2", "FLOW-1", needs=["burst"])
async def order_polling(lab: ServerLab) -> None:
    """So they do on polling."""
    peer = await lab.polling_member()
    await peer.send('42["burst",100]')
    found = [(await peer.event()).args[0] for _ in range(100)]
    expect_equal(found, list(range(100)), "numbers")


@CASES.case("flow/order-across-upgrade", "FLOW-4", "EIO-UPG-14", needs=["burst"])
async def across_upgrade(lab: ServerLab) -> None:
    """So they do when they are sent before an upgrade and read after it."""
    peer = await lab.polling_member()
    probe = await lab.probe(peer.sid)
    probe.answered_101()
    await probe.send("2probe")
    await probe.expect("3probe")
    await peer.send('42["burst",50]')
    await probe.send("5")
    await probe.emit("message", "last")
    found = [(await probe.event()).args[0] for _ in range(51)]
    expect_equal(found, [*range(50), "last"], "numbers")


@CASES.case("flow/one-queue", "FLOW-3")
async def one_queue(lab: ServerLab) -> None:
    """Events, acks and CONNECT answers share one order."""
    peer = await lab.member()
    packets = (
        b'42["message",1]',
        b'421["message-with-ack",2]',
        b'42["message",3]',
        b'422["message-with-ack",4]',
    )
    await peer.raw(b"".join(build(TEXT, packet) for packet in packets))
    found = [await peer.text() for _ in range(4)]
    expect_equal(
        found, ['42["message-back",1]', "431[2]", '42["message-back",3]', "432[4]"], "order of the answers"
    )


@CASES.case("flow/volatile-in-order", "FLOW-3", needs=["volatile"])
async def volatile_in_order(lab: ServerLab) -> None:
    """A volatile event that is sent does not overtake."""
    peer = await lab.member()
    packets = (b'42["message",1]', b'42["volatile",2]', b'42["message",3]')
    await peer.raw(b"".join(build(TEXT, packet) for packet in packets))
    found = [event.args[0] for event in [await peer.event() for _ in range(2)]]
    if found == [1, 2]:
        found.append((await peer.event()).args[0])
    expect(found in ([1, 2, 3], [1, 3]), f"order {found}")


@CASES.case("flow/broadcast-order", "FLOW-5", needs=["broadcast"])
async def broadcast_order(lab: ServerLab) -> None:
    """All receivers get the broadcasts of one sender in the same order."""
    sender = await lab.watcher()
    receivers = [await lab.watcher() for _ in range(3)]
    token = sender.sid[:6]
    await sender.raw(b"".join(build(TEXT, f'42["shout","{token}-{at}"]'.encode()) for at in range(50)))
    wanted = [f"{token}-{at}" for at in range(50)]
    for receiver in [sender, *receivers]:
        found: list[str] = []
        while len(found) < 50:
            event = await receiver.event()
            if str(event.args[0]).startswith(token):
                found.append(event.args[0])
        expect_equal(found, wanted, "order of the broadcasts")


@CASES.case("flow/one-after-another", "FLOW-6", needs=["slow-echo"])
async def one_after_another(lab: ServerLab) -> None:
    """Events of one socket are handled one after another, in order."""
    peer = await lab.member()
    packets = (b'42["slow-echo",60,1]', b'42["slow-echo",1,2]', b'42["message",3]')
    await peer.raw(b"".join(build(TEXT, packet) for packet in packets))
    found = [(await peer.event()).args[-1] for _ in range(3)]
    expect_equal(found, [1, 2, 3], "order of the answers")


@CASES.case("flow/heartbeat-beside-handlers", "FLOW-6", "EIO-HB-2", needs=["slow-echo"])
async def heartbeat_beside(lab: ServerLab) -> None:
    """A PONG does not wait for a handler."""
    peer = await lab.member()
    await peer.emit("slow-echo", 800, 1)
    expect_equal((await peer.event()).args[-1], 1, "answer")
    await peer.echo("unharmed")
