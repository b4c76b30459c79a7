"""Cases for section 11: the opening handshake, frames, control frames, bounds."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import BINARY, CLOSE, PING, PONG, TEXT, build
from broker.conformance.lab import ServerLab
from broker.conformance.websocket import ACCEPT

from .catalogue import CASES

MESSAGE = b'42["message","whole"]'


@CASES.case("websocket/accept", "WS-1")
async def accept(lab: ServerLab) -> None:
    """The answer to the opening handshake is that of RFC 6455."""
    peer = await lab.websocket()
    peer.answered_101()
    expect_equal(peer.answered.header("sec-websocket-accept"), ACCEPT, "Sec-WebSocket-Accept")


@CASES.case("websocket/no-extension", "WS-1", "SEC-7")
async def no_extension(lab: ServerLab) -> None:
    """The server agrees to no extension."""
    peer = await lab.websocket(headers=[("Sec-WebSocket-Extensions", "permessage-deflate")])
    peer.answered_101()
    expect_equal(peer.answered.header("sec-websocket-extensions"), None, "Sec-WebSocket-Extensions")


@CASES.case("websocket/subprotocol", "WS-1")
async def subprotocol(lab: ServerLab) -> None:
    """Of the subprotocols offered the first is chosen, and none if none is offered."""
    peer = await lab.websocket(headers=[("Sec-WebSocket-Protocol", "chat, superchat")])
    peer.answered_101()
    expect_equal(peer.answered.header("sec-websocket-protocol"), "chat", "Sec-WebSocket-Protocol")
    peer = await lab.websocket()
    peer.answered_101()
    expect_equal(peer.answered.header("sec-websocket-protocol"), None, "Sec-WebSocket-Protocol")


def _add_bad_opening(name: str, headers: list[tuple[str, str]], status: int, code: int) -> None:
    @CASES.case(f"websocket/bad-opening/{name}", "WS-1")
    async def bad_opening(lab: ServerLab) -> None:
        """A handshake that breaks RFC 6455 is answered 400 with code 109, another version 426 with 111."""
        peer = await lab.websocket(headers=headers)
        expect_equal(peer.answered.status, status, "status")
        expect_equal(peer.answered.code, code, "code")


for _name, _headers, _status, _code in (
    ("no-key", [("Sec-WebSocket-Key", "")], 400, 109),
    ("short-key", [("Sec-WebSocket-Key", "abc")], 400, 109),
    ("version-8", [("Sec-WebSocket-Version", "8")], 426, 111),
    ("no-version", [("Sec-WebSocket-Version", "")], 426, 111),
):
    _add_bad_opening(_name, _headers, _status, _code)


@CASES.case("websocket/server-frames", "WS-2")
async def server_frames(lab: ServerLab) -> None:
    """Frames of the server are not masked, and no reserved bit is set."""
    peer = await lab.member()
    await peer.echo("x" * 1_000)
    expect(peer.problem is None, peer.problem or "")


def _add_fragments(name: str, frames: list[bytes]) -> None:
    @CASES.case(f"websocket/fragments/{name}", "WS-3", "WS-4")
    async def fragments(lab: ServerLab) -> None:
        """Messages in fragments are accepted, with control frames between them."""
        peer = await lab.member()
        await peer.raw(b"".join(frames))
        event = await peer.event()
        expect_equal((event.name, event.args), ("message-back", ["whole"]), "echo")


for _name, _frames in {
    "two": [build(TEXT, MESSAGE[:5], final=False), build(0, MESSAGE[5:])],
    "each-byte": [
        build(TEXT, MESSAGE[:1], final=False),
        *(build(0, MESSAGE[at : at + 1], final=False) for at in range(1, len(MESSAGE) - 1)),
        build(0, MESSAGE[-1:]),
    ],
    "with-ping": [build(TEXT, MESSAGE[:5], final=False), build(PING, b"hi"), build(0, MESSAGE[5:])],
    "with-pong": [build(TEXT, MESSAGE[:5], final=False), build(PONG), build(0, MESSAGE[5:])],
    "empty-first": [build(TEXT, b"", final=False), build(0, MESSAGE)],
    "empty-last": [build(TEXT, MESSAGE, final=False), build(0, b"")],
}.items():
    _add_fragments(_name, _frames)


def _add_length(size: int) -> None:
    @CASES.case(f"websocket/length/{size}", "WS-3")
    async def of_length(lab: ServerLab) -> None:
        """Messages of every form of length are taken and sent."""
        peer = await lab.member()
        text = "x" * (size - len('42["message",""]'))
        await peer.echo(text)


for _size in (125, 126, 127, 65_535, 65_536, 65_537, 300_000):
    _add_length(_size)


@CASES.case("websocket/byte-by-byte", "WS-3")
async def byte_by_byte(lab: ServerLab) -> None:
    """A frame may arrive byte by byte."""
    peer = await lab.member()
    await peer.trickle(build(TEXT, MESSAGE))
    expect_equal((await peer.event()).args, ["whole"], "echo")


@CASES.case("websocket/many-in-one-piece", "WS-3", "FLOW-2")
async def many(lab: ServerLab) -> None:
    """Many frames may arrive at once."""
    peer = await lab.member()
    await peer.raw(b"".join(build(TEXT, b'42["message",%d]' % number) for number in range(200)))
    found = [(await peer.event()).args[0] for _ in range(200)]
    expect_equal(found, list(range(200)), "order of the echoes")


@CASES.case("websocket/good-before-bad", "WS-3")
async def good_before_bad(lab: ServerLab) -> None:
    """Messages before the first bad frame are acted on, and none behind it."""
    peer = await lab.member()
    bad = build(TEXT, b"x", rsv=4)
    await peer.raw(build(TEXT, MESSAGE) + bad + build(TEXT, MESSAGE))
    expect_equal((await peer.event()).args, ["whole"], "echo of the message before")
    await peer.expect_closed(1002, "invalid WebSocket frame", lab.patience)


def _add_bad_frame(name: str, data: bytes, code: int, reason: str | None) -> None:
    @CASES.case(f"websocket/bad-frame/{name}", "WS-3", "WS-5", "SIO-ERR-1")
    async def bad_frame(lab: ServerLab) -> None:
        """A frame that breaks RFC 6455 ends the session with the close code of its row."""
        peer = await lab.member()
        await peer.raw(data)
        await peer.expect_closed(code, reason, lab.patience)


BAD_FRAME = "invalid WebSocket frame"
for _name, _data, _code, _reason in (
    ("not-masked", build(TEXT, b"40", mask=None), 1002, BAD_FRAME),
    ("rsv1", build(TEXT, b"6", rsv=4), 1002, BAD_FRAME),
    ("rsv2", build(TEXT, b"6", rsv=2), 1002, BAD_FRAME),
    ("rsv3", build(TEXT, b"6", rsv=1), 1002, BAD_FRAME),
    ("opcode-3", build(3, b"6"), 1002, BAD_FRAME),
    ("opcode-11", build(11, b"6"), 1002, BAD_FRAME),
    ("continuation-of-nothing", build(0, b"6"), 1002, BAD_FRAME),
    ("text-inside-fragments", build(TEXT, b"6", final=False) + build(TEXT, b"6"), 1002, BAD_FRAME),
    ("fragmented-ping", build(PING, b"", final=False), 1002, BAD_FRAME),
    ("long-ping", build(PING, b"x" * 126), 1002, BAD_FRAME),
    ("close-of-one-byte", build(CLOSE, b"\x03"), 1002, BAD_FRAME),
    ("close-code-1005", build(CLOSE, (1005).to_bytes(2, "big")), 1002, BAD_FRAME),
    ("close-code-999", build(CLOSE, (999).to_bytes(2, "big")), 1002, BAD_FRAME),
    ("text-not-utf8", build(TEXT, b"4\xff"), 1007, "text is not UTF-8"),
    (
        "fragments-not-utf8",
        build(TEXT, b"4\xe2\x82", final=False) + build(0, b"\x28"),
        1007,
        "text is not UTF-8",
    ),
    ("close-reason-not-utf8", build(CLOSE, b"\x03\xe8\xff"), 1007, "text is not UTF-8"),
    ("length-not-shortest", b"\x81\xfe\x00\x01\x37\xfa\x21\x3d\x01", 1002, BAD_FRAME),
):
    _add_bad_frame(_name, _data, _code, _reason)


def _add_ping(name: str, payload: bytes) -> None:
    @CASES.case(f"websocket/ping/{name}", "WS-4")
    async def ping(lab: ServerLab) -> None:
        """A ping frame is answered with a pong frame of the same payload."""
        peer = await lab.member()
        await peer.raw(build(PING, payload))
        expect_equal(await peer.control_frame(PONG), payload, "payload of the pong frame")


for _name, _payload in {"empty": b"", "text": b"are you there", "125-bytes": bytes(range(125))}.items():
    _add_ping(_name, _payload)


@CASES.case("websocket/pong-unasked", "WS-4")
async def pong_unasked(lab: ServerLab) -> None:
    """A pong frame that nobody asked for is taken."""
    peer = await lab.member()
    await peer.raw(build(PONG, b"x"))
    await peer.echo("unharmed")


@CASES.case("websocket/close-answered", "WS-5", "EIO-CLOSE-2")
async def close_answered(lab: ServerLab) -> None:
    """A close frame is answered with one, at once."""
    peer = await lab.member()
    await peer.raw(build(CLOSE, (1000).to_bytes(2, "big") + b"bye"))
    await peer.expect_closed(1000, None, lab.patience)


@CASES.case("websocket/close-answered-without-code", "WS-5")
async def close_without_code(lab: ServerLab) -> None:
    """A close frame without code is answered too."""
    peer = await lab.member()
    await peer.raw(build(CLOSE))
    closed = await peer.ended(lab.patience)
    expect(closed.code in (1000, 1005), f"close code {closed.code}")


@CASES.case("websocket/reason-of-violation", "WS-5", "SIO-ERR-3", "SIO-ERR-1")
async def reason_of_violation(lab: ServerLab) -> None:
    """The close frame carries the text of the violation."""
    peer = await lab.member()
    await peer.send("9")
    await peer.expect_closed(1002, "unknown engine packet type", lab.patience)


@CASES.case("websocket/exactly-max-payload", "WS-6", "EIO-PKT-8")
async def exactly_max(lab: ServerLab) -> None:
    """A message of exactly maxPayload bytes is taken."""
    peer = await lab.member()
    await peer.send("6" + "x" * (lab.fixture.max_payload - 1))
    await peer.echo("unharmed")


@CASES.case("websocket/too-big", "WS-6", "EIO-PKT-8")
async def too_big(lab: ServerLab) -> None:
    """A longer message is MESSAGE_TOO_BIG, close code 1009."""
    peer = await lab.member()
    await peer.send("6" + "x" * lab.fixture.max_payload)
    await peer.expect_closed(1009, "message exceeds max_payload_bytes", 2 * lab.patience)


def _add_announced(name: str, head: bytes) -> None:
    @CASES.case(f"websocket/too-big-announced/{name}", "WS-6", "SEC-4")
    async def announced(lab: ServerLab) -> None:
        """It is refused as soon as the header announces it."""
        peer = await lab.member()
        await peer.raw(head)
        await peer.expect_closed(1009, "message exceeds max_payload_bytes", lab.patience)


for _name, _head in {
    "one-above": b"\x81\xff" + (1_000_001).to_bytes(8, "big"),
    "a-terabyte": b"\x82\xff" + (10**12).to_bytes(8, "big"),
    "2-to-62": b"\x81\xff" + (2**62).to_bytes(8, "big"),
}.items():
    _add_announced(_name, _head)


@CASES.case("websocket/too-big-in-fragments", "WS-6")
async def too_big_fragments(lab: ServerLab) -> None:
    """Fragments are counted together."""
    peer = await lab.member()
    half = lab.fixture.max_payload // 2 + 1
    await peer.raw(build(TEXT, b"6" * half, final=False) + build(0, b"6" * half))
    await peer.expect_closed(1009, "message exceeds max_payload_bytes", 2 * lab.patience)


@CASES.case("websocket/too-many-fragments", "WS-6")
async def too_many_fragments(lab: ServerLab) -> None:
    """More than fragments_per_message fragments are TOO_MANY_FRAGMENTS, close code 1008."""
    peer = await lab.member()
    await peer.raw(build(TEXT, b"6", final=False) + build(0, b"", final=False) * 1_024)
    await peer.expect_closed(1008, "too many fragments", 2 * lab.patience)


@CASES.case("websocket/one-packet-a-message", "WS-7")
async def one_packet(lab: ServerLab) -> None:
    """1e separates nothing on WebSocket."""
    peer = await lab.member()
    await peer.send("6\x1e7")
    await peer.echo("unharmed")


@CASES.case("websocket/clean-end", "WS-8", "SIO-REASON-1", needs=["reasons"])
async def clean_end(lab: ServerLab) -> None:
    """An end of the connection between messages is `transport close`."""
    from .polling_faults import expect_reason

    watcher = await lab.member()
    peer = await lab.session()
    socket_id = await peer.join()
    await trio.aclose_forcefully(peer.stream)
    await expect_reason(lab, watcher, socket_id, "transport close")


@CASES.case("websocket/abrupt-end", "WS-8", needs=["reasons"])
async def abrupt_end(lab: ServerLab) -> None:
    """An end inside a message is `transport error`."""
    from .polling_faults import expect_reason

    watcher = await lab.member()
    peer = await lab.session()
    socket_id = await peer.join()
    await peer.raw(build(TEXT, MESSAGE)[:7])
    await trio.sleep(0.02)
    await trio.aclose_forcefully(peer.stream)
    await expect_reason(lab, watcher, socket_id, "transport error")


@CASES.case("websocket/binary-is-message", "EIO-PKT-3", "SIO-BIN-4")
async def binary_is_message(lab: ServerLab) -> None:
    """A binary message is a MESSAGE of just its bytes, in both directions."""
    peer = await lab.member()
    await peer.send('451-["message",{"_placeholder":true,"num":0}]')
    await peer.raw(build(BINARY, b"\x00\x01\x02\xff"))
    event = await peer.event()
    expect_equal((event.name, event.attachments), ("message-back", [b"\x00\x01\x02\xff"]), "echo")


@CASES.case("websocket/base64-in-text", "EIO-PKT-5", "EIO-PKT-4")
async def base64_in_text(lab: ServerLab) -> None:
    """The base64 form is taken in a text message too."""
    peer = await lab.member()
    await peer.send('451-["message",{"_placeholder":true,"num":0}]')
    await peer.send("bAQIDBA==")
    event = await peer.event()
    expect_equal(event.attachments, [b"\x01\x02\x03\x04"], "attachments of the echo")
