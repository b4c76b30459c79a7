"""Sends again what the clients of a transcript sent, at the times they did, with the ids of the new run."""

from __future__ import annotations

from collections import Counter

import trio

from broker.server.broker import Broker

from .harness import Harness, open_harness
from .transcript import CLOSED, RECEIVED, SENT, Entry, Transcript, ids_in
from .wire import OPCODES, write_frame

_PATIENCE = 5.0  # seconds to wait for an answer that came the first time


async def replay(transcript: Transcript, broker: Broker) -> Transcript:
    """Replay against a broker and return what went over the wire this time.

    A message is sent at its time, and not before each answer that had come before it, or five seconds have
    passed without. Where the server was free to choose an order at one moment, it may choose another now.
    `transcript.differences(replayed)` tells what was otherwise.

    Args:
        transcript: Recorded, or loaded from a file; it must be whole.
        broker: The broker to try; it is opened and closed.

    Raises:
        ValueError: Older lines of the transcript were not kept.
    """
    if transcript.total > len(transcript.entries):
        raise ValueError("the transcript is not whole: its oldest lines were not kept")
    async with open_harness(broker) as harness:
        run = _Replay(harness, list(transcript.entries))
        await run.run()
        harness.take_errors()
    return harness.transcript


class _Replay:
    def __init__(self, harness: Harness, entries: list[Entry]) -> None:
        self._harness = harness
        self._entries = entries
        self._streams: dict[str, trio.abc.Stream] = {}
        self._names: dict[str, str] = {}  # old connection -> new one
        self._ids: dict[str, str] = {}

    async def run(self) -> None:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            answers: Counter[str] = Counter()
            for entry in self._entries:
                if entry.mark == SENT:
                    answers[entry.connection] += 1
                elif entry.mark in {RECEIVED, CLOSED} and entry.connection:
                    await trio.sleep_until(start + entry.time)
                    await self._wait_answers(answers)
                    await self._act(entry, nursery)
            await self._wait_answers(answers)
            for stream in self._streams.values():
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

    async def _act(self, entry: Entry, nursery: trio.Nursery) -> None:
        stream = self._streams.get(entry.connection)
        if entry.mark == CLOSED:
            if stream is not None and entry.text != "the server closes":
                await stream.aclose()
            return
        if stream is None:
            stream = self._streams[entry.connection] = await self._harness.network.connect()
            self._names[entry.connection] = self._harness.wire.links[-1].name
            nursery.start_soon(_drain, stream)
        self._learn_ids()
        data = entry.payload
        if entry.kind in OPCODES:
            data = write_frame(entry.kind, data, masked=True)
        else:
            for old, new in self._ids.items():
                data = data.replace(old.encode(), new.encode())
        try:
            await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has ended sooner than it did then: the comparison tells
        await self._harness.settled()  # what was sent at one moment is handled in its order

    async def _wait_answers(self, wanted: Counter[str]) -> None:
        transcript = self._harness.transcript
        with trio.move_on_after(_PATIENCE):
            while True:
                found = Counter(one.connection for one in transcript.entries if one.mark == SENT)
                if all(found[self._names.get(name, "")] >= count for name, count in wanted.items()):
                    return
                await transcript.wait_entry()

    def _learn_ids(self) -> None:
        """Pair the ids of the two runs: the n-th that the server named then is the n-th that it names now."""
        then, now = (
            list(dict.fromkeys(found for one in entries if one.mark == SENT for found in ids_in(one.text)))
            for entries in (self._entries, self._harness.transcript.entries)
        )
        self._ids = dict(zip(then, now, strict=False))


async def _drain(stream: trio.abc.Stream) -> None:
    try:
        while await stream.receive_some():
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
