"""`--workers` with real processes: one port, sessions found by any of them, deaths survived, a clean end."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest
import trio

from protocol.engineio.owner import owner_of
from tests.peers import PollingPeer, client, websocket
from tests.workers.processes import gone, serving_processes, started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


async def sessions_of_both(port: int) -> dict[int, PollingPeer]:
    """Open sessions until each worker holds one."""
    found: dict[int, PollingPeer] = {}
    for _ in range(200):
        peer = await PollingPeer.open(port)
        owner = owner_of(peer.sid)
        assert owner is not None
        found.setdefault(owner.worker, peer)
        if len(found) == 2:
            return found
    raise AssertionError("one worker takes all connections")


async def test_any_worker_takes_a_request_of_any_session() -> None:
    async with serving_processes() as server:
        found = await sessions_of_both(server.port)
        pids = server.pids()
        for number, peer in found.items():
            # Each request has a connection of its own, which any of the two may accept.
            await peer.join()
            for turn in range(12):
                await peer.send(f'42{turn}["pid"]')
                await peer.expect(f"43{turn}[{pids[number]}]")
        sid = found[1].sid
        async with websocket(server.port, sid=sid) as upgraded:
            await upgraded.send_text("2probe")
            await upgraded.expect("3probe")
            await found[1].expect("6")
            await upgraded.send_text("5")
            await upgraded.send_text('4299["pid"]')
            await upgraded.expect(f"4399[{pids[1]}]")
        assert await server.end() == 0
        assert [record["level"] for record in server.log if record["level"] != "info"] == []
        for pid in pids.values():
            await gone(pid)


async def test_a_worker_that_dies_is_replaced() -> None:
    async with serving_processes() as server:
        found = await sessions_of_both(server.port)
        killed = server.pids()[0]
        os.kill(killed, signal.SIGKILL)
        await server.logged("worker 0 was ended by SIGKILL; another starts in 0.5 s")
        # While it is away, and afterwards: whoever accepts says that the session is gone.
        assert (await found[0].get()).json == {"code": 1, "message": "Session ID unknown"}
        assert await found[1].status() == 200
        await server.logged("ready, process", times=3)
        answer = await found[0].get()
        assert (answer.status, answer.json["code"]) == (400, 1)
        assert await found[1].status() == 200
        assert server.pids()[0] != killed
        await sessions_of_both(server.port)
        assert await server.end(signal.SIGINT) == 0


@pytest.mark.parametrize("how", ["a handler blocks", "the process is stopped"])
async def test_a_worker_that_hangs_is_replaced(how: str) -> None:
    async with serving_processes("--worker-timeout", "3") as server, client(server.port) as peer:
        await peer.send_text('420["pid"]')
        pid = int(str(await peer.receive()).removeprefix("430[").removesuffix("]"))
        (hung,) = (number for number, one in server.pids().items() if one == pid)
        if how == "a handler blocks":
            await peer.send_text('42["hang"]')
        else:
            os.kill(pid, signal.SIGSTOP)
        (record,) = await server.logged(f"worker {hung} hangs: silent for .* s, and killed")
        silent = float(record["message"].partition(" for ")[2].split()[0])
        assert 3 <= silent < 30
        assert record["level"] == "error"
        await server.logged(f"worker {hung} was ended by SIGKILL; another starts in")
        await gone(pid)
        with trio.fail_after(30):
            while server.pids()[hung] == pid:  # noqa: ASYNC110 - the log tells nobody
                await trio.sleep(0.02)
        await sessions_of_both(server.port)
        assert await server.end() == 0


async def test_workers_end_with_their_supervisor() -> None:
    async with serving_processes() as server:
        pids = server.pids()
        assert await server.end(signal.SIGKILL) == -signal.SIGKILL
        for pid in pids.values():
            await gone(pid)
        await server.logged("the supervisor is gone", times=2)


async def test_what_is_wrong_with_the_application_is_said_once() -> None:
    async with started("tests.workers.nothing:broker") as server:
        with trio.fail_after(30):
            assert await server.process.wait() == 2
        await server.logged("there is no module tests.workers.nothing")
        assert len([record for record in server.log if "no module" in record["message"]]) == 1


async def test_an_address_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started("tests.workers.application:broker", "--bind", address) as server:
            with trio.fail_after(30):
                assert await server.process.wait() == 1
            await server.logged(f"cannot listen on .*{address}: the address is in use")
