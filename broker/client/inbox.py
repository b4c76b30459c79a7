"""What has come in and waits for the application, in order."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """A queue whose producer asks, after each item, whether to go on.

    Args:
        limit: How many items may wait before it is crowded.

    Attributes:
        dropped: How many have been dropped.
    """

    __slots__ = ("_items", "_limit", "_news", "dropped")

    def __init__(self, limit: int) -> None:
        self._items: deque[Item] = deque()
        self._limit = limit
        self._news: trio.Event | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def crowded(self) -> bool:
        """Whether no more should be put in for now."""
        return len(self._items) >= self._limit

    def put(self, item: Item) -> None:
        """Add an item, and wake who waits for one."""
        self._items.append(item)
        self.poke()

    def put_newest(self, item: Item) -> None:
        """Add an item in the place of the oldest one if it is crowded."""
        if self.crowded:
            self._items.popleft()
            self.dropped += 1
        self.put(item)

    def poke(self) -> None:
        """Wake who waits in `wait`."""
        if self._news is not None:
            self._news.set()
            self._news = None

    def pop(self) -> Item:
        """Take out the first item."""
        return self._items.popleft()

    async def wait(self) -> None:
        """Wait for the next `put` or `poke`."""
        if self._news is None:
            self._news = trio.Event()
        await self._news.wait()
