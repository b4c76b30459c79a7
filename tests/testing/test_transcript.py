"""Transcripts: what they show, that they can be saved, loaded, replayed and compared."""

from __future__ import annotations

import pytest

from broker import Broker, Socket
from broker.testing import Transcript, open_harness, replay


def make_broker(greeting: str = "hello") -> Broker:
    broker = Broker()

    @broker.on("greet")
    async def greet(socket: Socket, name: str) -> str:
        socket.emit("greeted", f"{greeting} {name}")
        return "done"

    return broker


async def record(via: str) -> Transcript:
    async with open_harness(make_broker()) as harness:
        client = await harness.connect(transport=via)
        await client.acked("greet", "Ada", answer="done")
        await client.received("greeted", "hello Ada")
        await harness.sleep(60)
        client.emit("greet", "Bob")
        await client.received("greeted", "hello Bob")
    return harness.transcript


async def test_it_shows_times_directions_and_ends(autojump_clock):
    transcript = await record("websocket")
    lines = transcript.pretty().splitlines()
    assert lines[0].split() == ["0.000", "#1", "<", "GET", "/socket.io/?EIO=4&transport=websocket"]
    assert '       0.000    #1 < 420["greet","Ada"]' in lines
    assert '       0.000    #1 > 42["greeted","hello Ada"]' in lines
    assert "      25.000    #1 > 2" in lines
    assert "      25.000    #1 < 3" in lines
    assert lines[-1].endswith("closes")


async def test_an_upgrade_can_be_replayed(autojump_clock):
    async with open_harness(make_broker()) as harness:
        polling = await harness.polling_peer()
        await polling.join()
        peer = await harness.peer(sid=polling.sid)
        await peer.send("2probe")
        await peer.expect("3probe")
        await peer.send("5")
        await peer.send("420", ["greet", "Ada"])
        await peer.expect("42", ["greeted", "hello Ada"])
        await peer.expect("430", ["done"])
        await peer.close()
    replayed = await replay(harness.transcript, make_broker())
    assert harness.transcript.differences(replayed) == []


@pytest.mark.parametrize("via", ["websocket", "polling"])
async def test_it_survives_a_file_and_a_replay(autojump_clock, tmp_path, via):
    transcript = await record(via)
    transcript.save(tmp_path / "run.jsonl")
    loaded = Transcript.load(tmp_path / "run.jsonl")
    assert list(loaded.entries) == list(transcript.entries)
    replayed = await replay(loaded, make_broker())
    assert loaded.differences(replayed) == []


async def test_a_replay_shows_what_has_changed(autojump_clock):
    transcript = await record("websocket")
    replayed = await replay(transcript, make_broker("good day"))
    assert [line for line in transcript.differences(replayed) if line[0] in "+-" and line[1:2] == "#"] == [
        '-#1 > 42["greeted","hello Ada"]',
        '+#1 > 42["greeted","good day Ada"]',
        '-#1 > 42["greeted","hello Bob"]',
        '+#1 > 42["greeted","good day Bob"]',
    ]


async def test_a_transcript_with_gaps_is_not_replayed(autojump_clock):
    async with open_harness(make_broker(), transcript_limit=2) as harness:
        await harness.connect()
    assert len(harness.transcript.entries) == 2
    assert "older lines were not kept" in harness.transcript.pretty()
    with pytest.raises(ValueError, match="not whole"):
        await replay(harness.transcript, make_broker())


def test_a_file_that_is_no_transcript_is_refused(tmp_path):
    (tmp_path / "x").write_text('{"time": 1}\n')
    with pytest.raises(ValueError, match="line 1"):
        Transcript.load(tmp_path / "x")
