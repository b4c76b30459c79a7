"""The client fixture of the conformance kit with this project's client: ours.py URL TRANSPORTS."""

import sys
from typing import Any

import trio

from broker import open_client


async def main(url: str, transports: str) -> None:
    options = {"transports": transports.split(","), "auth": {"token": "123"}, "on_handler_error": "log"}
    async with open_client(url, **options) as client, trio.open_nursery() as nursery:

        @client.on("message")
        def message(*args: Any) -> None:
            client.emit("message-back", *args)

        @client.on("message-with-ack")
        def message_with_ack(*args: Any) -> tuple[Any, ...]:
            return args

        async def question(*args: Any) -> None:
            answer = await client.call("question", *args)
            client.emit("answer", *(answer if isinstance(answer, tuple) else [answer]))

        @client.on("ask")
        def ask(*args: Any) -> None:
            nursery.start_soon(question, *args)

        @client.on("leave")
        def leave() -> None:
            client.disconnect()

        await trio.sleep(60)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
