"""A request reaches the process that holds its session, whoever accepts the connection."""

from __future__ import annotations

import array
import resource
import socket
from typing import Any

import pytest
import trio

from broker import Limits
from broker.server.neighbours import Neighbours
from protocol.engineio.owner import Owner, owner_of
from tests.peers import (
    ENGINE_PATH,
    BareWebSocket,
    HttpPeer,
    PollingPeer,
    http,
    upgrade_head,
    websocket,
)
from tests.workers.neighbours import Worker, workers

POLLING = f"{ENGINE_PATH}&transport=polling"
both_ways = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


async def opened(worker: Worker) -> PollingPeer:
    """Open a session on polling; each of its requests has a connection of its own."""
    return await PollingPeer.open(worker.door)


def at(peer: PollingPeer, worker: Worker) -> PollingPeer:
    """Return the same client, which comes to this worker from now on."""
    peer.where = worker.door
    return peer


@pytest.mark.clause("EIO-SID-5")
async def test_a_session_id_names_its_worker_and_keeps_its_form() -> None:
    async with workers(node=3) as (first, second):
        for number, worker in enumerate((first, second)):
            peer = await opened(worker)
            assert len(peer.sid) == 20
            assert owner_of(peer.sid) == Owner(3, number)


async def test_ids_of_the_application_get_the_mark() -> None:
    made = iter(["a", "b"])
    async with workers(generate_id=lambda request: next(made)) as (first, second):
        peer = await opened(second)
        assert peer.sid == "aAB"
        await at(peer, first).join()


@both_ways
async def test_polling_at_the_other_worker(tls: bool) -> None:
    async with workers(tls=tls) as (first, second):
        peer = at(await opened(first), second)
        await peer.join()
        await peer.send('421["echo","x"]')
        await peer.expect('42["echo","x"]')
        await peer.expect('431["x"]')
        assert first.broker.statistics().sockets == {"/": 1}
        assert second.broker.statistics().sessions == 0


@both_ways
async def test_an_upgrade_at_the_other_worker(tls: bool) -> None:
    async with workers(tls=tls) as (first, second):
        peer = at(await opened(first), second)
        await peer.join()
        async with websocket(second.door, sid=peer.sid) as upgraded:
            await upgraded.send_text("2probe")
            await upgraded.expect("3probe")
            await peer.expect("6")
            await upgraded.send_text("5")
            for number in range(50):
                await upgraded.send_text(f'42{number}["echo","{"x" * 5_000}"]')
            for number in range(50):
                await upgraded.expect(f'42["echo","{"x" * 5_000}"]')
                await upgraded.expect(f'43{number}["{"x" * 5_000}"]')
            assert first.broker.statistics().sessions == 1


async def test_a_connection_that_stays_open_carries_sessions_of_both() -> None:
    async with workers() as (first, second):
        one, other = await opened(first), await opened(second)
        async with await HttpPeer.open(second.door) as peer:
            assert (await peer.request("GET", "/")).status == 404
            for session in (one, other, one):
                path = f"{POLLING}&sid={session.sid}"
                assert (await peer.request("POST", path, body=b"40")).text == "ok"
                assert (await peer.request("GET", path)).text.startswith("40{")
                assert (await peer.request("POST", path, body=b"41")).text == "ok"


async def test_an_upgrade_on_a_connection_that_stays_open() -> None:
    async with workers() as (first, second):
        session = await opened(first)
        await session.join()
        target = f"{ENGINE_PATH}&transport=websocket&sid={session.sid}"
        async with await HttpPeer.open(second.door) as peer:
            assert (await peer.request("GET", "/")).status == 404
            offer = ("Sec-WebSocket-Protocol", "chat, superchat")
            await peer.send_raw(upgrade_head(target, peer.authority, [offer]))
            bare = await BareWebSocket.answered(peer)
            assert bare.answer.status == 101
            assert bare.answer.header("sec-websocket-protocol") == "chat"
            await bare.send_frame(1, b"2probe")
            frame = await bare.receive_frame()
            assert frame is not None
            assert frame.payload == b"3probe"
            await session.expect("6")
            await bare.send_frame(1, b"5")
            await bare.send_frame(1, b'42["echo","x"]')
            frame = await bare.receive_frame()
            assert frame is not None
            assert frame.payload == b'42["echo","x"]'
            await bare.send_frame(1, b"1")
            assert (await bare.expect_close()).code == 1000


