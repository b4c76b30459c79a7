"""The client fixture of the conformance kit with python-socketio: python_socketio.py URL TRANSPORTS."""

import asyncio
import sys

import socketio


async def main(url: str, transports: list[str]) -> None:
    client = socketio.AsyncClient()

    @client.on("message")
    async def message(*args):
        await client.emit("message-back", args)

    @client.on("message-with-ack")
    async def message_with_ack(*args):
        return args

    @client.on("ask")
    async def ask(*args):
        async def answered(*answer):
            await client.emit("answer", answer)

        await client.emit("question", args, callback=answered)

    @client.on("leave")
    async def leave():
        await client.disconnect()

    try:
        await client.connect(url, transports=transports, auth={"token": "123"}, retry=True, wait=False)
    except socketio.exceptions.ConnectionError:
        pass
    await asyncio.sleep(60)


asyncio.run(main(sys.argv[1], sys.argv[2].split(",")))
