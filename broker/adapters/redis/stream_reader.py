"""Reads a stream from where it stopped, across each loss of the connection; tells if entries are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from broker.adapters.base import BusHost
from broker.adapters.errors import BusError, BusUnavailable
from protocol.bus.cluster import ClusterMessage
from protocol.bus.commands import Part
from protocol.bus.streams import read_entry

from .client import RedisClient

logger = logging.getLogger(__name__)

_RETRY: Final = 0.05  # seconds between two looks whether the connection is back
_REFUSED_RETRY: Final = 1.0
_START: Final = b"0-0"

TakeEntry = Callable[[str, ClusterMessage, Sequence[bytes]], None]


class StreamReader:
    """One stream.

    Args:
        client: A connection of its own: reading blocks it.
        stream: Its name.
        host: The broker's side.
        take: Takes each entry: id, message, fields and values.
        count: Entries read at once.
        block: Seconds to wait for one.

    Attributes:
        started: Called when it knows where it begins.
        continued: Called after each read; with False if something is missing, after a loss or since it was
            trimmed before it could be read.
    """

    def __init__(
        self,
        client: RedisClient,
        stream: str,
        host: BusHost,
        take: TakeEntry,
        *,
        count: int,
        block: float,
    ) -> None:
        self._client = client
        self._stream = stream
        self._host = host
        self._take = take
        self._count = count
        self._block = block
        self._last = _START
        self.continued: Callable[[bool], None] = lambda complete: None
        self.started: Callable[[], None] = lambda: None

    @property
    def position(self) -> str:
        """The id of the last entry that was read."""
        return self._last.decode()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read from now on, until cancelled."""
        self._last = await self._newest()
        self.started()
        task_status.started()
        while True:
            try:
                await self._read_on()
            except BusUnavailable as error:
                self._client.drop(str(error))
                self.continued(await self._find_back())
            except BusError as error:
                logger.error("stream %s cannot be read: %s", self._stream, error)
                await trio.sleep(_REFUSED_RETRY)

    async def begin_with(self, command: Sequence[Part]) -> None:
        """Make sure that there is an entry to begin with: add one if there is none.

        Raises:
            BusError: The server cannot be asked.
        """
        if await self._newest() == _START:
            await self._client.ask(*command)

    async def _newest(self) -> bytes:
        found = await self._client.ask("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        return bytes(found[0][0]) if found else _START

    async def _read_on(self) -> None:
        while True:
            # The server answers after that time by itself; if it does not, it hangs.
            reply = await self._client.ask(
                "XREAD", "COUNT", self._count, "BLOCK", int(self._block * 1000),
                "STREAMS", self._stream, self._last, timeout=self._block + 3.0, messages=self._count,
            )  # fmt: skip
            for entries in (reply or {}).values():
                # Only who is far behind can have been overtaken by the trimming.
                if len(entries) == self._count and not await self._is_held():
                    self.continued(False)
                for entry_id, fields in entries:
                    self._last = entry_id
                    self._hand_on(entry_id, fields)
            self.continued(True)

    async def _is_held(self) -> bool:
        """Tell whether nothing behind the last entry that was read has been trimmed."""
        if self._last == _START:
            return True
        oldest = await oldest_entry(self._client, self._stream)
        return oldest is None or _numbers(oldest) <= _numbers(self._last)

    def _hand_on(self, entry_id: bytes, fields: Sequence[bytes]) -> None:
        if sum(map(len, fields)) > self._host.limits.bus_message_bytes:
            self._host.events["oversized bus message"] += 1
            return
        message = read_entry(fields, self._host.depth)
        if message is None:
            self._host.events["malformed bus message"] += 1
            return
        try:
            self._take(entry_id.decode(), message, fields)
        except Exception:
            self._host.events["failed"] += 1
            logger.exception("an entry of stream %s could not be handled", self._stream)

    async def _find_back(self) -> bool:
        """Wait until the stream can be read again; tell whether it goes on where it was left."""
        while True:
            try:
                complete = await self._goes_on()
            except BusError:
                await trio.sleep(_RETRY)
            else:
                return complete

    async def _goes_on(self) -> bool:
        if self._last == _START:
            return True
        newest: Any = await self._newest()
        if _numbers(newest) < _numbers(self._last):
            self._last = _START  # another stream under the same name: what is in it is new
            return False
        return bool(await self._client.ask("XRANGE", self._stream, self._last, self._last))


async def oldest_entry(client: RedisClient, stream: str) -> bytes | None:
    """Return the id of the oldest entry that a stream holds; None if it holds none."""
    found = await client.ask("XRANGE", stream, "-", "+", "COUNT", 1)
    return bytes(found[0][0]) if found else None


def _numbers(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)
