"""The official client on long-polling, through round-robin: no request is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.peers import DEADLINE
from tests.programs import run_program
from tests.workers.neighbours import nodes
from tests.workers.processes import serving_processes

HERE = Path(__file__).parent
NODE = shutil.which("node")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CLIENT = HERE.parent / "interop" / "node_modules" / "socket.io-client"
CLIENTS, EVENTS = 8, 20

needs_node = pytest.mark.skipif(
    NODE is None or not CLIENT.is_dir(),
    reason="node, or tests/interop/node_modules, is missing: `make setup`",
)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
connections = pytest.mark.parametrize("kept", ["new", "kept"])

CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format status '$status $arg_sid $upstream_addr $request_body';
    access_log {folder}/access.log status;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $on {{ default upgrade; '' ''; }}
    upstream nodes {{ {servers} {keepalive} }}
    server {{
        listen unix:{folder}/nginx.sock;
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $on;
        }}
    }}
}}
"""


async def poll(url: str, kept: str) -> dict[str, Any]:
    """Run the clients; return what they say."""
    assert NODE is not None
    command = [NODE, str(HERE / "polling.js"), url, str(CLIENTS), str(EVENTS), kept]
    with trio.fail_after(60):
        ended = await run_program(command, capture_stdout=True)
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


@asynccontextmanager
async def nginx(folder: Path, ports: list[int], keepalive: str) -> AsyncIterator[int]:
    """Run nginx before these ports, in turns; return its own port."""
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    servers = " ".join(f"server 127.0.0.1:{one};" for one in ports)
    text = CONFIGURATION.format(folder=folder, servers=servers, port=port, keepalive=keepalive)
    (folder / "nginx.conf").write_text(text)
    command = [
        str(NGINX),
        "-e",
        str(folder / "error.log"),
        "-p",
        str(folder),
        "-c",
        str(folder / "nginx.conf"),
    ]
    process = await trio.lowlevel.open_process(command, stderr=subprocess.DEVNULL)
    try:
        with trio.fail_after(DEADLINE):
            while True:
                try:
                    await (await trio.open_unix_socket(str(folder / "nginx.sock"))).aclose()
                    break
                except (OSError, RuntimeError):
                    await trio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + DEADLINE):
            await process.wait()


def refused_in(log: str) -> list[str]:
    """Return the requests of an access log that were refused although their session was alive.

    499 is a client that left while a poll waited. A poll that is overtaken by the close packet of its own
    client comes to a session that has ended.
    """
    lines = [line.split(maxsplit=3) for line in log.splitlines()]
    closed = {line[1] for line in lines if line[3] == "1" or line[3].endswith("\\x1E1")}
    return [
        " ".join(line)
        for line in lines
        if line[0] not in ("200", "499") and not (line[0] == "400" and line[1] in closed)
    ]


@needs_node
@connections
async def test_polling_at_the_port_of_workers(kept: str) -> None:
    async with serving_processes() as server:
        said = await poll(f"http://127.0.0.1:{server.port}", kept)
        assert said == {"acks": CLIENTS * EVENTS, "errors": []}
        assert await server.end() == 0


@needs_node
@needs_nginx
@pytest.mark.parametrize("upstream", ["new", "kept"])
async def test_polling_through_nginx_in_turns(tmp_path: Path, upstream: str) -> None:
    keepalive = "keepalive 8;" if upstream == "kept" else ""
    async with nodes(ping_interval=25.0, ping_timeout=20.0) as (first, second, _):
        for node in (first, second):
            node.broker.off("echo")

            @node.broker.on("echo")
            async def echo(socket: Any, *args: Any) -> tuple[Any, ...]:
                return args

        ports = [first.door.port, second.door.port]
        async with nginx(tmp_path, ports, keepalive) as port:
            said = await poll(f"http://127.0.0.1:{port}", "kept")
        assert said == {"acks": CLIENTS * EVENTS, "errors": []}
        log = (tmp_path / "access.log").read_text()
        assert refused_in(log) == []
        assert len({line.split()[2] for line in log.splitlines()}) == 2


def test_a_poll_that_its_own_client_has_overtaken_is_not_refused() -> None:
    log = (
        "200 A x:1 1\n400 A x:2 -\n200 B x:1 41\\x1E1\n400 B x:2 -\n499 C x:1 -\n200 C x:2 41\n400 C x:1 -\n"
    )
    assert refused_in(log) == ["400 C x:1 -"]
