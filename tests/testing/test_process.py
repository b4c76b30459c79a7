"""The harness as a process: its examples, its rules, and what it says to a wrong request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from broker import AckTimeout, ConnectError, Disconnected, open_client
from broker.testing import HttpAnswer, request
from broker.testing.process import serve_harness
from tests.client.servers import needs_node
from tests.programs import run_program

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/harness"


@asynccontextmanager
async def harness_process() -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            lambda task_status: run_program(
                [sys.executable, "-m", "broker", "harness", "--port", "0"],
                stdout=subprocess.PIPE,
                cwd=ROOT,
                task_status=task_status,
            )
        )
        said = b""
        with trio.fail_after(20):
            while not said.endswith(b"\n"):
                more = await process.stdout.receive_some()
                assert more, "it ended before it said where it is"
                said += more
        yield said.decode().strip()
        process.terminate()
        with trio.fail_after(20):
            assert await process.wait() == 0


async def run_example(command: list[str], **environment: str) -> str:
    with trio.fail_after(60):
        done = await run_program(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, **environment}
        )
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    return said


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
async def test_the_curl_example():
    async with harness_process() as url:
        said = await run_example(["sh", str(EXAMPLES / "curl.sh"), url])
    assert '431["pong"]' in said
    assert "< POST /socket.io/?EIO=4&transport=polling" in said


@pytest.mark.node
@needs_node[1]
async def test_the_javascript_example():
    async with harness_process() as url:
        said = await run_example(
            ["node", "--test", str(EXAMPLES / "harness.test.mjs")],
            HARNESS_URL=url,
            SOCKET_IO_FROM=str(ROOT / "tests/interop/client.js"),
        )
    assert "pass 6" in said


@pytest.fixture
async def control(nursery: Any) -> str:
    server = await nursery.start(serve_harness, "127.0.0.1", 0)
    return str(server.url)


async def ask(control: str, method: str, path: str, body: bytes | None = None) -> HttpAnswer:
    host, _, port = control.removeprefix("http://").partition(":")
    return await request(await trio.open_tcp_stream(host, int(port)), method, path, body, host="localhost")


async def test_rules(control):
    started = await ask(
        control,
        "POST",
        "/brokers",
        b"""{"rules": [
            {"event": "echo"},
            {"event": "once", "answer": ["second"]},
            {"event": "once", "answer": ["first"], "times": 1},
            {"event": "quiet", "silent": true},
            {"event": "kick", "disconnect": "close"},
            {"event": "connect", "emit": ["welcome", 1]},
            {"event": "tell", "emit": ["told", {"a": 1}], "namespace": "/other"}
        ]}""",
    )
    assert started.status == 201
    name, url = started.json["id"], started.json["url"]
    async with open_client(url, namespaces=("/", "/other"), reconnect=None) as client:
        await client.wait_connected()
        event = await anext(aiter(client))
        assert (event.name, event.args) == ("welcome", (1,))
        assert await client.call("echo", 1, "a") == (1, "a")
        assert await client.call("once") == "first"
        assert await client.call("once") == "second"
        with pytest.raises(AckTimeout):
            await client.call("quiet", timeout=0.01)
        client.of("/other").emit("tell")
        event = await anext(aiter(client))
        assert (event.name, event.args, event.namespace) == ("told", ({"a": 1},), "/other")
        answer = await ask(control, "POST", f"/brokers/{name}/emit", b'{"event": "news", "arguments": [2]}')
        assert answer.json == {"queued": 1, "dropped": 0, "closed": 0}
        assert (await anext(aiter(client))).args == (2,)
        figures = await ask(control, "GET", f"/brokers/{name}/statistics")
        assert figures.json["sessions"] == 1
        with pytest.raises(Disconnected):
            await client.call("kick")
    assert (await ask(control, "DELETE", f"/brokers/{name}")).status == 204
    async with open_client(url, reconnect=None) as client:
        with pytest.raises(ConnectError):
            await client.wait_connected()


async def test_rules_for_those_who_join_are_spent_too(control):
    started = await ask(
        control,
        "POST",
        "/brokers",
        b"""{"rules": [
            {"event": "connect", "emit": ["others"]},
            {"event": "connect", "emit": ["second"], "times": 1},
            {"event": "connect", "refuse": {"message": "first"}, "times": 1}
        ]}""",
    )
    async with open_client(started.json["url"], transports=("websocket",)) as client:
        with pytest.raises(ConnectError, match="first"):
            await client.wait_connected()
        for name in ("second", "others", "others"):
            client.connect()
            with trio.fail_after(5):
                assert (await anext(aiter(client))).name == name
            client.disconnect()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/nowhere", None, 404, "GET / tells"),
        ("GET", "/brokers/b9/statistics", None, 404, "no broker 'b9'"),
        ("POST", "/brokers", b"[", 400, "no JSON"),
        ("POST", "/brokers", b"[]", 400, "must be a JSON object"),
        ("POST", "/brokers", b'{"setings": {}}', 400, "setings"),
        ("POST", "/brokers", b'{"settings": {"ping_intervall": 1}}', 400, "ping_interval"),
        ("POST", "/brokers", b'{"rules": [{"event": 1, "colour": 2}]}', 400, "colour"),
        ("POST", "/brokers", b'{"rules": ["x"]}', 400, "a rule is an object"),
        ("POST", "/brokers", b'{"rules": null}', 400, "a list"),
        ("POST", "/brokers", b'{"rules": [{"event": "connect_error"}]}', 400, "reserved"),
        ("POST", "/brokers", b" " * 1_000_001, 413, "bytes at most"),
    ],
)
async def test_wrong_requests_are_told_why(control, method, path, body, status, words):
    answer = await ask(control, method, path, body)
    assert answer.status == status
    assert words in answer.json["error"]


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("drop", [{"pattern": "ping"}], "match must be a text, not"),
        ("drop", ["3", "both", "1"], "count must be a whole number above 0"),
        ("delay", {"match": "3", "seconds": "1"}, "seconds must be a number of seconds"),
        ("cut_after", ["100"], "count_bytes must be a whole number"),
        ("trickle", [0, 1], "max_bytes must be a whole number"),
        ("latency", [-1], "seconds must be a number of seconds"),
        ("stall_reads", ["clients"], "side must be one of client, server"),
        ("cut_at", ["x", "to_nowhere"], "direction must be one of to_server"),
        ("abort_upgrade", ["begin"], "step must be one of request"),
        ("cut", 5, "a list or an object"),
        ("cut", [1], "too many positional arguments"),
        ("latency", {"second": 1}, "missing a required argument: 'seconds'"),
    ],
)
async def test_arguments_of_faults_that_cannot_be(control, verb, arguments, words):
    started = await ask(control, "POST", "/brokers", b'{"rules": [{"event": "ping"}]}')
    fault = {"verb": verb, "arguments": arguments}
    refused = await ask(control, "POST", f"/brokers/{started.json['id']}/faults", json.dumps(fault).encode())
    assert refused.status == 400
    assert words in refused.json["error"]
    async with open_client(started.json["url"], reconnect=None) as client:
        assert await client.call("ping", 1) == 1


async def test_faults_are_checked(control):
    name = (await ask(control, "POST", "/brokers", b"{}")).json["id"]
    for body, words in (
        (b'{"verb": "earthquake"}', "there is no fault"),
        (b'{"verb": "latency", "arguments": []}', "latency"),
        (b'{"verb": "abort_upgrade", "arguments": ["x"]}', "abort_upgrade"),
    ):
        answer = await ask(control, "POST", f"/brokers/{name}/faults", body)
        assert (answer.status, words in answer.json["error"]) == (400, True)
    answer = await ask(
        control, "POST", f"/brokers/{name}/faults", b'{"verb": "latency", "arguments": {"seconds": 0.1}}'
    )
    assert answer.status == 200
    assert b"latency 0.1 s" in (await ask(control, "GET", f"/brokers/{name}/transcript")).body
    assert (await ask(control, "GET", f"/brokers/{name}/transcript?format=json")).json[0]["mark"] == "="
    assert b"POST   /brokers" in (await ask(control, "GET", "/")).body
