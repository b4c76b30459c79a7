"""Run the chat inside a Trio program of your own, next to its other tasks.

Start it with ``python examples/chat/embed.py`` and open the address that it prints.
"""

from functools import partial

import trio

from broker import Broker
from broker.demo import announce, app, create_broker


async def remind(broker: Broker) -> None:
    """Stand in for your own work: any task of the program may emit."""
    while True:
        await trio.sleep(1800)
        announce(broker, "Half an hour has passed. Stretch a little.")


async def main() -> None:
    broker = create_broker()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(broker.serve, app=app), "127.0.0.1", 3000)
        nursery.start_soon(remind, broker)
        print(f"The chat is at {server.url}")  # noqa: T201 - a program says where it is


if __name__ == "__main__":
    trio.run(main)
