"""The Trio client and a broker that recovers: what comes back over a connection that breaks."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from broker import Backoff, Broker, Recovery, Socket, open_client
from broker.testing import Harness, open_harness
from tests.client.fake import Talk, scripted


def recovering(**options: Any) -> Broker:
    broker = Broker(recovery=Recovery(**options))

    @broker.on("join")
    def join(socket: Socket, room: str) -> None:
        socket.join(room)

    return broker


async def lose(harness: Harness, client: Any) -> None:
    client.wire.refuse()
    client.wire.cut()
    await harness.settled()


@pytest.mark.parametrize("transport", ["websocket", "polling", "upgrade"])
async def test_the_client_comes_back_to_its_socket(autojump_clock: Any, transport: Any) -> None:
    broker = recovering()
    async with open_harness(broker) as harness:
        client = await harness.connect(transport=transport)
        known = client.id
        await client.acked("join", "r")
        if transport == "websocket":
            broker.emit("news", 0, "text")
            assert (await client.received("news", 0, "text")).args == (0, "text"), "the offset is no argument"
            broker.volatile.emit("typing", "a text")
            await client.received("typing", "a text")
        await lose(harness, client)
        for number in range(1, 4):
            broker.to("r").emit("news", number, b"\x00")
            broker.to("s").emit("news", "not for it")
        client.wire.heal()
        for number in range(1, 4):
            await client.received("news", number, b"\x00")
        assert client.client.recovered
        assert client.id == known
        assert client.client.recovery_refused is None
        broker.to("r").emit("news", 4)
        await client.received("news", 4)
        await client.no_more_events()


async def test_the_client_is_told_why_it_was_not(autojump_clock: Any) -> None:
    broker = recovering(window=1)
    async with open_harness(broker) as harness:
        client = await harness.connect()
        known = client.id
        await lose(harness, client)
        broker.emit("news", "never seen")
        await trio.sleep(2)
        client.wire.heal()
        await client.reconnected()
        assert (client.client.recovered, client.client.recovery_refused) == (False, "expired")
        assert client.id != known
        await client.no_more_events()


async def test_words_that_nobody_knows_do_no_harm() -> None:
    heard, done = trio.Event(), trio.Event()

    async def first(talk: Talk) -> None:
        await talk.enter("A", pid="P")
        await talk.close()

    async def second(talk: Talk) -> None:
        await talk.open()
        await talk.hear()
        await talk.say('40{"sid":"B","pid":"Q","recovery":"because"}')
        await heard.wait()
        await talk.close()

    async def third(talk: Talk) -> None:
        await talk.open()
        await talk.hear()
        await talk.say('40{"sid":"C","pid":"R","recovery":{"not":"a word"}}')
        await talk.hear()

    async with (
        scripted(first, second, third) as url,
        open_client(url, transports=("websocket",), reconnect=Backoff(initial=0.001, maximum=0.01)) as client,
    ):
        told: list[Any] = []

        @client.on("connect")
        def connect() -> None:
            told.append((client.id, client.recovered, client.recovery_refused))
            if client.id == "B":
                heard.set()
            if client.id == "C":
                client.emit("done")
                done.set()

        with trio.fail_after(5):
            await done.wait()
    assert told == [("A", False, None), ("B", False, "because"), ("C", False, None)]
