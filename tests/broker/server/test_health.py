"""What load balancers are told: alive, ready, or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker
from tests.peers import Response, client, http, quick_broker, settled

Serve = Callable[..., Any]


async def ask(server: Any, name: str = "readyz", method: str = "GET") -> Response:
    response = await http(server, method, f"/socket.io/{name}")
    assert response.header("cache-control") == "no-store"
    assert response.header("content-type") == "application/json"
    return response


async def test_alive_and_ready(serve: Serve) -> None:
    async with serve(quick_broker()) as server:
        alive, ready = await ask(server, "healthz"), await ask(server)
        assert (alive.status, alive.json) == (200, {"status": "alive"})
        assert (ready.status, ready.json) == (200, {"status": "ready"})
        assert (await ask(server, method="HEAD")).status == 200
        refused = await ask(server, method="POST")
        assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")
        assert (await http(server, "GET", "/readyz")).status == 404


async def test_it_stands_below_the_path_of_the_broker(virtual_serve: Serve) -> None:
    async with virtual_serve(quick_broker(path="/live")) as server:
        assert (await http(server, "GET", "/live/readyz")).status == 200


async def test_an_application_without_an_open_broker_is_not_ready() -> None:
    broker = Broker()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/socket.io/readyz", "query_string": b"", "headers": []}
    await broker.asgi()(scope, receive, send)
    assert sent[0]["status"] == 503
    assert b'"reason":"not running"' in sent[1]["body"]


async def test_checks_say_why_it_is_not_ready(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    broker = quick_broker()
    answers: dict[str, Any] = {"database": True, "bus": None}

    @broker.readiness.check("database")
    async def database() -> Any:
        await trio.lowlevel.checkpoint()
        return answers["database"]

    @broker.readiness.check("bus")
    def bus() -> Any:
        if isinstance(answers["bus"], Exception):
            raise answers["bus"]
        return answers["bus"]

    @broker.readiness.check("never", timeout=0.01)
    async def never() -> None:
        if answers.get("stuck"):
            await trio.sleep_forever()

    async def look() -> Any:
        broker.readiness._looked_at = -1_000.0  # as if time had passed
        return (await ask(server)).json

    async with serve(broker) as server:
        assert await look() == {"status": "ready"}
        answers["database"] = False
        assert await look() == {
            "status": "not ready",
            "reason": "not ready",
            "checks": {"database": "not ready"},
        }
        answers["database"] = "no connection"
        assert (await look())["checks"] == {"database": "no connection"}
        answers["bus"] = RuntimeError("secret")
        answers["database"] = True
        assert (await look())["checks"] == {"bus": "failed"}
        answers["bus"] = None
        answers["stuck"] = True
        assert (await look())["checks"] == {"never": "no answer within 0.01 s"}
        broker.readiness.remove("never")
        assert await look() == {"status": "ready"}


async def test_an_answer_is_shared_for_a_second(virtual_serve: Serve) -> None:
    broker = quick_broker()
    looks: list[float] = []

    @broker.readiness.check("slow")
    async def slow() -> None:
        looks.append(trio.current_time())
        await trio.sleep(0.5)

    async with virtual_serve(broker) as server, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask, server)
        await trio.sleep(0.6)
        assert len(looks) == 1
        await ask(server)
        assert len(looks) == 1
        await trio.sleep(1)
        await ask(server)
        assert len(looks) == 2


async def test_a_cancelled_look_leaves_nobody_waiting(virtual_serve: Serve) -> None:
    broker = quick_broker()
    looks: list[float] = []

    @broker.readiness.check("slow")
    async def slow() -> None:
        looks.append(trio.current_time())
        await trio.sleep(1)

    async with virtual_serve(broker), trio.open_nursery() as outer:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(broker.readiness.problems)
            await settled()
            outer.start_soon(broker.readiness.problems)  # waits for the answer of the other
            await settled()
            impatient.cancel_scope.cancel()
    assert len(looks) == 2


async def test_draining_makes_it_unready_before_anything_else(virtual_serve: Serve) -> None:
    broker = quick_broker(readiness_delay=3.0, ping_interval=25.0, ping_timeout=20.0)
    async with virtual_serve(broker) as server, client(server) as old, trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(broker.drain, 20.0)
        await settled()
        response = await ask(server)
        assert (response.status, response.header("retry-after")) == (503, "5")
        assert response.json == {
            "status": "not ready",
            "reason": "draining",
            "checks": {"broker": "draining"},
        }
        assert (await ask(server, "healthz")).status == 200
        async with client(server) as late:  # load balancers have not noticed yet
            await late.emit("echo", 1)
            await late.expect('42["echo",1]')
            assert (await old.expect_close()).code == 1001
            assert trio.current_time() - began >= 3.0
            assert (await late.expect_close()).code == 1001
        refused = await http(server, "GET", "/socket.io/?EIO=4&transport=polling")
        assert (refused.status, refused.header("retry-after")) == (503, "5")


async def test_draining_that_begins_during_a_look_wins(virtual_serve: Serve) -> None:
    broker = quick_broker()

    @broker.readiness.check("slow")
    async def slow() -> None:
        await trio.sleep(0.5)

    async with virtual_serve(broker), trio.open_nursery() as nursery:
        answers: list[dict[str, str]] = []

        async def look() -> None:
            answers.append(await broker.readiness.problems())

        nursery.start_soon(look)
        await settled()
        nursery.start_soon(broker.drain, 1.0)
        await trio.sleep(1)
        assert answers == [{"broker": "draining"}]


async def test_a_broker_that_opens_again_is_ready_again(virtual_serve: Serve) -> None:
    broker = quick_broker()
    async with virtual_serve(broker):
        await broker.drain(1.0)
        assert await broker.readiness.problems() == {"broker": "draining"}
    async with virtual_serve(broker) as server:
        assert (await ask(server)).status == 200
        async with client(server):
            pass
