"""The harness as a process: the control verbs over HTTP and Socket.IO, for tests in any language."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import trio

from broker import Broker, EventError, Server, Socket

from .control import Control, ControlError

_MAX_BODY_BYTES = 1_000_000
_USAGE = b"""POST   /brokers                 {"settings": {...}, "rules": [...]}  -> {"id", "url"}
DELETE /brokers/ID
POST   /brokers/ID/rules         {"event": "...", "answer": [...], ...}
POST   /brokers/ID/faults        {"verb": "partition", "arguments": []}
POST   /brokers/ID/emit          {"event": "...", "arguments": [], "namespace": "/"}
GET    /brokers/ID/transcript    as text; with ?format=json as JSON
GET    /brokers/ID/statistics
The same over Socket.IO, each with an object and an ack: start stop rule fault emit transcript statistics
"""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def serve_harness(  # noqa: ASYNC128 - `Broker.serve` calls it
    host: str, port: int, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve the control interface until cancelled; the brokers that were started end with it.

    Args:
        host: Where it listens.
        port: The TCP port; 0 takes a free one.
        task_status: Gets the `Server`.

    Raises:
        OSError: It cannot listen there.
    """
    async with trio.open_nursery() as nursery:
        control = Control(nursery)
        await control_broker(control).serve(host, port, app=ControlApp(control), task_status=task_status)


def control_broker(control: Control) -> Broker:
    """Return the broker by which the verbs can be called as events with an ack."""
    broker = Broker(serve_client=False)
    for name in control.verbs:
        _offer(broker, name, control)
    return broker


def _offer(broker: Broker, name: str, control: Control) -> None:
    @broker.on(name)
    async def verb(socket: Socket, given: dict[str, Any]) -> Any:
        try:
            return await control.verbs[name](given)
        except ControlError as error:
            raise EventError("harness", str(error)) from None


class ControlApp:
    """The ASGI application of the control interface."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            status, kind, body = await self._answer(scope, receive)
        except ControlError as error:
            status, kind, body = error.status, b"application/json", orjson.dumps({"error": str(error)})
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        method, parts = scope["method"], scope["path"].strip("/").split("/")
        if parts == [""]:
            return 200, b"text/plain", _USAGE
        match (method, parts):
            case ("GET", ["brokers", name, "transcript"]) if b"format=json" not in scope["query_string"]:
                return 200, b"text/plain; charset=utf-8", self._control.shown_transcript(name).encode()
            case ("POST", ["brokers"]):
                verb, given, status = "start", await _body(receive), 201
            case ("DELETE", ["brokers", name]):
                verb, given, status = "stop", {"id": name}, 204
            case ("POST", ["brokers", name, "rules"]):
                verb, given, status = "rule", {"id": name, "rule": await _body(receive)}, 201
            case ("POST", ["brokers", name, "faults"]):
                verb, given, status = "fault", {**await _body(receive), "id": name}, 200
            case ("POST", ["brokers", name, "emit"]):
                verb, given, status = "emit", {**await _body(receive), "id": name}, 200
            case ("GET", ["brokers", name, ("transcript" | "statistics") as what]):
                verb, given, status = what, {"id": name}, 200
            case _:
                raise ControlError(f"there is no {method} {scope['path']}; GET / tells what there is", 404)
        result = await self._control.verbs[verb](given)
        return status, b"application/json", b"" if status == 204 else orjson.dumps(result)


async def _body(receive: Receive) -> dict[str, Any]:
    data = bytearray()
    while True:
        message = await receive()
        data += message.get("body", b"")
        if len(data) > _MAX_BODY_BYTES:
            raise ControlError(f"a body is {_MAX_BODY_BYTES} bytes at most", 413)
        if not message.get("more_body"):
            break
    try:
        found = orjson.loads(data or b"{}")
    except ValueError as error:
        raise ControlError(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ControlError("the body must be a JSON object")
    return found


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
