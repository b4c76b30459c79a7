"""Lifespans: the broker under an ASGI server, and an application beside the broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from broker import Broker, BusError, Limits, NotRunning, RedisAdapter
from broker.testing.harness import plain_errors
from tests.broker import carriers
from tests.peers import (
    ENGINE_PATH,
    HttpPeer,
    PollingPeer,
    client,
    http,
    open_sockets,
    quick_broker,
    serving,
    settled,
    upgrade_head,
)

# -- under a real ASGI server -----------------------------------------------------------------


async def other_app(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with its path; know no lifespan."""
    if scope["type"] != "http":
        raise NotImplementedError
    body = scope["path"].encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_asgi_without_lifespan_is_not_open(transport: str) -> None:
    broker = quick_broker()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    scope = {
        "type": "http" if transport == "polling" else "websocket",
        "method": "GET",
        "path": "/socket.io/",
        "query_string": f"EIO=4&transport={transport}".encode(),
        "headers": [],
    }
    await broker.asgi()(scope, receive, send)
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["detail"] == "the broker is not open"
    assert broker.engine.clients_count == 0
    with pytest.raises(NotRunning):
        _ = broker._engine.nursery
    async with broker:
        assert broker.is_open


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_an_application_that_fails_while_serve_is_cancelled(
    caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    asked = trio.Event()

    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("secret")

    async def ask_elsewhere(request: Any) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clean_up_badly)
            asked.set()
            await trio.sleep_forever()
        return True

    asks = [("upgrade", "websocket" if transport == "websocket" else "")]
    broker = quick_broker(allow_request=ask_elsewhere, limits=Limits(cleanup_timeout=0.1, close_timeout=0.1))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(broker.serve, "127.0.0.1", 0)
        peer = await HttpPeer.open(server)
        await peer.send_raw(upgrade_head(f"{ENGINE_PATH}&transport={transport}", headers=asks))
        await asked.wait()
        nursery.cancel_scope.cancel()
    await peer.abort()
    assert "RuntimeError: secret" in caplog.text


async def test_a_broker_that_closes_during_a_handshake_keeps_no_session() -> None:
    named = trio.Event()

    async def generate_id(request: Any) -> str:
        await named.wait()
        return "late"

    broker = quick_broker(generate_id=generate_id)
    app = broker.asgi()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/socket.io/",
        "query_string": b"EIO=4&transport=polling",
        "headers": [],
    }
    async with trio.open_nursery() as nursery:
        async with broker:
            nursery.start_soon(app, scope, trio.sleep_forever, send)
            await settled()
        named.set()
    assert sent[0]["status"] == 503
    assert broker.engine.clients_count == 0


async def test_an_application_beside_it_under_an_asgi_server() -> None:
    broker = quick_broker()
    async with carriers.hypercorn(broker, other_app) as door:
        assert (await http(door, "GET", "/theirs")).body == b"/theirs"
        session = await PollingPeer.open(door)
        await session.join()
        async with client(door) as peer:
            await peer.emit("echo", 1)
            await peer.expect('42["echo",1]')


class Recorder:
    """An ASGI application that knows its lifespan, and records it."""

    def __init__(self, *, fail: bool = False, hang: bool = False) -> None:
        self.seen: list[str] = []
        self._fail = fail
        self._hang = hang

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await other_app(scope, receive, send)
            return
        while True:
            kind = (await receive())["type"]
            self.seen.append(kind)
            if self._fail:
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            if self._hang:
                await trio.sleep_forever()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return


async def test_the_lifespan_of_an_application_under_an_asgi_server() -> None:
    app = Recorder()
    async with carriers.hypercorn(quick_broker(), app) as door:
        assert app.seen == ["lifespan.startup"]
        async with client(door):
            pass
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("make", [Recorder, lambda: other_app])
async def test_the_lifespan_of_an_application_beside_the_broker(make: Any) -> None:
    app = make()
    async with serving(quick_broker(), app=app) as server:
        assert (await http(server, "GET", "/theirs")).body == b"/theirs"
        async with client(server):
            pass
    if isinstance(app, Recorder):
        assert app.seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_requests_see_what_the_application_has_left_at_its_start() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["database"] = "open"
            await Recorder()(scope, receive, send)
        else:
            seen.append(dict(scope["state"]))
            await other_app(scope, receive, send)

    async with serving(quick_broker(), app=app) as server:
        await http(server, "GET", "/theirs")
    assert seen == [{"database": "open"}]


