"""The examples of examples/conformance do what their README says, for a handful of cases."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from broker.cli.arguments import build_parser
from broker.conformance import Report, Verdict, judge_server
from broker.conformance.client_role import judge_client
from broker.conformance.target import parse_url
from tests.conformance.run import started

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "conformance"
NODE_MODULES = ROOT / "tests" / "interop" / "node_modules"
SERVER_CASES = ["event/value/", "ack/answer/several", "burst/", "namespace/custom", "http/other-path"]


def passed(report: Report) -> set[str]:
    wrong = [(one.case.id, one.message) for one in report.outcomes if one.verdict is not Verdict.PASS]
    assert wrong == []
    return {one.case.id for one in report.outcomes}


async def judged_server(command: list[str]) -> set[str]:
    async with started(command) as url:
        return passed(await judge_server(parse_url(url), only=SERVER_CASES))


async def test_the_python_server_is_judged() -> None:
    pytest.importorskip("socketio")
    cases = await judged_server([sys.executable, str(EXAMPLES / "server.py"), "0"])
    assert {"event/value/object", "ack/answer/several", "http/other-path"} <= cases


async def test_the_node_server_is_judged(tmp_path: Path) -> None:
    if shutil.which("node") is None or not NODE_MODULES.exists():
        pytest.skip("needs Node.js with tests/interop/node_modules: make test installs them")
    shutil.copy(EXAMPLES / "server.js", tmp_path)
    os.symlink(NODE_MODULES, tmp_path / "node_modules")
    cases = await judged_server(["node", str(tmp_path / "server.js"), "0"])
    assert {"event/value/object", "ack/answer/several", "http/other-path"} <= cases


async def test_the_python_client_is_judged() -> None:
    pytest.importorskip("socketio")
    command = f"{sys.executable} {EXAMPLES / 'client.py'} {{url}} {{transports}}"
    report = await judge_client("127.0.0.1", 0, command=command, only=["ack/answer/", "handshake/request/"])
    assert {"ack/answer/websocket", "handshake/request/polling"} <= passed(report)


def test_commands_of_the_readme_are_taken() -> None:
    lines = (EXAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python -m broker ")]
    assert len(commands) == 3
    for command in commands:
        build_parser().parse_args(shlex.split(command)[3:])
