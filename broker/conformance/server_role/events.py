"""Cases for section 17: events."""

from __future__ import annotations

from broker.conformance.cases import expect, expect_equal
from broker.conformance.lab import ServerLab

from .catalogue import CASES


@CASES.case("event/no-answer", "SIO-EVT-1")
async def no_answer(lab: ServerLab) -> None:
    """There is no answer to an event that asks for none."""
    peer = await lab.member()
    await peer.emit("message-with-ack", 1)
    await peer.silent(0.05)


@CASES.case("event/on-polling", "SIO-EVT-1", "SIO-PKT-7")
async def on_polling(lab: ServerLab) -> None:
    """Events go over polling as well."""
    peer = await lab.polling_member()
    await peer.echo(1, "2", {"3": [False]})


def _add_name(name: str, packet: str) -> None:
    @CASES.case(f"event/name/{name}", "SIO-EVT-2", "SIO-EVT-4")
    async def event_name(lab: ServerLab) -> None:
        """A name is a string or a number; one that nobody handles is dropped."""
        peer = await lab.member()
        await peer.send(packet)
        await peer.echo("unharmed")


for _name, _packet in {
    "empty": '42[""]',
    "number": "42[123]",
    "negative": "42[-1.5]",
    "unicode": '42["ä€"]',
    "proto": '42["__proto__"]',
    "constructor": '42["constructor",1]',
    "error": '42["error"]',
}.items():
    _add_name(_name, _packet)


def _add_reserved(name: str) -> None:
    @CASES.case(f"event/reserved/{name}", "SIO-EVT-3")
    async def reserved(lab: ServerLab) -> None:
        """A reserved name is RESERVED_EVENT."""
        peer = await lab.member()
        await peer.emit(name, 1)
        await peer.expect_closed(1002, "reserved event name", lab.patience)


for _name in ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"):
    _add_reserved(_name)


@CASES.case("event/nobody-listens-no-ack", "SIO-EVT-4", "SIO-ACK-2")
async def nobody_listens(lab: ServerLab) -> None:
    """An event that nobody handles gets no ack."""
    peer = await lab.member()
    await peer.emit("nobody listens", ack=3)
    await peer.silent(0.1)


@CASES.case("event/volatile", "SIO-EVT-5", needs=["volatile"])
async def volatile(lab: ServerLab) -> None:
    """A volatile event is an EVENT on the wire."""
    peer = await lab.member()
    await peer.emit("volatile", "x")
    await peer.expect('42["volatile-back","x"]')


@CASES.case("event/volatile-dropped", "SIO-EVT-5", "FLOW-8", needs=["volatile"])
async def volatile_dropped(lab: ServerLab) -> None:
    """On polling without a GET a volatile event is dropped, and what is sent otherwise stays in order."""
    peer = await lab.polling_member()
    await peer.send('42["message",1]', '42["volatile","dropped"]', '42["message",2]')
    found = [(await peer.event()).args for _ in range(2)]
    expect_equal(found, [[1], [2]], "events")


@CASES.case("event/early-is-not-lost", "SIO-EVT-6", "SIO-CON-4")
async def early(lab: ServerLab) -> None:
    """The first event of the server does not overtake the answer, so that no client has to keep it."""
    for _ in range(5):
        peer = await lab.session()
        await peer.send("40")
        first = await peer.text()
        expect(first.startswith("40{"), f"an event overtook the answer to CONNECT: {first!r}")
