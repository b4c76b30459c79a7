"""The client with MessagePack in place of JSON: its packets, its bounds, and who speaks the other one."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from broker import AckTimeout, Backoff, BufferFull, ClientReason, Disconnected, Verdict, open_client
from tests.client.fake import Talk, scripted
from tests.client.servers import needs_node, node_server, our_server
from tests.client.test_terminal import connect

msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed")

WEBSOCKET = ("websocket",)
BOTH = [pytest.param(our_server, id="ours"), pytest.param(node_server, id="node", marks=needs_node)]

pytestmark = pytest.mark.usefixtures("within_the_deadline")


async def enter(talk: Talk) -> Any:
    """Open the session and let the client into `/`; return what its CONNECT said."""
    await talk.open()
    said = msgpack.unpackb(await talk.hear())
    await talk.say(msgpack.packb({"type": 0, "data": {"sid": "SOCKET"}, "nsp": "/"}))
    return said


@pytest.mark.clause("SIO-PARSER-2")
async def test_every_packet_is_one_binary_message_and_a_retried_one_is_what_it_was():
    heard: list[Any] = []

    async def script(talk: Talk) -> None:
        heard.append(await enter(talk))
        heard.append(msgpack.unpackb(await talk.hear()))
        await talk.say(msgpack.packb({"type": 2, "data": ["question", b"?"], "nsp": "/", "id": 300}))
        while (said := msgpack.unpackb(await talk.hear()))["type"] == 2:
            heard.append(said)
            await talk.say(msgpack.packb({"type": 3, "data": [b"\x00"], "nsp": "/", "id": said["id"]}))
        heard.append(said)

    async with (
        scripted(script) as url,
        open_client(
            url, transports=WEBSOCKET, parser="msgpack", auth={"a": b"1"}, retries=1_000, ack_timeout=0.05
        ) as client,
    ):
        payload = [b"x"]
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert await client.call("lost", payload) == b"\x00"

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            payload.append(b"y")
        question = await anext(aiter(client))
        await question.ack("answer", b"!")
        await client.flush()
    entered, *tries, answer = heard
    assert entered == {"type": 0, "data": {"a": b"1"}, "nsp": "/"}
    assert len(tries) >= 2
    event = {"type": 2, "data": ["lost", [b"x"]], "nsp": "/"}
    assert tries == [{**event, "id": number} for number in range(len(tries))]
    assert answer == {"type": 3, "data": ["answer", b"!"], "nsp": "/", "id": 300}


@pytest.mark.clause("SIO-PARSER-3")
@pytest.mark.parametrize("serve", BOTH)
async def test_values_that_json_does_not_have(serve):
    async with serve(parser="msgpack") as url, open_client(url, parser="msgpack") as client:
        moment = datetime(2024, 2, 29, 12, 30, 15, 250_000, UTC)
        assert await client.call("echo", moment, -math.inf, timeout=5) == (moment, -math.inf)
        with pytest.raises(TypeError, match="no MessagePack form"):
            client.emit("say", object())


@pytest.mark.parametrize(
    ("policy", "kept"), [("raise", [0, 1]), ("drop_newest", [0, 1]), ("drop_oldest", [1, 2])]
)
async def test_what_waits_is_bounded(policy, kept):
    begin = trio.Event()
    heard: list[Any] = []

    async def script(talk: Talk) -> None:
        await begin.wait()
        await enter(talk)
        heard.extend([msgpack.unpackb(await talk.hear())["data"][1] for _ in range(2)])

    options = {"parser": "msgpack", "offline_limit": 2, "offline_policy": policy}
    async with scripted(script) as url, open_client(url, transports=WEBSOCKET, **options) as client:
        assert [client.emit("say", number) for number in range(2)] == [Verdict.QUEUED] * 2
        if policy == "raise":
            with pytest.raises(BufferFull):
                client.emit("say", 2)
        else:
            client.emit("say", 2)
        assert client.dropped == (policy != "raise")
        begin.set()
        await client.flush()
    assert heard == kept


@pytest.mark.parametrize("serve", BOTH)
@pytest.mark.parametrize(("ours", "theirs"), [("json", "msgpack"), ("msgpack", None)])
async def test_a_server_with_the_other_parser_is_never_entered(serve, ours, theirs):
    closed: list[ClientReason] = []
    changed = trio.Event()

    async with (
        serve(**({} if theirs is None else {"parser": theirs})) as url,
        open_client(url, transports=WEBSOCKET, parser=ours, reconnect=Backoff(initial=0.01)) as client,
    ):

        @client.io.on("close")
        def close(reason: ClientReason) -> None:
            closed.append(reason)
            changed.set()

        await changed.wait()
        assert not client.connected
        with pytest.raises(AckTimeout):
            await client.call("echo", 1, timeout=0.05)
    assert closed[0] in (ClientReason.TRANSPORT_CLOSE, ClientReason.PARSE_ERROR)


async def test_text_from_a_server_is_no_packet():
    async def script(talk: Talk) -> None:
        await enter(talk)
        await talk.say('42["said"]')

    async with (
        scripted(script) as url,
        open_client(url, transports=WEBSOCKET, parser="msgpack", reconnect=None) as client,
    ):
        assert [event async for event in client] == []
        with pytest.raises(Disconnected, match="parse error"):
            await client.wait_connected()


@pytest.mark.parametrize("serve", BOTH)
async def test_in_the_terminal(serve):
    async with serve(parser="msgpack") as url:
        options = ("--parser", "msgpack", "--call", "echo", '{"a": 1}', "null")
        code, out, err = await connect(url, *options)
    assert (code, err, '{"a": 1}  null' in out) == (0, "", True)
