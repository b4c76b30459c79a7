"""`python -m broker connect`: what it prints, what it obeys, when it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from broker.cli.connecting import Plan, parse_values, run
from broker.cli.errors import CommandError
from broker.cli.screen import Screen
from tests.client.servers import DEADLINE, our_server
from tests.programs import run_program


async def connect(url: str, *options: str, said: str = "") -> tuple[int, str, str]:
    environ = {**os.environ, "NO_COLOR": ""}
    with trio.fail_after(DEADLINE):
        ran = await run_program(
            [sys.executable, "-m", "broker", "connect", url, *options],
            stdin=said.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environ,
        )
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


async def test_what_is_typed_is_done_and_what_comes_is_shown():
    said = "\n".join(
        [
            'call echo 1 {"two": [3]}',
            'emit say "hello\\u001b[31m" {"deep": true}',
            "nonsense",
            "emit say {broken",
            "call /chat echo 1",
            "join /chat",
            'call /chat echo "x"',
        ]
    )
    async with our_server() as url:
        # The pipe stays open until all has been seen, as a terminal would.
        auth = ("--auth", '{"token": "s3cret"}')
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                lambda task_status: run_program(
                    [sys.executable, "-m", "broker", "connect", url, *auth],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    check=False,
                    task_status=task_status,
                )
            )
            shown = ""
            with trio.fail_after(DEADLINE):
                await process.stdin.send_all(said.encode() + b"\n")
                wanted = (
                    "== echo",
                    "<- said",
                    "no such command",
                    "not JSON",
                    "join it first",
                    "== /chat echo",
                )
                while not all(text in shown for text in wanted):
                    shown += (await process.stdout.receive_some()).decode()
                await process.stdin.send_all(b"leave /chat\nquit\n")
                assert await process.wait() == 0
    [ack] = [line for line in shown.splitlines() if "== echo" in line]
    assert ack.endswith('ms  1  {"two": [3]}')
    [event] = [line for line in shown.splitlines() if "<- said" in line]
    assert event.endswith('"hello\\u001b[31m"  {"deep": true}')
    assert "\x1b" not in shown, "no colours in a pipe, and none from the server"


async def end(command: list[str], sign: bytes, how: Callable[[Any], Awaitable[None]]) -> tuple[int, str]:
    """Run a command, end it in some way once it has printed a sign, and return its code and errors."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                lambda task_status: run_program(
                    [sys.executable, "-m", "broker", *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    check=False,
                    task_status=task_status,
                )
            )
            shown = errors = b""
            while sign not in shown:
                shown += await process.stdout.receive_some()
            await how(process)
            async for chunk in process.stderr:
                errors += chunk
            code = await process.wait()
    return code, errors.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_without_a_traceback(number):
    async def interrupt(process: Any) -> None:
        process.send_signal(number)

    async with our_server() as url:
        assert await end(["connect", url], b"-- connect", interrupt) == (0, "")
        once = ["connect", url, "--call", "silent"]
        assert await end(once, b"-- connect", interrupt) == (1, "")


async def test_an_output_that_nobody_reads_any_more_ends_it_without_a_traceback():
    async def hang_up(process: Any) -> None:
        await process.stdout.aclose()
        await process.stdin.send_all(b"call echo 1\n")

    async with our_server() as url:
        assert await end(["connect", url], b"-- connect", hang_up) == (141, "")


async def test_once_and_out_with_lines_for_scripts():
    async with our_server() as url:
        options = (
            "--call",
            "echo",
            "1",
            '{"a": 2}',
            "--emit",
            "say",
            '"x"',
            "--json",
            "--transport",
            "websocket",
        )
        code, out, err = await connect(url, *options)
        lines = [json.loads(line) for line in out.splitlines()]
        assert (code, err) == (0, "")
        [ack] = [line for line in lines if line["type"] == "ack"]
        assert (ack["text"], ack["values"], ack["namespace"]) == ("echo", [1, {"a": 2}], "/")
        assert lines[0]["type"] == "connect"
        assert lines[0]["transport"] == "websocket"


async def test_exit_codes():
    async with our_server() as url:
        code, out, _ = await connect(url, "--call", "silent", "--timeout", "0.05")
        assert (code, "no ack within 0.05 s" in out) == (1, True)
        code, out, _ = await connect(url + "/chat")
        assert (code, 'invalid token  {"retry": false}' in out) == (1, True)
        code, out, _ = await connect(url, said="call echo 1\nemit say 2\n")
        assert code == 0
    code, out, _ = await connect(url, "--emit", "say")
    assert (code, "error" in out) == (1, True)
    code, _, err = await connect("nonsense")
    assert (code, "URL must be" in err) == (2, True)
    code, out, err = await connect("http://127.0.0.1:1", "--emit", "say", "1", "--call", "echo", "{broken")
    assert (code, out, err) == (2, "", "broker: not JSON: {broken (text goes into double quotes)\n")
    code, _, err = await connect("http://127.0.0.1:1", "--parser", "xml")
    assert (code, err) == (2, 'broker: parser: must be "json" or "msgpack", found \'xml\'\n')
    code, _, err = await connect(url, "--auth", "[]")
    assert (code, "JSON object" in err) == (2, True)


def test_colours_and_long_values_over_several_lines():
    stream = io.StringIO()
    Screen(stream, json_lines=False, colour=True).show(
        "event", "/", "long", [{"text": "y" * 100, "bytes": b"\x00"}]
    )
    shown = stream.getvalue()
    assert "\x1b[36m<-\x1b[0m" in shown
    assert len(shown.splitlines()) > 3
    assert '"base64": "AA=="' in shown


@pytest.mark.parametrize(("text", "values"), [("", []), ('1 "a b" [2]', [1, "a b", [2]]), ("null", [None])])
def test_values(text, values):
    assert parse_values(text) == values


def test_what_is_no_value():
    with pytest.raises(ValueError, match="double quotes"):
        parse_values("1 hello")


async def test_a_pipe_ends_it_when_all_has_been_done():
    said = "call echo 1\ncall echo 2 3\n\njoin /chat\nleave /chat\ncall silent\nemit\nleave /nowhere\n"
    out = io.StringIO()
    async with our_server() as url:
        plan = Plan(url=url, options={"auth": {"token": "s3cret"}}, timeout=0.2)
        with trio.fail_after(DEADLINE):
            assert await run(plan, Screen(out, json_lines=True, colour=False), io.StringIO(said)) == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sorted(line["values"] for line in lines if line["type"] == "ack") == [[1], [2, 3]]
    errors = " ".join(line["text"] for line in lines if line["type"] == "error")
    assert "silent: operation has timed out" in errors
    assert "emit needs the name of an event" in errors
    assert "not in /nowhere: join it first" in errors
    assert lines[-1]["type"] == "disconnect"


async def test_once_in_process():
    out = io.StringIO()
    async with our_server() as url:
        plan = Plan(url=url, options={}, once=["emit say 1", "call echo 2", "call /no echo"])
        with trio.fail_after(DEADLINE):
            assert await run(plan, Screen(out, json_lines=False, colour=False), io.StringIO()) == 1
        assert "== echo" in out.getvalue()
        with pytest.raises(CommandError, match="namespace"):
            await run(Plan(url=url, options={"namespaces": ["x"]}), Screen(out, False, False), io.StringIO())
