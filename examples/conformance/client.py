"""A client to be judged by the conformance kit, here that of python-socketio.

pip install "python-socketio[asyncio_client]"
The kit starts `python client.py URL TRANSPORTS` again and again.
Put your own implementation in the place of python-socketio; what the kit asks for is marked by numbers.
"""

import asyncio
import sys

import socketio

client = socketio.AsyncClient()  # 1. reconnection as it comes: the kit judges its delays, too


@client.on("message")
async def message(*args):
    # 2. An echo under another name.
    await client.emit("message-back", args)


@client.on("message-with-ack")
async def message_with_ack(*args):
    # 3. An echo in the acknowledgement.
    return args


@client.on("ask")
async def ask(*args):
    # 4. Asked to ask: what the acknowledgement brings goes back as an event.
    async def answered(*answer):
        await client.emit("answer", answer)

    await client.emit("question", args, callback=answered)


@client.on("leave")
async def leave():
    # 5. Told to go: it says goodbye, and does not come back.
    await client.disconnect()


async def main(url, transports):
    try:
        # 6. The token shows that the auth object gets to the server.
        await client.connect(url, transports=transports, auth={"token": "123"}, retry=True, wait=False)
    except socketio.exceptions.ConnectionError:
        pass  # refused for good, which some situations do
    await asyncio.sleep(60)  # the kit ends the program sooner


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2].split(",")))
