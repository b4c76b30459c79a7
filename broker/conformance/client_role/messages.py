"""Situations in the middle: events, acks, attachments, heartbeats, payloads."""

from __future__ import annotations

import json

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import PING, PONG, TEXT, build

from .judging import SITUATIONS
from .lab import ClientLab

HOLDER = '{"_placeholder":true,"num":%d}'


def _add(transport: str) -> None:
    @SITUATIONS.case(f"event/echo/{transport}", "SIO-EVT-1", "SIO-PKT-2", "SIO-PKT-7")
    async def echo(lab: ClientLab) -> None:
        """Events with arguments of all kinds come and go."""
        session = await lab.member()
        await session.echo(1, "2", {"3": [None, True, 4.5]}, "ä€😀")
        await session.echo()

    @SITUATIONS.case(f"event/order/{transport}", "FLOW-2", "EIO-POLL-3")
    async def order(lab: ClientLab) -> None:
        """Events are handled and answered in order."""
        session = await lab.member()
        await session.send(*(f'42["message",{number}]' for number in range(15)))
        await session.send(*(f'42["message",{number}]' for number in range(15, 30)))
        found = [(await session.event()).args[0] for _ in range(30)]
        expect_equal(found, list(range(30)), "order of the echoes")

    @SITUATIONS.case(f"event/white-space/{transport}", "GEN-4", "SIO-PKT-6")
    async def white_space(lab: ClientLab) -> None:
        """White space in JSON is taken, and none is sent."""
        session = await lab.member()
        await session.send('42[ "message" , { "a" : 1 } ]')
        packet = await session.receive()
        expect_equal(packet, '42["message-back",{"a":1}]', "echo")

    @SITUATIONS.case(f"event/nobody-listens/{transport}", "SIO-EVT-4")
    async def nobody(lab: ClientLab) -> None:
        """An event that nobody handles is dropped."""
        session = await lab.member()
        await session.send('42["nobody listens",1]', '421["nobody listens"]')
        await session.echo("unharmed")

    @SITUATIONS.case(f"ack/answer/{transport}", "SIO-ACK-2")
    async def ack(lab: ClientLab) -> None:
        """An event with an id is answered with one ACK of this id."""
        session = await lab.member()
        await session.send('42123["message-with-ack",1,"2"]')
        expect_equal(await session.receive(), '43123[1,"2"]', "ack")
        await session.send('420["message-with-ack"]')
        expect_equal(await session.receive(), "430[]", "ack without arguments")

    @SITUATIONS.case(f"ack/unknown/{transport}", "SIO-ACK-3")
    async def unknown(lab: ClientLab) -> None:
        """An ACK that nobody awaits is ignored."""
        session = await lab.member()
        await session.send("4399[1]")
        await session.echo("unharmed")

    @SITUATIONS.case(f"ack/client-asks/{transport}", "SIO-ACK-1")
    async def asks(lab: ClientLab) -> None:
        """The client asks with ids that differ, and takes the answers in any order."""
        session = await lab.member()
        await session.send('42["ask","a"]', '42["ask","b"]')
        first, second = await session.event(), await session.event()
        expect_equal((first.name, second.name), ("question", "question"), "events")
        expect(first.ack is not None and first.ack != second.ack, "ids that do not differ")
        await session.send(f'43{second.ack}["second"]', f'43{first.ack}["first"]')
        # A client with a task for each answer may pass them on in another order.
        found = sorted([(await session.event()).args for _ in range(2)])
        expect_equal(found, [["first"], ["second"]], "answers that the client got")

    @SITUATIONS.case(f"ack/twice/{transport}", "SIO-ACK-3")
    async def twice(lab: ClientLab) -> None:
        """A second ACK of the same id is ignored."""
        session = await lab.member()
        await session.send('42["ask"]')
        question = await session.event()
        await session.send(f"43{question.ack}[1]", f"43{question.ack}[2]")
        expect_equal((await session.event()).args, [1], "answer that the client got")
        await session.echo("unharmed")

    @SITUATIONS.case(
        f"binary/echo/{transport}", "SIO-BIN-1", "SIO-BIN-2", "EIO-PKT-3", "EIO-PKT-4", "SIO-BIN-8"
    )
    async def binary(lab: ClientLab) -> None:
        """Bytes go as attachments, numbered from 0, base64 padded on polling."""
        session = await lab.member()
        await session.send(f'452-["message",{HOLDER % 0},{{"a":{HOLDER % 1}}}]', b"\x01\x02\x03\x04", b"\x05")
        event = await session.event()
        expect_equal((event.kind, event.count), (5, 2), "type and number of attachments")
        expect_equal(
            event.args,
            [{"_placeholder": True, "num": 0}, {"a": {"_placeholder": True, "num": 1}}],
            "arguments",
        )
        expect_equal(event.attachments, [b"\x01\x02\x03\x04", b"\x05"], "attachments")

    @SITUATIONS.case(f"binary/ack/{transport}", "SIO-BIN-1", "SIO-ACK-2")
    async def binary_ack(lab: ClientLab) -> None:
        """An ack with bytes is a binary ack."""
        session = await lab.member()
        await session.send(f'451-7["message-with-ack",{HOLDER % 0}]', b"\xff")
        event = await session.event()
        expect_equal((event.kind, event.ack, event.attachments), (6, 7, [b"\xff"]), "ack")

    @SITUATIONS.case(f"binary/indices/{transport}", "SIO-BIN-3", "SIO-BIN-4")
    async def indices(lab: ClientLab) -> None:
        """A receiver goes by the indices."""
        session = await lab.member()
        await session.send(f'452-["message",{HOLDER % 1},{HOLDER % 0}]', b"zero", b"one")
        event = await session.event()
        at = [argument["num"] for argument in event.args]
        expect_equal([event.attachments[number] for number in at], [b"one", b"zero"], "arguments of the echo")

    @SITUATIONS.case(f"heartbeat/pong/{transport}", "EIO-HB-2")
    async def pong(lab: ClientLab) -> None:
        """`2` is answered with `3` without delay."""
        session = await lab.member()
        for number in range(1, 4):
            await session.send("2")
            start = trio.current_time()
            while session.pongs < number:
                expect(trio.current_time() - start < 0.5, "no PONG within 500 ms")
                await trio.sleep(0.01)

    @SITUATIONS.case(f"packet/noop/{transport}", "EIO-PKT-6")
    async def noop(lab: ClientLab) -> None:
        """NOOP is ignored."""
        session = await lab.member()
        await session.send("6")
        await trio.sleep(0.05)
        await session.echo("unharmed")


