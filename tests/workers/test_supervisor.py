"""The supervisor with processes that are as simple, or as stubborn, as a test needs them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from typing import Any

import pytest
import trio
import trio.testing

from broker.server import shared_ports, workers
from broker.server.addresses import open_listeners
from broker.server.shared_ports import SharedPorts
from broker.server.workers import Crew, Place, Running, supervise, watch_supervisor
from tests.workers.processes import gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

READY = "import json,os,signal,sys,time; place=json.loads(sys.argv[1]); os.write(place['control'], b'R');"
WAITS = READY + "signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY + "time.sleep(60)"
BRIEF = READY + "time.sleep(0.01); sys.exit(3)"
MISSING = "there is no such program"


def crew(*programs: str, count: int = 2, **options: Any) -> Crew:
    """Run these programs, one after another; the last one again and again."""
    left = list(programs)

    def command(place: Place) -> list[str]:
        program = left.pop(0) if len(left) > 1 else left[0]
        if program == MISSING:
            return ["/nonexistent/python"]
        return [sys.executable, "-S", "-c", program, place.to_text()]

    return Crew(**{"count": count, "addresses": ["127.0.0.1:0"], "command": command, **options})


async def run(crew: Crew, body: Any) -> int:
    """Supervise, do something, and return the exit code."""
    codes: list[int] = []

    async def watch(task_status: trio.TaskStatus[Running]) -> None:
        codes.append(await supervise(crew, task_status=task_status))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            running = await nursery.start(watch)
            await body(running)
    return codes[0]


async def terminate(running: Running) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await trio.lowlevel.checkpoint()


async def test_it_ends_in_good_order(caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    assert await run(crew(WAITS), terminate) == 0
    assert "with 2 workers" in caplog.text
    assert "ended" in caplog.text


async def test_who_dies_is_replaced_after_a_growing_delay(caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(workers, "LONGEST_DELAY", 0.03)

    async def body(running: Running) -> None:
        while caplog.text.count("another starts") < 4:  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.01)
        await terminate(running)

    assert await run(crew(BRIEF, count=1), body) in (0, 1)
    delays = [record.args[2] for record in caplog.records if "another starts" in record.message]
    assert delays[:4] == [0.01, 0.02, 0.03, 0.03]
    assert "worker 0 ended with exit code 3" in caplog.text


async def test_a_long_life_makes_the_delay_short_again(caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(workers, "STABLE_AFTER", 0.0)

    async def body(running: Running) -> None:
        while caplog.text.count("another starts") < 3:  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.01)
        await terminate(running)

    await run(crew(BRIEF, BRIEF, BRIEF, WAITS, count=1), body)
    delays = [record.args[2] for record in caplog.records if "another starts" in record.message]
    assert delays == [0.01, 0.01, 0.01]


async def test_an_end_while_one_is_to_be_replaced(caplog: Any) -> None:
    async def body(running: Running) -> None:
        while "another starts" not in caplog.text:  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.01)
        await terminate(running)

    assert await run(crew(BRIEF, count=1), body) == 0


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(2)", 2), ("import os; os.abort()", 1)])
async def test_one_that_cannot_start_ends_all(program: str, code: int) -> None:
    with trio.fail_after(30):
        assert await supervise(crew(program)) == code
        assert await supervise(crew(WAITS, program)) == code


async def test_a_start_that_fails_is_tried_again_and_leaves_the_others_alone(
    caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY", 0.01)

    async def body(running: Running) -> None:
        first = running.pids[0]
        while 1 not in running.pids or "cannot be started" not in caplog.text:  # noqa: ASYNC110 - nobody is told
            await trio.sleep(0.01)
        assert running.pids[0] == first
        await terminate(running)

    assert await run(crew(WAITS, BRIEF, MISSING, WAITS), body) == 0
    assert "worker 1 cannot be started: [Errno 2]" in caplog.text
    assert await supervise(crew(MISSING)) == 1


async def test_who_does_not_drain_is_killed(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(workers, "MARGIN", 0.1)
    assert await run(crew(STUBBORN, drain_timeout=0.1), terminate) == 1
    assert "worker 0 did not end in time and is killed" in caplog.text


async def test_a_second_signal_is_passed_on(tmp_path: Any) -> None:
    program = READY.replace("os.write", "signal.pthread_sigmask(0, [15]); os.write") + (
        f"signal.sigwait([15]); open({str(tmp_path)!r} + '/' + str(place['number']), 'x').close();"
        "signal.sigwait([15])"
    )

    async def body(running: Running) -> None:
        await terminate(running)
        while len(list(tmp_path.iterdir())) < 2:  # noqa: ASYNC110 - they are processes
            await trio.sleep(0.01)
        await terminate(running)

    assert await run(crew(program), body) == 0


async def test_a_signal_while_the_first_one_starts() -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            codes: list[int] = []
            asked = trio.Event()

            def command(place: Place) -> list[str]:
                asked.set()
                return [sys.executable, "-S", "-c", "import time; time.sleep(60)"]

            async def watch() -> None:
                codes.append(await supervise(Crew(count=2, addresses=["127.0.0.1:0"], command=command)))

            nursery.start_soon(watch)
            await asked.wait()
            await terminate(Running(()))
    assert codes == [0]


async def test_cancellation_kills() -> None:
    async with trio.open_nursery() as nursery:
        running: Running = await nursery.start(supervise, crew(STUBBORN))
        pids = list(running.pids.values())
        nursery.cancel_scope.cancel()
    for pid in pids:
        await gone(pid)


# -- who hangs -----------------------------------------------------------------------------


async def test_who_is_silent_is_replaced(caplog: Any) -> None:
    async def body(running: Running) -> None:
        while "another starts" not in caplog.text:  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.01)
        await terminate(running)

    watched = crew(STUBBORN, WAITS, count=1, worker_timeout=0.4)
    await run(watched, body)
    hung, *_ = (record for record in caplog.records if "hangs" in record.message)
    assert hung.args[0] == 0
    assert hung.args[1] >= 0.4
    assert "worker 0 was ended by SIGKILL; another starts in 0.5 s" in caplog.text


async def test_a_process_is_told_how_often_to_show_that_it_lives() -> None:
    intervals: list[float] = []

    def command(place: Place) -> list[str]:
        intervals.append(place.beat_interval)
        return [sys.executable, "-S", "-c", WAITS, place.to_text()]

    for timeout in (60.0, 0.0):
        assert await run(crew(WAITS, count=1, command=command, worker_timeout=timeout), terminate) == 0
    assert intervals == [7.5, 0.0]


async def test_silence_is_counted_from_the_last_sign_of_life(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    heard: list[float | None] = []
    begun = trio.current_time()

    async def listen() -> None:
        heard.append(await workers._silence(theirs, 4.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for pause in (0.5, 3.9, 0.0, 3.5):
            await trio.sleep(pause)
            await ours.send_all(workers.BEAT)
    assert heard == [pytest.approx(4.0)]
    assert trio.current_time() - begun == pytest.approx(0.5 + 3.9 + 3.5 + 4.0)


async def test_a_line_that_is_closed_is_no_silence(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    await ours.send_all(workers.BEAT)
    await ours.aclose()
    assert await workers._silence(theirs, 4.0) is None


async def test_a_machine_that_stood_still_has_silenced_nobody(mock_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    heard: list[float | None] = []

    async def listen() -> None:
        heard.append(await workers._silence(theirs, 4.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1000.0)  # nothing was said: nobody could
            await trio.testing.wait_all_tasks_blocked()
            await ours.send_all(workers.BEAT)
        await trio.testing.wait_all_tasks_blocked()
        assert heard == []
        await ours.aclose()
    assert heard == [None]


async def test_a_worker_shows_that_it_lives() -> None:
    ours, theirs = socket.socketpair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_supervisor, theirs, 0.01)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            said = b""
            while len(said) < 4:
                said += await stream.receive_some()
            assert said[:4] == b"R..."


async def test_a_worker_notices_the_end_of_its_supervisor() -> None:
    ours, theirs = socket.socketpair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_supervisor, theirs)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        assert await stream.receive_some(1) == b"R"
        await stream.aclose()
    ours, theirs = socket.socketpair()
    ours.close()
    await watch_supervisor(theirs)


# -- ports -------------------------------------------------------------------------------


def test_another_server_at_the_port_is_noticed() -> None:
    ports = SharedPorts(["127.0.0.1:0"])
    port = int(ports.describe("http")[0].rpartition(":")[2])
    opened = ports.open()
    with pytest.raises(OSError, match="in use"):
        SharedPorts([f"127.0.0.1:{port}"])
    with pytest.raises(OSError, match="in use"), open_listeners("127.0.0.1", port, ()):
        pass
    for one in opened:
        one.close()
    ports.close()


def test_a_port_without_a_process_takes_no_connections() -> None:
    ports = SharedPorts(["127.0.0.1:0"])
    port = int(ports.describe("http")[0].rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    ports.close()


@pytest.mark.parametrize("spreads", [False, True])
def test_addresses_of_every_kind(spreads: bool, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(shared_ports, "SPREADS", spreads)
    path = tmp_path / "b.sock"
    ports = SharedPorts(["127.0.0.1:0", "[::1]:0", f"unix:{path}"])
    assert len(ports.describe("http")) == 3
    opened = [*ports.open(), *ports.open()]
    assert len(opened) == 6
    for url in ports.describe("http"):
        if url.startswith("http"):
            host, _, port = url.removeprefix("http://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port))).close()
    for one in opened:
        one.close()
    ports.close()
    assert not path.exists()


def test_an_address_that_cannot_be_opened_leaves_none() -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        SharedPorts(["127.0.0.1:0", "nowhere"])


def test_a_port_that_has_been_taken_meanwhile() -> None:
    ports = SharedPorts(["127.0.0.1:0", "127.0.0.1:0"])
    ports._reserved[1].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        ports.open()
    ports.close()


async def test_a_listening_socket_that_is_inherited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        with open_listeners(None, 0, (f"fd:{given.detach()}",)) as (opened,):
            assert not opened.getblocking()
        assert opened.fileno() == -1
    wrong = pytest.raises(ValueError, match="number of a file descriptor")
    with wrong, open_listeners(None, 0, ("fd:x",)):
        pass


def test_a_place_survives_the_command_line() -> None:
    place = Place(number=1, count=2, folder="/x", control=4, listening=(5, 6))
    assert Place.from_text(place.to_text()) == place
