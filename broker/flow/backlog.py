"""Messages that wait for one peer, in order; single ones can be dropped out of the middle."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator

from .encoded import EncodedMessage, Key
from .overflow import Overflow

_DROPPABLE = (Overflow.DROP_OLDEST, Overflow.KEEP_LATEST)


class Backlog:
    """A queue of messages. The outbox holds it to its budget; see `Outbox`.

    Each message has a number, and dictionaries from numbers keep the order, so that every step costs the
    same however much waits. They are OrderedDicts: a plain dict is searched past the holes that its first
    entries leave.

    Attributes:
        bytes: What the messages count for together.
    """

    __slots__ = ("_by_key", "_droppable", "_next", "_waiting", "bytes")

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, EncodedMessage] = OrderedDict()
        self._droppable: OrderedDict[int, None] = OrderedDict()
        self._by_key: dict[Key, int] = {}
        self._next = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[EncodedMessage]:
        """Iterate over the messages in order; none may be added or taken meanwhile."""
        return iter(self._waiting.values())

    def put(self, message: EncodedMessage) -> None:
        """Add a message at the end."""
        number = self._next
        self._next += 1
        self._waiting[number] = message
        self.bytes += message.size
        if message.overflow in _DROPPABLE:
            self._droppable[number] = None
            if message.key is not None:
                self._by_key[message.key] = number

    def drop_oldest(self) -> bool:
        """Drop the oldest message that may be dropped for another; False if there is none."""
        number = next(iter(self._droppable), None)
        if number is None:
            return False
        self._remove(number)
        return True

    def drop_key(self, key: Key) -> bool:
        """Drop the latest message with this key; False if there is none."""
        number = self._by_key.get(key)
        if number is None:
            return False
        self._remove(number)
        return True

    def pop(self) -> EncodedMessage:
        """Take the first message.

        Raises:
            StopIteration: There is none.
        """
        return self._remove(next(iter(self._waiting)))

    def _remove(self, number: int) -> EncodedMessage:
        message = self._waiting.pop(number)
        self._droppable.pop(number, None)
        if message.key is not None and self._by_key.get(message.key) == number:
            del self._by_key[message.key]
        self.bytes -= message.size
        return message

    def take(self, max_bytes: int = sys.maxsize, max_packets: int = sys.maxsize) -> list[EncodedMessage]:
        """Take messages from the front.

        Args:
            max_bytes: About how much to take.
            max_packets: How many Engine.IO packets the messages may make; the first is taken anyway.
        """
        taken: list[EncodedMessage] = []
        while max_bytes > 0 and self._waiting:
            message = next(iter(self._waiting.values()))
            max_packets -= message.packets
            if taken and max_packets < 0:
                break
            max_bytes -= message.size
            taken.append(self.pop())
        return taken
