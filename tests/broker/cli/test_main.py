"""The commands from outside: what they print, when they end, and with which code."""

import functools
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme

from broker import Broker
from broker.cli import main, serving
from broker.cli.arguments import Address
from broker.cli.errors import CommandError
from broker.cli.serving import Service, run

FREE = Address("127.0.0.1:0", "127.0.0.1", 0)


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    """Work in an empty directory and put back the logging, the path and the modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    modules = set(sys.modules)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in set(sys.modules) - modules:
        if name.startswith("some_"):
            del sys.modules[name]


@pytest.fixture
def taken():
    """Give a port of the loopback interface that another socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# -- check-config --------------------------------------------------------------


def test_check_config_prints_what_is_in_force(capsys, monkeypatch):
    Path("broker.toml").write_text("[broker]\nping_interval = 5\n[broker.limits]\nmax_attachments = 3")
    monkeypatch.setenv("BROKER_PING_TIMEOUT", "7")
    assert main(["check-config", "broker.toml"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (rows["ping_interval"], rows["ping_timeout"]) == ("5 s", "7 s")
    assert rows["limits.max_attachments"] == "3"


def test_check_config_gives_each_error_its_line(capsys):
    Path("broker.toml").write_text("ping_interval = 'x'\n[limits]\njson_depth = 'y'")
    assert main(["check-config", "broker.toml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "broker: broker.ping_interval: must be a number, found 'x'",
        "broker: broker.limits.json_depth: must be a whole number, found 'y'",
    ]


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "broker", "check-config", "none.toml"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parents[3], check=False
    )
    assert ended.returncode == 2
    assert "none.toml" in ended.stderr


def test_check_config_without_a_file(capsys):
    assert main(["check-config", "none.toml"]) == 2
    assert capsys.readouterr().err == "broker: none.toml: No such file or directory\n"


# -- what cannot start ---------------------------------------------------------


def test_a_port_in_use_is_one_clear_line(capsys, taken):
    Path("some_app.py").write_text("from broker import Broker\nbroker = Broker()\n")
    assert main(["serve", "some_app:broker", "--bind", f"127.0.0.1:{taken}", "--log-level", "error"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"broker: cannot listen on 127.0.0.1:{taken}: the address is in use; is another")


def test_a_bus_that_cannot_be_reached_is_one_clear_line(capsys):
    Path("some_app.py").write_text(
        "from broker import Broker, RedisAdapter\n"
        "broker = Broker(adapter=RedisAdapter('redis://127.0.0.1:1', start_timeout=0.1))\n"
    )
    assert main(["serve", "some_app:broker", "--bind", "127.0.0.1:0", "--log-level", "error"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("broker: no connection to Redis at 127.0.0.1:1: ")


@pytest.mark.parametrize("command", ["demo", "harness"])
def test_other_commands_say_so_too(capsys, taken, command):
    assert main([command, "--port", str(taken), "--log-level", "error"]) == 1
    assert capsys.readouterr().err.startswith(
        f"broker: cannot listen on 127.0.0.1:{taken}: the address is in use"
    )


def test_a_certificate_is_taken(capsys, taken):
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path("all.pem")
    Path("some_app.py").write_text("from broker import Broker\nbroker = Broker()\n")
    line = f"serve some_app:broker --bind 127.0.0.1:{taken} --certfile all.pem --log-level error"
    assert main(line.split()) == 1
    assert "the address is in use" in capsys.readouterr().err


def test_a_host_without_an_address():
    service = Service(broker=Broker(), addresses=[Address("a.invalid:1", "a.invalid", 1)])
    told = serving.told(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), service.addresses)
    assert told == "cannot listen on a.invalid:1: the name of the host is not known"


def test_a_host_that_is_not_here(capsys):
    Path("some_app.py").write_text("from broker import Broker\nbroker = Broker()\n")
    # An address of documentation, RFC 5737: no machine has it.
    assert main(["serve", "some_app:broker", "--bind", "192.0.2.1:0", "--log-level", "error"]) == 1
    assert "cannot listen on 192.0.2.1:0: this machine has no such address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve none_such:broker", "broker: there is no module none_such in "),
        ("serve some_app:make --config broker.toml", "broker: broker.ping_interval: must be"),
        ("serve some_app:make --keyfile key.pem", "broker: --keyfile needs --certfile"),
        ("serve some_app:make --certfile none.pem", "broker: cannot use none.pem for TLS: No such file"),
        (
            "serve some_app:make --certfile a.pem --keyfile b.pem",
            "broker: cannot use a.pem with b.pem for TLS",
        ),
        ("serve some_app:make --app some_app:none", "broker: module some_app has no attribute none"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(line, said, capsys):
    Path("broker.toml").write_text("ping_interval = 0")
    Path("some_app.py").write_text("from broker import Broker\ndef make(settings): return Broker(settings)\n")
    assert main(line.split()) == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed.startswith(said)


# -- serving -------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(number, caplog):
    caplog.set_level("INFO")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run, Service(broker=Broker(), addresses=[FREE]))
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.aclose()
        os.kill(os.getpid(), number)
    assert f"listening on {server.url}" in caplog.text
    assert f"received {signal.Signals(number).name}" in caplog.text
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", server.port)


async def test_every_address_is_served(tmp_path):
    path = tmp_path / "broker.sock"
    addresses = [Address(f"unix:{path}"), FREE]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run, Service(broker=Broker(), addresses=addresses))
        assert len(server.urls) == 2
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


async def test_a_unix_socket_alone_is_served(tmp_path):
    path = tmp_path / "broker.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(run, Service(broker=Broker(), addresses=[Address(f"unix:{path}")]))
        async with await trio.open_unix_socket(str(path)):
            pass
        nursery.cancel_scope.cancel()


async def test_tls_is_served():
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    service = Service(broker=Broker(), addresses=[FREE], ssl_context=context)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run, service)
        assert server.url.startswith("https://")
        tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with trio.SSLStream(tcp, client, server_hostname="localhost", https_compatible=True) as stream:
            await stream.send_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


class Seen(logging.Handler):
    """Sets an event when a record with some text comes by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.event = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.event.set()


async def test_the_second_signal_does_not_wait():
    """A handler that does not end holds the drain; the second signal cancels it."""
    received = Seen("received SIGTERM")
    logging.getLogger().addHandler(received)
    logging.getLogger().setLevel("INFO")
    broker = Broker()
    entered, cancelled = trio.Event(), trio.Event()

    @broker.on("connect")
    async def connect(socket) -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    service = Service(broker=broker, addresses=[FREE], drain_timeout=3_600.0)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run, service)
        await open_session(server.port)
        await entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await received.event.wait()
        assert not cancelled.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
    assert cancelled.is_set()


async def open_session(port: int) -> None:
    """Open a polling session and join the default namespace."""
    head = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    opened = await exchange(port, head.encode())
    session_id = opened.partition(b'"sid":"')[2].partition(b'"')[0].decode()
    path = f"/socket.io/?EIO=4&transport=polling&sid={session_id}"
    post = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n40"
    assert b" 200 " in await exchange(port, post.encode())


async def exchange(port: int, request: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return b"".join([chunk async for chunk in stream])


def test_a_port_in_use_is_an_error_of_the_command(taken):
    service = Service(broker=Broker(), addresses=[Address("x", "127.0.0.1", taken)])
    with pytest.raises(CommandError) as caught:
        trio.run(functools.partial(run, service))
    assert caught.value.exit_code == 1


# -- as a process --------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_with_code_0_and_no_traceback(number):
    Path("some_app.py").write_text("from broker import Broker\nbroker = Broker(ping_interval=3)\n")
    command = [sys.executable, "-m", "broker", "serve", "some_app:broker", "--bind", "127.0.0.1:0"]
    checkout = str(Path(__file__).parents[3])
    environ = {**os.environ, "PYTHONPATH": checkout}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shown: list[str] = []
        for line in process.stderr:
            shown.append(line)
            if "listening on" in line:
                break
        process.send_signal(number)
        try:
            _, rest = process.communicate(timeout=60)
        finally:
            process.kill()  # nothing if it has ended
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert any(line.split()[-3:] == ["ping_interval", "3", "s"] for line in shown)


def test_clients_cannot_be_judged_at_a_unix_socket(capsys):
    assert main(["conformance", "--listen", "unix:/run/x.sock", "--wait", "0.1"]) == 2
    assert "--listen needs HOST:PORT" in capsys.readouterr().err


def test_ctrl_c_in_the_midst_of_a_judgement(monkeypatch):
    async def interrupted(*_: object, **__: object) -> None:
        async with trio.open_nursery():
            raise KeyboardInterrupt

    monkeypatch.setattr("broker.cli.conformance.judge_client", interrupted)
    assert main(["conformance", "--listen", "127.0.0.1:0"]) == 130


def test_ctrl_c_before_there_is_anything_to_end(monkeypatch):
    Path("some_app.py").write_text("raise KeyboardInterrupt\n")
    assert main(["serve", "some_app:broker"]) == 130
