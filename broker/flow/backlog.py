"""Messages that wait for one peer, in order; single ones can be dropped out of the middle."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator

from .encoded import EncodedMessage, Key
from .overflow import Overflow

_DROPPABLE = (Overflow.DROP_OLDEST, Overflow.KEEP_LATEST)
_FEW = 64  # places of dropped messages that are not worth a sweep


class Backlog:
    """A queue of messages. The outbox holds it to its budget; see `Outbox`.

    A stalled client has hundreds of messages here, which it shares with others: what weighs is the queue
    itself, and that is one pointer a message. What leaves from the middle leaves an empty place.

    Attributes:
        bytes: What the messages count for together.
    """

    __slots__ = ("_by_key", "_count", "_droppable", "_first", "_places", "bytes")

    def __init__(self) -> None:
        # The first place is never empty. Places keep their numbers while those before them leave.
        self._places: deque[EncodedMessage | None] = deque()
        self._first = 0
        self._count = 0
        self._droppable: deque[int] = deque()
        self._by_key: dict[Key, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[EncodedMessage]:
        """Iterate over the messages in order; none may be added or taken meanwhile."""
        return (message for message in self._places if message is not None)

    @property
    def first(self) -> EncodedMessage:
        """The message that is next.

        Raises:
            IndexError: There is none.
        """
        message = self._places[0]
        assert message is not None
        return message

    def put(self, message: EncodedMessage) -> None:
        """Add a message at the end."""
        if message.overflow in _DROPPABLE:
            number = self._first + len(self._places)
            self._droppable.append(number)
            if message.key is not None:
                self._by_key[message.key] = number
        self._places.append(message)
        self._count += 1
        self.bytes += message.size

    def drop_oldest(self) -> bool:
        """Drop the oldest message that may be dropped for another; False if there is none."""
        while self._droppable:
            number = self._droppable.popleft()
            if number >= self._first and self._places[number - self._first] is not None:
                self._remove(number)
                return True
        return False

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
            IndexError: There is none.
        """
        return self._remove(self._first)

    def _remove(self, number: int) -> EncodedMessage:
        message = self._places[number - self._first]
        assert message is not None
        self._places[number - self._first] = None
        self._count -= 1
        self.bytes -= message.size
        if message.key is not None and self._by_key.get(message.key) == number:
            del self._by_key[message.key]
        self._tidy()
        return message

    def _tidy(self) -> None:
        """Forget empty places: those in front, and all before they outnumber the messages."""
        while self._places and self._places[0] is None:
            self._places.popleft()
            self._first += 1
        while self._droppable and self._droppable[0] < self._first:
            self._droppable.popleft()
        if len(self._places) > 2 * self._count + _FEW:
            self._sweep()

    def _sweep(self) -> None:
        waiting = list(self)
        for kept in (self._places, self._droppable, self._by_key):
            kept.clear()
        self._count = self.bytes = 0
        for message in waiting:
            self.put(message)

    def take(self, max_bytes: int = sys.maxsize, max_packets: int = sys.maxsize) -> list[EncodedMessage]:
        """Take messages from the front.

        Args:
            max_bytes: About how much to take.
            max_packets: How many Engine.IO packets the messages may make; the first is taken anyway.
        """
        taken: list[EncodedMessage] = []
        while max_bytes > 0 and self._count:
            message = self.first
            max_packets -= message.packets
            if taken and max_packets < 0:
                break
            max_bytes -= message.size
            taken.append(self.pop())
        return taken
