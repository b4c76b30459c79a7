"""Cases for section 15: the text form of Socket.IO packets, and section 21: violations on polling."""

from __future__ import annotations

from broker.conformance.cases import expect, expect_equal
from broker.conformance.lab import ServerLab
from protocol import Violation

from .catalogue import CASES


def _add_white_space(name: str, text: str) -> None:
    @CASES.case(f"json/white-space/{name}", "GEN-4", "SIO-PKT-6")
    async def white_space(lab: ServerLab) -> None:
        """White space where RFC 8259 allows it is taken."""
        peer = await lab.member()
        await peer.send(text)
        event = await peer.event()
        expect_equal((event.name, event.args), ("message-back", [1, {"a": 2}]), "echo")


for _name, _text in {
    "spaces": '42[ "message" , 1 , { "a" : 2 } ]',
    "lines": '42[\n"message",\r\n1,\t{"a":2}\n]',
    "behind": '42["message",1,{"a":2}] \n',
}.items():
    _add_white_space(_name, _text)


def _add_value(name: str, *values: object) -> None:
    @CASES.case(f"event/value/{name}", "SIO-EVT-1", "SIO-PKT-6")
    async def value(lab: ServerLab) -> None:
        """Each argument may be any JSON value."""
        peer = await lab.member()
        await peer.echo(*values)


VALUES: dict[str, list[object]] = {
    "none": [],
    "null": [None],
    "booleans": [True, False],
    "numbers": [0, -1, 1.5, 1e10, 2**53],
    "text": ["", "ä€😀", '"\\/', "\x1e\x00\x1f"],
    "array": [[], [1, [2, [3]]]],
    "object": [{}, {"a": {"b": [None]}}],
    "several": [1, "2", [3], {"4": 5}],
    "not-a-placeholder": [{"_placeholder": False, "num": 0}],
    "deep": [[[[[[[[[]]]]]]]]],
}
for _name, _values in VALUES.items():
    _add_value(_name, *_values)


@CASES.case("packet/escaped-separator", "EIO-PKT-6", "GEN-4")
async def escaped_separator(lab: ServerLab) -> None:
    """JSON escapes 1e, so that it can stand in a payload."""
    peer = await lab.polling_member()
    await peer.send('42["message","a\\u001eb"]')
    expect_equal((await peer.event()).args, ["a\x1eb"], "echo")


@CASES.case("packet/default-namespace-written", "SIO-PKT-3")
async def default_written(lab: ServerLab) -> None:
    """`/,` is taken as the default namespace."""
    peer = await lab.session()
    await peer.send("40/,")
    text = await peer.text()
    expect(text.startswith('40{"sid"'), f"expected the answer to CONNECT, got {text!r}")
    await peer.event()
    await peer.send('42/,["message","x"]')
    expect_equal((await peer.event()).args, ["x"], "echo")


@CASES.case("packet/namespace-without-comma", "SIO-PKT-3")
async def without_comma(lab: ServerLab) -> None:
    """`40/custom` is taken as `40/custom,`, and the server writes the comma."""
    peer = await lab.session()
    await peer.send("40/custom")
    text = await peer.text()
    expect(text.startswith('40/custom,{"sid"'), f"expected the answer to CONNECT, got {text!r}")


@CASES.case("packet/namespace-part", "SIO-PKT-2", "SIO-PKT-3")
async def namespace_part(lab: ServerLab) -> None:
    """The parts of a packet stand in their order: type, namespace, ack id, data."""
    peer = await lab.member("/custom")
    await peer.send('42/custom,12["message-with-ack","x"]')
    await peer.expect('43/custom,12["x"]')


@CASES.case("packet/all-parts", "SIO-PKT-2", "SIO-BIN-2")
async def all_parts(lab: ServerLab) -> None:
    """So they do with a count of attachments."""
    peer = await lab.member("/custom")
    await peer.send('451-/custom,7["message-with-ack",{"_placeholder":true,"num":0}]')
    await peer.send(b"\x01\x02")
    await peer.expect('461-/custom,7[{"_placeholder":true,"num":0}]')
    await peer.expect(b"\x01\x02")


@CASES.case("packet/compact", "GEN-4", "SIO-PKT-2")
async def compact(lab: ServerLab) -> None:
    """The server writes JSON without white space."""
    peer = await lab.member()
    await peer.send('42["message", {"a": [1, 2]}]')
    await peer.expect('42["message-back",{"a":[1,2]}]')


@CASES.case("packet/carrier", "SIO-PKT-7")
async def carrier(lab: ServerLab) -> None:
    """Each packet is one text MESSAGE, each attachment one binary MESSAGE."""
    peer = await lab.member()
    await peer.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    await peer.send(b"\x01")
    await peer.send(b"\x02")
    text = await peer.text()
    expect(text.startswith("452-["), f"expected a binary event with two attachments, got {text!r}")
    await peer.expect(b"\x01")
    await peer.expect(b"\x02")


