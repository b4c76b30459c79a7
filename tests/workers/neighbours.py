"""Brokers of one process that are workers of one server: each hears what is meant for another."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import frozen

from broker import Broker, Limits
from broker.server.neighbours import Neighbours
from broker.testing.harness import plain_errors
from protocol.engineio.owner import Owner
from tests.broker.carriers import tls_contexts
from tests.peers import DEADLINE, Door, quick_broker


@frozen
class Worker:
    """One of them, and the way in to it alone."""

    broker: Broker
    door: Door


@asynccontextmanager
async def workers(
    count: int = 2, *, tls: bool = False, node: int = 0, **options: Any
) -> AsyncIterator[list[Worker]]:
    """Serve so many workers, each at a port of its own so that a test can choose who accepts."""
    server_context, client_context = tls_contexts() if tls else (None, None)
    served: list[Worker] = []
    tasks = trio.lowlevel.current_statistics().tasks_living
    with plain_errors(), TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                broker = quick_broker(**options)
                place, limits = Owner(node, number), broker.settings.limits
                broker.settle_beside(Neighbours(place, Path(folder), limits, count=count))
                serve = partial(broker.serve, "127.0.0.1", 0, ssl_context=server_context)
                server = await nursery.start(serve)
                served.append(Worker(broker, Door(server.port, ssl_context=client_context)))
            yield served
            nursery.cancel_scope.cancel()
    with trio.fail_after(DEADLINE):
        while trio.lowlevel.current_statistics().tasks_living > tasks:  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.001)
    assert all(worker.broker.statistics().sessions == 0 for worker in served)


@asynccontextmanager
async def nodes(**options: Any) -> AsyncIterator[list[Worker]]:
    """Serve two nodes that know each other, and a third one that knows nobody."""
    limits = Limits()
    with plain_errors(), socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
        async with trio.open_nursery() as nursery:
            brokers = [quick_broker(**options) for _ in range(3)]
            brokers[0].settle_beside(Neighbours(Owner(0, 0), None, limits, {1: ("127.0.0.1", port)}))
            first = await nursery.start(brokers[0].serve, "127.0.0.1", 0)
            peers = {0: ("127.0.0.1", first.port)}
            brokers[1].settle_beside(Neighbours(Owner(1, 0), None, limits, peers))
            second = await nursery.start(partial(brokers[1].serve, None, bind=[f"fd:{reserved.detach()}"]))
            brokers[2].settle_beside(Neighbours(Owner(2, 0), None, limits))
            third = await nursery.start(brokers[2].serve, "127.0.0.1", 0)
            served = (first, second, third)
            yield [Worker(one, Door(at.port)) for one, at in zip(brokers, served, strict=True)]
            nursery.cancel_scope.cancel()
    assert all(one.statistics().sessions == 0 for one in brokers)
