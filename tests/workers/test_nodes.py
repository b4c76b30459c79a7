"""Nodes behind a load balancer that is not sticky: a request is forwarded, or told where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from broker import Limits
from broker.cli import main
from broker.cli.arguments import build_parser
from broker.cli.commands import _settle
from broker.server.neighbours import Neighbours
from protocol.engineio.owner import Owner, owner_of
from tests.peers import ENGINE_PATH, HttpPeer, PollingPeer, http, quick_broker, websocket
from tests.workers.neighbours import nodes

POLLING = f"{ENGINE_PATH}&transport=polling"


@pytest.mark.clause("EIO-SID-5")
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_a_request_at_the_wrong_node_is_forwarded(kept: bool) -> None:
    async with nodes() as (first, second, _):
        session = await PollingPeer.open(second.door)
        assert owner_of(session.sid) == Owner(1, 0)
        async with await HttpPeer.open(first.door) as peer:
            if kept:
                assert (await peer.request("GET", "/")).status == 404
            path = f"{POLLING}&sid={session.sid}"
            assert (await peer.request("POST", path, body=b"40")).text == "ok"
            assert (await peer.request("GET", path)).text.startswith("40{")
        async with websocket(first.door, sid=session.sid) as upgraded:
            await upgraded.send_text("2probe")
            await upgraded.expect("3probe")
            session.where = first.door
            await session.expect("6")
            await upgraded.send_text("5")
            await upgraded.send_text('42["echo",1]')
            await upgraded.expect('42["echo",1]')
            assert first.broker.statistics().sessions == 0


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_a_node_that_is_not_known_is_named(kept: bool) -> None:
    async with nodes() as (first, _, third):
        session = await PollingPeer.open(third.door)
        async with await HttpPeer.open(first.door) as peer:
            if kept:
                assert (await peer.request("GET", "/")).status == 404
            answer = await peer.request("GET", f"{POLLING}&sid={session.sid}")
            assert (answer.status, answer.json["code"]) == (421, 112)
            assert answer.json["detail"] == "node 2 holds the session"
        assert first.broker.statistics().refusals == {"SESSION_ELSEWHERE": 1}


async def test_nodes_that_forward_to_themselves_do_not_do_it_for_ever() -> None:
    """The second node has been named to the third one as the first."""
    async with nodes() as (_, second, third):
        neighbours = third.broker._neighbours
        assert neighbours is not None
        wrong = Neighbours(Owner(2, 0), None, Limits(), {1: ("127.0.0.1", third.door.port)})
        neighbours._peers = wrong._peers
        session = await PollingPeer.open(second.door)
        answer = await http(third.door, "GET", f"{POLLING}&sid={session.sid}")
        assert (answer.status, answer.json["code"]) == (421, 112)


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_a_node_that_cannot_be_reached(kept: bool) -> None:
    async with nodes() as (first, _, _third):
        neighbours = first.broker._neighbours
        assert neighbours is not None
        with trio.socket.socket() as nobody:
            await nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            neighbours._peers = Neighbours(Owner(0, 0), None, Limits(), {5: ("127.0.0.1", port)})._peers
            async with await HttpPeer.open(first.door) as peer:
                if kept:
                    assert (await peer.request("GET", "/")).status == 404
                answer = await peer.request("GET", f"{POLLING}&sid=xxxxxxxxxxxxxxxxxxFA")
                assert (answer.status, answer.json["code"]) == (421, 112)


async def test_a_node_alone_knows_that_it_has_no_workers() -> None:
    async with nodes() as (first, _, _third):
        answer = await http(first.door, "GET", f"{POLLING}&sid=xxxxxxxxxxxxxxxxxxAB")
        assert (answer.status, answer.json["code"]) == (400, 1)


# -- the command line --------------------------------------------------------------------


def test_the_options_reach_the_broker() -> None:
    broker: Any = quick_broker()
    line = "serve x:y --node 3 --peer 0=10.0.0.1:3000 --peer 1=[::1]:4000"
    _settle(broker, None, build_parser().parse_args(line.split()))
    neighbours = broker._neighbours
    assert neighbours.mark == "DA"
    known = {number: (one._host, one._port) for number, one in neighbours._peers.items()}
    assert known == {0: ("10.0.0.1", 3000), 1: ("::1", 4000)}


def test_without_a_number_there_is_no_mark() -> None:
    broker: Any = quick_broker()
    _settle(broker, None, build_parser().parse_args(["serve", "x:y"]))
    assert broker._neighbours is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--node 64", "from 0 to 63"),
        ("--node x", "from 0 to 63"),
        ("--node 1 --peer 2", "'2' is not N=HOST:PORT"),
        ("--node 1 --peer 2=unix:/x", "N=HOST:PORT"),
        ("--node 1 --peer x=1.1.1.1:1", "from 0 to 63"),
        ("--workers 0", "1 or more"),
    ],
)
def test_options_that_cannot_be(options: str, told: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "x:y", *options.split()])
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--peer 1=1.1.1.1:1", "--peer needs --node"),
        ("--workers 65", "64 workers at most"),
    ],
)
def test_options_that_do_not_go_together(options: str, told: str, capsys: Any) -> None:
    assert main(["serve", "x:y", *options.split()]) == 2
    assert told in capsys.readouterr().err


def test_the_guide_knows_the_options() -> None:
    text = (Path(__file__).parents[2] / "docs" / "workers.md").read_text()
    assert all(option in text for option in ("--workers", "--node", "--peer"))
