"""The chat of the tutorials made real: a broker, its page, and one call that serves both."""

from __future__ import annotations

import trio

from broker import Broker
from broker.demo.chat import announce, create_broker
from broker.demo.web import app

__all__ = ["announce", "app", "create_broker", "serve_demo"]


async def serve_demo(  # noqa: ASYNC128 - serve calls started
    host: str,
    port: int,
    *,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the chat and its page until cancelled.

    Start it with ``server = await nursery.start(serve_demo, "127.0.0.1", 3000)`` and open
    ``server.url``. Cancelling it disconnects everyone; rooms and history are gone with it.

    Args:
        host: Address to listen on.
        port: TCP port; 0 picks a free one, ``server.port`` tells which.
        task_status: Receives the running server, as from `Broker.serve`.
    """
    broker: Broker = create_broker()
    await broker.serve(host, port, app=app, task_status=task_status)
