"""What the client does with each of the three servers, by each transport."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from broker import ConnectError, open_client
from tests.client.servers import DEADLINE, EACH_SERVER

TRANSPORTS = [
    pytest.param(("websocket",), id="websocket"),
    pytest.param(("polling",), id="polling"),
    pytest.param(("polling", "websocket"), id="upgrade"),
]
BYTES = bytes(range(256))


@pytest.mark.parametrize("serve", EACH_SERVER)
@pytest.mark.parametrize("transports", TRANSPORTS)
@pytest.mark.parametrize("parser", ["json", "msgpack"])
async def test_a_whole_conversation(serve, transports, parser):
    if parser == "msgpack":
        pytest.importorskip("msgpack", reason="msgpack is not installed")
    upgraded = trio.Event()
    questions: list[Any] = []
    token: dict[str, str] = {}

    async def auth() -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return token

    with trio.fail_after(DEADLINE):
        async with (
            serve(**({} if parser == "json" else {"parser": parser})) as url,
            open_client(url, transports=transports, auth=auth, namespaces=("/",), parser=parser) as client,
        ):
            client.io.on("upgrade")(upgraded.set)

            @client.on("question")
            async def question(value: Any) -> Any:
                questions.append(value)
                return value, "and more"

            await client.wait_connected()
            assert client.id
            assert not client.recovered
            assert client.transport in transports
            if len(transports) == 2:
                await upgraded.wait()
                assert client.transport == "websocket"
            # Acks: one value, several, none; text of all kinds, and bytes at any depth.
            assert await client.call("echo", "grüße 🐌\u2028", timeout=5) == "grüße 🐌\u2028"
            assert await client.call("echo", 1, [2, {"three": BYTES}], b"") == (1, [2, {"three": BYTES}], b"")
            assert await client.call("echo") in (None, ())
            client.emit("ask", {"n": BYTES})
            client.emit("say", 1, "two", BYTES)
            names = []
            async for event in client:
                names.append((event.name, event.args))
                if len(names) == 2:
                    break
            assert sorted(names) == [
                ("answered", ({"n": BYTES}, "and more")),
                ("said", (1, "two", BYTES)),
            ]
            assert questions == [{"n": BYTES}]
            # A refusal carries data, and is not tried again; asked for, it may succeed.
            chat = client.of("/chat")
            with pytest.raises(ConnectError, match="invalid token") as refused:
                await chat.wait_connected()
            assert (refused.value.retryable, refused.value.namespace) == (False, "/chat")
            assert refused.value.data in ({"retry": False}, None)
            assert not chat.active
            assert client.connected
            token["token"] = "s3cret"
            chat.connect()
            await chat.wait_connected()
            assert chat.id != client.id
            assert await chat.call("echo", b"x") == b"x"
            # The server ends one namespace; the other goes on.
            chat.emit("leave")
            with pytest.raises(StopAsyncIteration):
                await anext(aiter(chat))
            assert await client.call("echo", 5) == 5


@pytest.mark.parametrize("serve", EACH_SERVER)
async def test_many_events_in_order_by_polling_in_batches_that_the_server_takes(serve):
    with trio.fail_after(DEADLINE):
        async with serve() as url, open_client(url, transports=("polling",)) as client:
            for number in range(300):
                client.emit("say", number, "x" * 50)
            received = []
            async for event in client:
                received.append(event.args[0])
                if len(received) == 300:
                    break
            assert received == list(range(300))
