"""Cases for section 19: attachments."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import BINARY, TEXT, build
from broker.conformance.lab import ServerLab

from .catalogue import CASES

HOLDER = '{"_placeholder":true,"num":%d}'


@CASES.case("binary/echo", "SIO-BIN-1", "SIO-BIN-2", "SIO-BIN-4")
async def echo(lab: ServerLab) -> None:
    """Bytes go as a binary event, placeholders in their place."""
    peer = await lab.member()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.send(b"\x01\x02\x03")
    await peer.expect(f'451-["message-back",{HOLDER % 0}]')
    await peer.expect(b"\x01\x02\x03")


@CASES.case("binary/plain-stays-plain", "SIO-BIN-1")
async def plain(lab: ServerLab) -> None:
    """An event without bytes is no binary event."""
    peer = await lab.member()
    await peer.send('42["message",{"a":"AQID"}]')
    await peer.expect('42["message-back",{"a":"AQID"}]')


@CASES.case("binary/nested", "SIO-BIN-1", "SIO-BIN-2")
async def nested(lab: ServerLab) -> None:
    """Bytes may stand at any depth, and are numbered in the order of the text."""
    peer = await lab.member()
    data = f'["message",{{"a":{HOLDER % 0},"b":[{HOLDER % 1},{{"c":{HOLDER % 2}}}]}}]'
    await peer.send("453-" + data)
    for byte in (b"\x01", b"\x02", b"\x03"):
        await peer.send(byte)
    await peer.expect("453-" + data.replace("message", "message-back", 1))
    for byte in (b"\x01", b"\x02", b"\x03"):
        await peer.expect(byte)


@CASES.case("binary/numbers-out-of-order", "SIO-BIN-3", "SIO-BIN-4", "SIO-BIN-2")
async def out_of_order(lab: ServerLab) -> None:
    """A receiver goes by the indices; the sender numbers anew from 0."""
    peer = await lab.member()
    await peer.send(f'452-["message",{HOLDER % 1},{HOLDER % 0}]')
    await peer.send(b"\x00")
    await peer.send(b"\x01")
    await peer.expect(f'452-["message-back",{HOLDER % 0},{HOLDER % 1}]')
    await peer.expect(b"\x01")
    await peer.expect(b"\x00")


@CASES.case("binary/ten", "SIO-BIN-6", "SIO-BIN-4")
async def ten(lab: ServerLab) -> None:
    """Ten attachments are taken."""
    peer = await lab.member()
    await peer.send('4510-["message",' + ",".join(HOLDER % number for number in range(10)) + "]")
    for number in range(10):
        await peer.send(bytes([number]))
    event = await peer.event()
    expect_equal(event.attachments, [bytes([number]) for number in range(10)], "attachments")


@CASES.case("binary/empty-attachment", "SIO-BIN-4", "EIO-PKT-3")
async def empty(lab: ServerLab) -> None:
    """An attachment may be empty."""
    peer = await lab.member()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.send(b"")
    event = await peer.event()
    expect_equal(event.attachments, [b""], "attachments")


@CASES.case("binary/large", "SIO-BIN-4")
async def large(lab: ServerLab) -> None:
    """Attachments of half of maxPayload are taken."""
    peer = await lab.member()
    data = bytes(range(256)) * 1_900
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.send(data)
    event = await peer.event()
    expect_equal(event.attachments, [data], "attachments")


@CASES.case("binary/ack", "SIO-BIN-1", "SIO-ACK-2")
async def ack(lab: ServerLab) -> None:
    """An ack with bytes is a binary ack."""
    peer = await lab.member()
    await peer.send(f'451-789["message-with-ack",{HOLDER % 0}]')
    await peer.send(b"\xff")
    await peer.expect(f"461-789[{HOLDER % 0}]")
    await peer.expect(b"\xff")


@CASES.case("binary/ack-to-server", "SIO-BIN-1", "SIO-ACK-1", needs=["call"])
async def ack_to_server(lab: ServerLab) -> None:
    """The server takes a binary ack."""
    peer = await lab.member()
    await peer.emit("ask-me", "q")
    question = await peer.event()
    await peer.send(f"461-{question.ack}[{HOLDER % 0}]")
    await peer.send(b"\x09")
    event = await peer.event()
    expect_equal((event.name, event.attachments), ("answer", [b"\x09"]), "what the server got")


@CASES.case("binary/on-polling", "SIO-BIN-8", "EIO-PKT-4", "SIO-PKT-7")
async def on_polling(lab: ServerLab) -> None:
    """On polling attachments are base64, in the same payload as their text."""
    peer = await lab.polling_member()
    parked = await peer.parked()
    await peer.send(f'451-["message",{HOLDER % 0}]', "bAQIDBA==")
    answer = await lab.answer(parked)
    wanted = f'451-["message-back",{HOLDER % 0}]\x1ebAQIDBA=='
    expect_equal(answer.text, wanted, "answer to the parked GET")


@CASES.case("binary/on-polling-in-two-posts", "SIO-BIN-4", "EIO-PKT-4")
async def two_posts(lab: ServerLab) -> None:
    """Text and attachments may come in different requests; padding may be missing."""
    peer = await lab.polling_member()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.send("bAQIDBA")
    event = await peer.event()
    expect_equal(event.attachments, [b"bAQIDBA=="], "attachments, padded")


@CASES.case("binary/not-before-the-last", "SIO-BIN-4", "SIO-BIN-8")
async def not_before_last(lab: ServerLab) -> None:
    """Nothing is done before the last attachment is there."""
    peer = await lab.member()
    await peer.send(f'452-["message",{HOLDER % 0},{HOLDER % 1}]')
    await peer.send(b"\x01")
    await peer.silent(0.08)
    await peer.send(b"\x02")
    event = await peer.event()
    expect_equal(event.attachments, [b"\x01", b"\x02"], "attachments")


@CASES.case("binary/together-too-big", "SIO-BIN-4", "SIO-ERR-1")
async def together_too_big(lab: ServerLab) -> None:
    """Attachments are bounded together by maxPayload."""
    peer = await lab.member()
    await peer.send(f'452-["message",{HOLDER % 0},{HOLDER % 1}]')
    for _ in range(2):
        await peer.send(bytes(lab.fixture.max_payload // 2 + 1))
    await peer.expect_closed(1009, "attachments exceed max_payload_bytes", 2 * lab.patience)


@CASES.case("binary/heartbeat-between", "SIO-BIN-5")
async def heartbeat_between(lab: ServerLab) -> None:
    """PONG and NOOP may come between the text and its attachments."""
    peer = await lab.member()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.send("3")
    await peer.send("6")
    await peer.send(b"\x01")
    expect_equal((await peer.event()).attachments, [b"\x01"], "attachments")


def _add_between(name: str, text: str) -> None:
    @CASES.case(f"binary/text-between/{name}", "SIO-BIN-5", "SIO-ERR-1")
    async def between(lab: ServerLab) -> None:
        """A text between is UNEXPECTED_TEXT, whatever its namespace."""
        peer = await lab.member()
        await peer.join("/custom")
        await peer.send(f'451-["message",{HOLDER % 0}]')
        await peer.send(text)
        await peer.expect_closed(1002, "text while attachments are awaited", lab.patience)


_add_between("event", '42["message"]')
_add_between("other-namespace", '42/custom,["message"]')
_add_between("ack", "431[]")
_add_between("disconnect", "41")
_add_between("connect", "40/nowhere,")


@CASES.case("binary/nothing-between-of-server", "SIO-BIN-5", "SIO-BIN-8", needs=["broadcast"])
async def nothing_between(lab: ServerLab) -> None:
    """The server puts nothing between a text and its attachments."""
    peer = await lab.member()
    packet = build(TEXT, f'452-["message",{HOLDER % 0},{HOLDER % 1}]'.encode())
    await peer.raw(
        (packet + build(BINARY, b"1") + build(BINARY, b"2") + build(TEXT, b'42["shout","x"]')) * 20
    )
    seen = 0
    while seen < 20:
        event = await peer.event()  # fails on anything between
        seen += event.name == "message-back"


@CASES.case("binary/unexpected", "SIO-BIN-5")
async def unexpected(lab: ServerLab) -> None:
    """A binary message that nothing announced is UNEXPECTED_BINARY."""
    peer = await lab.member()
    await peer.send(b"\x01")
    await peer.expect_closed(1002, "binary without a binary packet", lab.patience)


@CASES.case("binary/surplus", "SIO-BIN-5")
async def surplus(lab: ServerLab) -> None:
    """So is one attachment too many."""
    peer = await lab.member()
    await peer.send(f'451-["nobody listens",{HOLDER % 0}]')
    await peer.send(b"\x01")
    await peer.send(b"\x02")
    await peer.expect_closed(1002, "binary without a binary packet", lab.patience)


def _add_checked(name: str, clause: str, text: str, code: int, reason: str) -> None:
    @CASES.case(f"binary/checked-on-text/{name}", clause, "SEC-4")
    async def checked(lab: ServerLab) -> None:
        """Counts and placeholders are checked on the text, before any attachment."""
        peer = await lab.member()
        await peer.send(text)
        await peer.expect_closed(code, reason, lab.patience)


ILLEGAL = "illegal attachments"
for _name, _clause, _text, _code, _reason in (
    ("huge-count", "SIO-BIN-6", '459999999999-["message"]', 1008, "too many attachments"),
    ("eleven", "SIO-BIN-6", '4511-["message"]', 1008, "too many attachments"),
    ("index-beyond", "SIO-BIN-3", f'451-["message",{HOLDER % 1}]', 1002, ILLEGAL),
    ("index-twice", "SIO-BIN-3", f'452-["message",{HOLDER % 0},{HOLDER % 0}]', 1002, ILLEGAL),
    ("index-negative", "SIO-BIN-3", f'451-["message",{HOLDER % -1}]', 1002, ILLEGAL),
    ("index-fraction", "SIO-BIN-3", '451-["message",{"_placeholder":true,"num":0.5}]', 1002, ILLEGAL),
    ("index-text", "SIO-BIN-3", '451-["message",{"_placeholder":true,"num":"0"}]', 1002, ILLEGAL),
    ("index-length", "SIO-BIN-3", '451-["message",{"_placeholder":true,"num":"length"}]', 1002, ILLEGAL),
    ("no-placeholder", "SIO-BIN-3", '451-["message"]', 1002, ILLEGAL),
):
    _add_checked(_name, _clause, _text, _code, _reason)


@CASES.case("binary/forgotten-at-end", "SIO-BIN-7")
async def forgotten(lab: ServerLab) -> None:
    """An incomplete packet is forgotten when its session ends: the next session starts clean."""
    peer = await lab.member()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.close()
    await peer.ended(lab.patience)
    other = await lab.member()
    await other.echo("clean")


@CASES.case("binary/assembly-timeout", "SIO-BIN-7", "LIM-1", needs=["bounded"])
async def assembly_timeout(lab: ServerLab) -> None:
    """A packet that is not complete in time (300 ms in the fixture) is ASSEMBLY_TIMEOUT."""
    lab.use("bounded")
    peer = await lab.member()
    start = trio.current_time()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await peer.expect_closed(1008, "binary packet not completed in time", 0.3 + 2 * lab.patience)
    expect(trio.current_time() - start > 0.2, "the server did not wait")


@CASES.case("binary/assembled-in-time", "SIO-BIN-7", needs=["bounded"])
async def assembled_in_time(lab: ServerLab) -> None:
    """The clock stops when the packet is complete."""
    lab.use("bounded")
    peer = await lab.member()
    await peer.send(f'451-["message",{HOLDER % 0}]')
    await trio.sleep(0.1)
    await peer.send(b"\x01")
    await peer.event()
    await peer.silent(0.5)