@CASES.case("packet/ack-id-of-15-digits", "SIO-PKT-5")
async def long_id(lab: ServerLab) -> None:
    """An ack id of 15 digits is taken and comes back."""
    peer = await lab.member()
    await peer.send('42999999999999999["message-with-ack"]')
    await peer.expect("43999999999999999[]")


ON_POLLING: dict[str, tuple[str, Violation]] = {
    "unknown-type": ("49", Violation.UNKNOWN_TYPE),
    "invalid-payload": ('42{"a":1}', Violation.INVALID_PAYLOAD),
    "reserved-event": ('42["connect"]', Violation.RESERVED_EVENT),
    "illegal-attachments": ('45-["message"]', Violation.ILLEGAL_ATTACHMENTS),
    "too-many-attachments": ('4511-["message"]', Violation.TOO_MANY_ATTACHMENTS),
    "unexpected-binary": ("bAQID", Violation.UNEXPECTED_BINARY),
    "bad-ack-id": ("43[]", Violation.BAD_ACK_ID),
    "bad-namespace": ("40/\x7f,", Violation.BAD_NAMESPACE),
    "too-deep": ('42["x",' + "[" * 64 + "]" * 64 + "]", Violation.TOO_DEEP),
    "already-connected": ("40", Violation.ALREADY_CONNECTED),
    "not-connected": ('42/custom,["x"]', Violation.NOT_CONNECTED),
    "connect-error": ('44{"message":"x"}', Violation.CLIENT_CONNECT_ERROR),
}


def _add_on_polling(name: str, text: str, violation: Violation) -> None:
    needs = ["reasons"] if name == "reason" else []

    @CASES.case(f"violation/polling/{name}", "SIO-ERR-3", "SIO-ERR-1", "EIO-CLOSE-3", needs=needs)
    async def on_polling(lab: ServerLab) -> None:
        """The POST is answered `ok`, the parked GET with `1`, and the session ends."""
        peer = await lab.polling_member()
        parked = await peer.parked()
        response = await peer.post(text)
        expect_equal(response.status, 200, "answer to the POST")
        answer = await lab.answer(parked, "GET", lab.patience)
        expect_equal((answer.status, answer.text.split("\x1e")[-1]), (200, "1"), "answer to the parked GET")
        await peer.expect_gone()


def _add_reason(name: str, text: str, violation: Violation) -> None:
    @CASES.case(f"violation/reason/{name}", "SIO-REASON-1", "SIO-ERR-1", needs=["reasons"])
    async def reason(lab: ServerLab) -> None:
        """Each socket of the session ends with the reason of the row."""
        from .polling_faults import expect_reason

        watcher = await lab.member()
        peer = await lab.session()
        socket_id = await peer.join()
        await peer.send(text)
        await peer.ended(lab.patience)
        await expect_reason(lab, watcher, socket_id, violation.reason.value)


for _name, (_packet, _violation) in ON_POLLING.items():
    _add_on_polling(_name, _packet, _violation)
    _add_reason(_name, _packet, _violation)
_add_reason("unknown-packet", "9", Violation.UNKNOWN_PACKET)
_add_reason("wrong-heartbeat", "2", Violation.WRONG_HEARTBEAT)
_add_reason("empty-packet", "", Violation.EMPTY_PACKET)


@CASES.case("violation/nothing-behind", "SIO-ERR-2", needs=["broadcast"])
async def nothing_behind(lab: ServerLab) -> None:
    """Packets before a violation stand; nothing behind it is acted on."""
    from broker.conformance.frames import TEXT, build

    peer = await lab.member()
    packets = (b'42["message","before"]', b'42["message",}', b'42["message","behind"]')
    await peer.raw(b"".join(build(TEXT, packet) for packet in packets))
    expect_equal((await peer.event()).args, ["before"], "echo of the packet before")
    await peer.expect_closed(1002, "invalid payload", lab.patience)


def _add_no_violation(name: str, clause: str, text: str) -> None:
    @CASES.case(f"violation/none/{name}", "SIO-ERR-4", clause)
    async def no_violation(lab: ServerLab) -> None:
        """These are no violations: the session goes on."""
        peer = await lab.member()
        await peer.send(text)
        if text.startswith("40/"):
            answer = await peer.text()
            expect(answer.startswith("44/"), f"expected CONNECT_ERROR, got {answer!r}")
        await peer.echo("unharmed")


_add_no_violation("refused-connect", "SIO-CON-7", "40/nowhere,")
_add_no_violation("unknown-ack", "SIO-ACK-3", "4399[]")
_add_no_violation("unhandled-event", "SIO-EVT-4", '42["nobody listens",1]')


@CASES.case("violation/others-do-not-notice", "SIO-ERR-5", "SIO-NSP-2")
async def others(lab: ServerLab) -> None:
    """No input of a client is noticed by another session."""
    bystander = await lab.member()
    for text in ("49", '42["x",}', "9", "45-[]", "4510000000-[]", "40/\x00,", "42" + "[" * 5_000):
        peer = await lab.member()
        await peer.send(text)
        await peer.ended(2 * lab.patience)
    await bystander.echo("unharmed")
