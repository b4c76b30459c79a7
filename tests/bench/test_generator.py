"""The load generator against the limit: that each mode measures something and says it in full."""

import shutil
import signal
import time

import pytest

from bench import processes
from bench.processes import MeasureError, running_generator, running_server

pytestmark = pytest.mark.skipif(bool(processes.missing_tools()), reason="needs a C compiler and taskset")


@pytest.fixture(scope="module")
def limit():
    processes.build()
    with running_server("limit", 0) as server:
        yield server


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "echo", "-c", "5", "-w", "3"],
        ["-m", "echo", "-c", "1", "-s", "40000"],  # needs long frames, which come in pieces
        ["-m", "fanout", "-c", "20", "-P", "3", "-w", "2"],
    ],
)
def test_load_is_counted_and_no_connection_lost(limit, arguments):
    with running_generator([*arguments, "-t", "1", "-W", "0"], limit.port, 0) as generator:
        said = generator.next_line(20)

    assert said["per_s"] > 0
    assert said["ready"] == said["conns"]
    assert said["lost"] == 0
    assert 0 < said["p50_us"] <= said["p99_us"] <= said["max_us"]


def test_connections_come_and_go(limit):
    arguments = ["-m", "connect", "-w", "4", "-t", "1", "-W", "0"]
    with running_generator(arguments, limit.port, 0) as generator:
        said = generator.next_line(20)

    assert said["per_s"] > 0
    assert said["failed"] == 0


def test_idle_connections_are_held_and_their_end_is_told(limit):
    with running_generator(["-m", "idle", "-c", "50", "-t", "1"], limit.port, 0) as generator:
        ready, held = generator.next_line(20), generator.next_line(20)

    assert ready["ready"] == 50
    assert held == {"held": 50, "lost": 0}


def test_stalled_connections_do_not_hold_up_the_count(limit):
    arguments = ["-m", "fanout", "-c", "20", "-S", "5", "-w", "2", "-t", "1", "-W", "0"]
    with running_generator(arguments, limit.port, 0) as generator:
        said = generator.next_line(20)

    assert said["per_s"] > 0


def test_a_generator_that_cannot_connect_says_so():
    with running_generator(["-c", "2", "-t", "1", "-W", "0"], 1, 0) as generator:
        said = generator.next_line(20)

    assert (said["ready"], said["lost"]) == (0, 2)


def test_wrong_options_are_refused(limit):
    with running_generator(["-m", "ecco"], limit.port, 0) as generator:
        with pytest.raises(MeasureError, match="the load generator failed: "):
            generator.next_line(20)


def test_a_server_that_cannot_start_is_a_failure_with_its_last_words(monkeypatch):
    python = shutil.which("python3") or "python3"
    monkeypatch.setitem(processes.COMMANDS, "ours", [python, "-c", "raise SystemExit('no such broker')"])
    with pytest.raises(MeasureError, match="ended with status 1: no such broker"):
        with running_server("ours", 0):
            pytest.fail("it did not start")


def test_leaving_the_block_ends_a_server_that_ignores_requests_to_end(monkeypatch):
    monkeypatch.setattr(processes, "END_TIMEOUT", 0.2)
    stubborn = "import signal, sys, socket; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    stubborn += "while True: s.accept()"
    monkeypatch.setitem(processes.COMMANDS, "ours", ["python3", "-c", stubborn])
    with running_server("ours", 0) as server:
        started = time.monotonic()

    assert server.process.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 10