for _transport in ("polling", "websocket", "upgrade"):
    _add(_transport)


@SITUATIONS.case("polling/next-get/polling", "EIO-POLL-6", "EIO-POLL-1")
async def next_get(lab: ClientLab) -> None:
    """The next GET comes as soon as the last one is answered, and never beside another."""
    session = await lab.member()
    for number in range(5):
        before = len(session.gets)
        await session.send(f'42["message",{number}]')
        await session.event()
        start = trio.current_time()
        while len(session.gets) == before:
            expect(trio.current_time() - start < 0.5, "no GET within 500 ms after the answer")
            await trio.sleep(0.01)
    session.check()


@SITUATIONS.case("polling/content-type/polling", "EIO-POLL-9")
async def content_type(lab: ClientLab) -> None:
    """A POST is text/plain;charset=UTF-8."""
    session = await lab.member()
    await session.echo("x")
    found = session.posts[-1][0].get("content-type", "").replace(" ", "").lower()
    expect_equal(found, "text/plain;charset=utf-8", "Content-Type of the POST")


@SITUATIONS.case("polling/max-payload/polling", "EIO-POLL-16", "EIO-PKT-8")
async def max_payload(lab: ClientLab) -> None:
    """No body is longer than maxPayload."""
    session = await lab.session(maxPayload=100)
    await session.join()
    text = "x" * 30
    await session.send(*(f'42["message",{number},"{text}"]' for number in range(8)))
    found = [(await session.event()).args[0] for _ in range(8)]
    expect_equal(found, list(range(8)), "order of the echoes")
    longest = max(len(body) for _, body in session.posts)
    expect(longest <= 100, f"a body of {longest} bytes, with maxPayload 100")


@SITUATIONS.case("polling/batching/polling", "EIO-POLL-16")
async def batching(lab: ClientLab) -> None:
    """What gathers while a POST is under way goes into one payload."""
    session = await lab.member()
    before = len(session.posts)
    await session.send(*(f'42["message",{number}]' for number in range(15)))
    for _ in range(15):
        await session.event()
    posts = len(session.posts) - before
    expect(posts < 15, f"{posts} POST requests for 15 packets")


@SITUATIONS.case("websocket/ping-frame/websocket", "WS-4")
async def ping_frame(lab: ClientLab) -> None:
    """A ping frame is answered with a pong frame of the same payload."""
    session = await lab.member()
    await session.raw(build(PING, b"hello", mask=None))
    await session.echo("x")
    expect((PONG, b"hello") in session.control, f"control frames: {session.control}")


@SITUATIONS.case("websocket/fragments/websocket", "WS-3")
async def fragments(lab: ClientLab) -> None:
    """Messages in fragments are taken."""
    session = await lab.member()
    text = json.dumps(["message", "whole"]).encode()
    await session.raw(
        build(TEXT, b"42" + text[:5], final=False, mask=None)
        + build(PING, b"", mask=None)
        + build(0, text[5:], mask=None)
    )
    expect_equal((await session.event()).args, ["whole"], "echo")


@SITUATIONS.case("websocket/base64/websocket", "EIO-PKT-5")
async def base64_text(lab: ClientLab) -> None:
    """The base64 form is taken in a text message."""
    session = await lab.member()
    await session.send(f'451-["message",{HOLDER % 0}]', "bAQIDBA==")
    expect_equal((await session.event()).attachments, [b"\x01\x02\x03\x04"], "attachments of the echo")


@SITUATIONS.case("websocket/masked/websocket", "WS-3")
async def masked(lab: ClientLab) -> None:
    """Frames of the client are masked."""
    session = await lab.member()
    await session.echo("x" * 200)
    session.check()