async def test_a_refused_upgrade_on_a_connection_that_stays_open() -> None:
    async with workers() as (first, second):
        session = await opened(first)
        async with await HttpPeer.open(second.door) as peer:
            assert (await peer.request("GET", "/")).status == 404
            target = f"{ENGINE_PATH}&transport=websocket&sid={session.sid}"
            await peer.send_raw(upgrade_head(target, peer.authority, [("Origin", "https://evil.example")]))
            answer = await peer.receive()
            assert (answer.status, answer.json["code"]) == (403, 100)


@both_ways
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_a_session_of_a_worker_that_is_gone_is_unknown(tls: bool, kept: bool) -> None:
    async with workers(tls=tls) as (first, _):
        async with await HttpPeer.open(first.door) as peer:
            if kept:
                assert (await peer.request("GET", "/")).status == 404
            answer = await peer.request("GET", f"{POLLING}&sid=xxxxxxxxxxxxxxxxxxAC")
            assert (answer.status, answer.json) == (400, {"code": 1, "message": "Session ID unknown"})
        assert first.broker.statistics().refusals == {"SESSION_UNKNOWN": 1}


async def test_what_the_owner_answers_is_what_the_client_gets() -> None:
    async with workers(max_payload_bytes=100, cors_allowed_origins=["https://a.example"]) as (first, second):
        session = await opened(first)
        async with await HttpPeer.open(second.door) as peer:
            assert (await peer.request("GET", "/")).status == 404
            path = f"{POLLING}&sid={session.sid}"
            answer = await peer.request("POST", path, [("Origin", "https://a.example")], body=b"4" * 101)
            assert (answer.status, answer.json["code"]) == (413, 101)
            assert answer.header("access-control-allow-origin") == "https://a.example"
            assert len(answer.all("date")) == 1
            assert first.broker.statistics().refusals == {"PAYLOAD_TOO_LARGE": 1}
            assert not second.broker.statistics().refusals


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_a_client_that_gives_up_its_poll(kept: bool) -> None:
    async with workers() as (first, second):
        session = at(await opened(first), second)
        await session.join()
        async with await HttpPeer.open(second.door) as peer:
            if kept:
                assert (await peer.request("GET", "/")).status == 404
            await peer.send("GET", f"{POLLING}&sid={session.sid}")
            held = first.broker._engine.sessions[session.sid]
            with trio.fail_after(5):
                while not held.transport._parked:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.001)
        with trio.fail_after(5):
            await held.wait_ended()
        assert first.broker.statistics().disconnects == {"transport error": 1}


async def test_an_owner_that_ends_while_it_is_asked() -> None:
    async with workers() as (first, _), _deaf_neighbour(first) as deaf:
        async with await HttpPeer.open(first.door) as peer:
            assert (await peer.request("GET", "/")).status == 404
            await peer.send("GET", f"{POLLING}&sid=xxxxxxxxxxxxxxxxxxAJ")
            connection = await deaf.accept()
            await connection.receive_some()
            await connection.aclose()
            answer = await peer.receive()
            assert (answer.status, answer.json["code"]) == (400, 1)


async def test_an_owner_that_does_not_answer() -> None:
    options: Any = {"ping_interval": 0.05, "ping_timeout": 0.05, "limits": Limits(body_timeout=0.05)}
    async with workers(**options) as (first, _), _deaf_neighbour(first):
        async with await HttpPeer.open(first.door) as peer:
            assert (await peer.request("GET", "/")).status == 404
            await peer.send("GET", f"{POLLING}&sid=xxxxxxxxxxxxxxxxxxAJ")
            answer = await peer.receive()
            assert (answer.status, answer.json["code"]) == (504, 113)
        assert first.broker.statistics().refusals == {"OWNER_SILENT": 1}


