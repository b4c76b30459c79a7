"""The example of docs/recovery.md does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import trio

from broker.testing import open_harness

EXAMPLE = Path(__file__).parents[3] / "examples" / "history" / "rooms.py"


async def test_the_example(autojump_clock: Any) -> None:
    spec = importlib.util.spec_from_file_location("rooms", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    async with open_harness(module.broker) as harness:
        ada, bob = await harness.connect(), await harness.connect()
        for client in (ada, bob):
            await client.received("welcome", {"missed": None})
        first = await ada.call("enter", "tea", None)
        assert (first["said"], first["complete"]) == ([], True)
        ada.emit("say", "tea", "hello")
        await ada.received("said", "tea", "hello")
        past = await bob.call("enter", "tea", None)
        assert [(one["event"], one["args"]) for one in past["said"]] == [("said", ["tea", "hello"])]
        ada.emit("say", "tea", "again")
        await bob.received("said", "tea", "again")
        # One loses the connection and comes back, the other does not.
        ada.wire.refuse()
        ada.wire.cut()
        bob.emit("say", "tea", "are you there?")
        await harness.settled()
        ada.wire.heal()
        await ada.received("said", "tea", "again")
        await ada.received("said", "tea", "are you there?")
        assert ada.client.recovered
        gone = bob.id
        bob.wire.refuse()
        bob.wire.cut()
        await trio.sleep(70)
        await ada.received("gone", gone)
        await bob.close()
