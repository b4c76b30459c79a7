"""The retries queue through a server restart under load: everything at least once, nothing out of order."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import trio

from broker import Backoff, open_client
from tests.client.servers import DEADLINE, EACH_SERVER

EVENTS = 400
QUICK = Backoff(initial=0.02, maximum=0.1)


@pytest.mark.parametrize("serve", EACH_SERVER)
@pytest.mark.parametrize(
    "transports", [("websocket",), ("polling", "websocket")], ids=["websocket", "upgrade"]
)
async def test_every_retried_event_is_acknowledged_and_none_is_out_of_order(serve, transports, tmp_path):
    record = tmp_path / "record"
    record.touch()
    acked: list[int] = []
    reasons: list[str] = []
    crowd = trio.Event()
    load = trio.Event()
    done = trio.Event()

    async def one(client, number: int) -> None:
        acked.append(await client.call("record", number))
        if len(acked) == EVENTS // 4:
            load.set()
        if len(acked) == EVENTS:
            done.set()

    async def send(url: str) -> None:
        async with open_client(
            url, transports=transports, retries=20, ack_timeout=1.0, reconnect=QUICK, offline_limit=EVENTS
        ) as client:
            client.on("disconnect")(reasons.append)
            async with trio.open_nursery() as calls:
                # Each call is in the queue before the next begins: tasks of trio start in any order.
                for number in range(EVENTS):
                    await calls.start(begin, client, number)
                crowd.set()

    async def begin(client, number: int, task_status) -> None:
        task_status.started()
        await one(client, number)

    with trio.fail_after(3 * DEADLINE):
        async with trio.open_nursery() as nursery:
            async with serve(record=record) as url:
                port = urlsplit(url).port
                nursery.start_soon(send, url)  # noqa: ASYNC111 - the client is to outlive the server
                await crowd.wait()
                await load.wait()
            before = len(acked)
            async with serve(port=port, record=record):
                await done.wait()
                assert before < EVENTS, "the restart came too late to mean anything"
    assert acked == list(range(EVENTS))
    assert reasons
    assert reasons[0] in ("transport close", "transport error")
    handled = [int(line) for line in record.read_text().split()]
    assert set(handled) == set(range(EVENTS))
    assert handled == sorted(handled), "a repeated event came after a later one"