@pytest.mark.parametrize("when", ["startup", "shutdown"])
async def test_an_application_beside_the_broker_that_crashes_later_is_heard_of(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _start_and_return(scope, receive, send)
            if when == "shutdown":
                await receive()
            raise KeyError("theirs")
        await other_app(scope, receive, send)

    async with serving(quick_broker(), app=crash) as server:
        assert (await http(server, "GET", "/theirs")).body == b"/theirs"
    assert [(one.levelname, str(one.exc_info and one.exc_info[1])) for one in caplog.records] == [
        ("ERROR", "'theirs'")
    ]


async def test_an_application_that_fails_to_start() -> None:
    before = open_sockets()
    with plain_errors(), pytest.raises(Exception, match="no database"):
        await Broker().serve("127.0.0.1", 0, app=Recorder(fail=True))
    assert open_sockets() == before


async def test_an_application_that_hangs_at_its_start(autojump_clock: Any) -> None:
    with pytest.raises(Exception, match="did not start within 10 s"):
        await Broker().serve("127.0.0.1", 0, app=Recorder(hang=True))


# -- whatever the application knows of lifespans ------------------------------------------------


class Host:
    """The ASGI server's side of a lifespan."""

    def __init__(self) -> None:
        self.to_app, self.receive_channel = trio.open_memory_channel[dict[str, Any]](2)
        self.send_channel, self.from_app = trio.open_memory_channel[dict[str, Any]](10)

    async def say(self, what: str) -> None:
        """Tell the application."""
        await self.to_app.send({"type": f"lifespan.{what}"})

    async def hear(self) -> str:
        """Return what the application says next."""
        with trio.fail_after(2):
            kind: str = (await self.from_app.receive())["type"]
        return kind


@asynccontextmanager
async def hosted(broker: Broker, app: Any) -> AsyncIterator[Host]:
    """Run the lifespan of a broker with an application beside it."""
    host = Host()
    with plain_errors():
        async with trio.open_nursery() as nursery:
            run = broker.asgi(app)
            nursery.start_soon(
                run, {"type": "lifespan"}, host.receive_channel.receive, host.send_channel.send
            )
            yield host


async def _ignore(scope: Any, receive: Any, send: Any) -> None:
    return


async def _raise(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


async def _raise_after_hearing(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise NotImplementedError


async def _start_and_return(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


@pytest.mark.parametrize("app", [None, Recorder(), _ignore, _raise, _raise_after_hearing, _start_and_return])
async def test_the_broker_is_open_between_start_and_stop(app: Any) -> None:
    broker = quick_broker()
    async with hosted(broker, app) as host:
        await host.say("startup")
        assert await host.hear() == "lifespan.startup.complete"
        with trio.fail_after(2):
            await trio.testing.wait_all_tasks_blocked()
        assert broker._engine.nursery
        await host.say("shutdown")
        assert await host.hear() == "lifespan.shutdown.complete"
        with pytest.raises(NotRunning):
            _ = broker._engine.nursery


async def test_an_application_that_fails_to_start_under_an_asgi_server() -> None:
    broker = quick_broker()
    async with hosted(broker, Recorder(fail=True)) as host:
        await host.say("startup")
        assert await host.hear() == "lifespan.startup.failed"
    with pytest.raises(NotRunning):
        _ = broker._engine.nursery


@pytest.mark.parametrize("app", [None, Recorder()])
async def test_a_broker_that_cannot_be_opened_under_an_asgi_server(app: Any) -> None:
    broker = quick_broker(adapter=RedisAdapter("redis://127.0.0.1:1", start_timeout=0.1))
    with pytest.raises(BusError):
        async with hosted(broker, app) as host:
            await host.say("startup")
            # Without a word it would take the application for one that knows no lifespan, and serve it.
            assert await host.hear() == "lifespan.startup.failed"
    assert app is None or app.seen == []


async def test_an_application_that_crashes_later_is_heard_of() -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        await _start_and_return(scope, receive, send)
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        async with hosted(quick_broker(), crash) as host:
            await host.say("startup")
            assert await host.hear() == "lifespan.startup.complete"


async def test_sessions_end_before_the_application_stops() -> None:
    broker = quick_broker(ping_interval=25.0)
    order: list[str] = []
    broker.on("disconnect")(lambda socket, reason: order.append(reason.value))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _start_and_return(scope, receive, send)
        await receive()
        order.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    async with hosted(broker, app) as host:
        await host.say("startup")
        await host.hear()
        async with trio.open_nursery() as nursery:
            ours, theirs = await carriers.memory_pair()
            nursery.start_soon(broker.handle_stream, theirs)
            async with client(0, stream=ours):
                await host.say("shutdown")
                assert await host.hear() == "lifespan.shutdown.complete"
            nursery.cancel_scope.cancel()
    assert order == ["server shutting down", "stopped"]


async def test_serving_may_be_cancelled_while_the_application_starts() -> None:
    with trio.fail_after(2), trio.move_on_after(0.01) as scope:
        await Broker().serve("127.0.0.1", 0, app=Recorder(hang=True))
    assert scope.cancelled_caught