def _deaf_neighbour(worker: Worker) -> trio.SocketListener:
    """Listen in the place of worker 9, which takes connections and serves none."""
    neighbours = worker.broker._neighbours
    assert neighbours is not None
    listening = trio.socket.socket(socket.AF_UNIX)
    listening._sock.bind(str(neighbours._path(9)))
    listening.listen()
    return trio.SocketListener(listening)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0\0",
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\1\0\0\0\0{",
        b"\0\0\0\2\0\0\0\0{}",
        b"\0\0\0\2\0\0\0\0[]",
        b"\0\0\0\x0f\0\0\0\0" + b'{"kind":"what"}',
        b"\0\0\0\x11\0\0\0\1" + b'{"kind":"socket"}' + b"x",
    ],
)
async def test_nonsense_among_neighbours_changes_nothing(said: bytes) -> None:
    async with workers() as (first, _):
        neighbours = first.broker._neighbours
        assert neighbours is not None
        stream = await trio.open_unix_socket(str(neighbours._path(0)))
        async with stream:
            await stream.send_all(said)
            await stream.send_eof()
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        assert (await http(first.door, "GET", "/")).status == 404


async def test_a_socket_passed_with_nonsense_is_closed() -> None:
    async with workers() as (first, _):
        neighbours = first.broker._neighbours
        assert neighbours is not None
        ours, theirs = socket.socketpair()
        connection = trio.socket.socket(socket.AF_UNIX)
        await connection.connect(str(neighbours._path(0)))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        await connection.sendmsg([b"\0\0\0\x01\0\0\0\0{"], rights)
        theirs.close()
        with trio.fail_after(5):
            assert await connection.recv(1) == b""
        connection.close()
        ours.settimeout(5)
        assert await trio.to_thread.run_sync(ours.recv, 1) == b""
        ours.close()


async def test_without_a_descriptor_left_what_is_passed_on_waits(caplog: Any) -> None:
    async with workers() as (first, second):
        peer = await opened(first)
        neighbours = first.broker._neighbours
        assert neighbours is not None
        with socket.socket(socket.AF_UNIX) as waiting:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                waiting.connect(str(neighbours._path(0)))
                with trio.fail_after(5):
                    while "cannot accept" not in caplog.text:  # noqa: ASYNC110 - nothing else tells
                        await trio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await at(peer, second).join()


async def test_a_neighbour_that_takes_nothing_is_given_up(autojump_clock: Any, tmp_path: Any) -> None:
    """Its backlog is full: it hangs. The client is answered as if it were gone."""
    limits = Limits(handover_timeout=1.0)
    neighbours = Neighbours(Owner(0, 0), tmp_path, limits)
    hung = trio.socket.socket(socket.AF_UNIX)
    hung._sock.bind(str(tmp_path / "1.sock"))
    hung.listen(0)
    opened = [await neighbours.neighbour(1).open_stream("", secure=False) for _ in range(3)]
    assert opened[-1] is None
    for one in opened:
        if one is not None:
            await one.aclose()
    hung.close()


async def test_a_broker_cannot_settle_once_it_is_open(tmp_path: Any) -> None:
    async with workers() as (first, _):
        with pytest.raises(Exception, match="open already"):
            first.broker.settle_beside(Neighbours(Owner(0, 0), tmp_path, Limits()))


async def test_the_address_of_the_client_is_passed_on() -> None:
    seen: list[tuple[str, bool]] = []
    async with workers(tls=True) as (first, second):

        @first.broker.engine.use
        def note(request: Any) -> None:
            seen.append((request.address, request.secure))

        session = at(await opened(first), second)
        await session.join()
        assert seen == [("127.0.0.1", True)] * len(seen)
        assert len(seen) >= 3
