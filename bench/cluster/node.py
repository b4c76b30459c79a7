"""A node of a cluster as it is measured: publishes numbers and tells what it knows at the word of a pipe.

`python -m bench.cluster.node '{"url": "redis://...", "mode": "streams"}'` prints its port, reads commands
from its standard input and prints an answer to each, both as JSON, a line each. It ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import trio

from bench.commands import answer, each_command
from broker import Broker, Gap, Recovery, RedisAdapter, Socket

FOLLOWERS = "followers"


class Node:
    """The broker and what is noted of it.

    Attributes:
        published: When each number was published, on the clock that all processes share; the first is 1.
        unpublished: The numbers of which `emit` said that the other nodes do not get them.
        gaps: What `on_gap` was told: begin, end, and the gap.
    """

    def __init__(self, url: str, mode: Any, key: str, *, recovery: bool = False, **options: Any) -> None:
        adapter = RedisAdapter(url, mode=mode, key=key, stream=key, **options)
        kept = Recovery() if recovery else None
        self.broker = Broker(adapter=adapter, recovery=kept, transports=["websocket"])
        self.published: list[float] = []
        self.unpublished: list[int] = []
        self.gaps: list[tuple[float, float, Gap]] = []
        self._publishing = trio.CancelScope()
        self.broker.on_gap(self._note)
        self.broker.on("connect")(self.on_connect)
        self.broker.on("pub")(self.on_pub)

    def _note(self, gap: Gap) -> None:
        now = time.monotonic()
        self.gaps.append((now - gap.seconds, now, gap))

    def on_connect(self, socket: Socket) -> None:
        """Make a follower of each client that asks for it in its address."""
        if "follow" in socket.handshake.query:
            socket.join(FOLLOWERS)

    def on_pub(self, socket: Socket, text: str) -> None:
        """Tell the followers, wherever they are."""
        self.broker.to(FOLLOWERS).emit("n", text)

    async def publish(self, rate: float) -> None:
        """Send numbers to everybody, each at the time it is due, until stopped."""
        self._publishing = trio.CancelScope()
        begun = time.monotonic() - len(self.published) / rate
        with self._publishing:
            while True:
                await trio.sleep(max(0.0, begun + len(self.published) / rate - time.monotonic()))
                self.published.append(time.monotonic())
                number = len(self.published)
                if self.broker.emit("n", number).unpublished:
                    self.unpublished.append(number)

    # Commands

    def stop(self) -> dict[str, Any]:
        """Publish no more; tell what was published."""
        self._publishing.cancel()
        return {"published": self.published, "unpublished": self.unpublished}

    def state(self) -> dict[str, Any]:
        """Tell of the clients, the gaps and what came to no good end."""
        statistics = self.broker.statistics()
        gaps = [
            {
                "begin": begin,
                "end": end,
                "unconfirmed": gap.unconfirmed,
                "lost": gap.lost,
                "replayed": gap.replayed,
            }
            for begin, end, gap in self.gaps
        ]
        return {
            "sessions": statistics.sessions,
            "disconnects": dict(statistics.disconnects),
            "events": dict(statistics.events),
            "published": len(self.published),
            "gaps": gaps,
        }


async def main(options: dict[str, Any]) -> None:
    """Serve until the input ends."""
    node = Node(**options)
    commands: dict[str, Callable[[], dict[str, Any]]] = {"stop": node.stop, "state": node.state}
    async with trio.open_nursery() as nursery:
        server = await nursery.start(node.broker.serve, "127.0.0.1", 0)
        answer({"port": server.port})

        async def obey(command: dict[str, Any]) -> dict[str, Any]:
            if command["do"] != "publish":
                return commands[command["do"]]()
            nursery.start_soon(node.publish, command["rate"])
            return {}

        await each_command(obey)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
