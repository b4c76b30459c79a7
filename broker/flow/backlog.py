"""Messages that wait for one peer: a bounded memory channel out of which single messages can be dropped."""

from __future__ import annotations

import sys

import trio

from .encoded import EncodedMessage


class _Entry:
    """A place in the channel; a dropped message leaves it empty, so that no order changes."""

    __slots__ = ("message",)

    def __init__(self, message: EncodedMessage) -> None:
        self.message: EncodedMessage | None = message


class Backlog:
    """A queue of messages, in order.

    Args:
        capacity: How many messages it can hold; the caller does not exceed it.

    Attributes:
        bytes: What the messages count for together.
        messages: How many there are.
    """

    __slots__ = ("_by_key", "_droppable", "_front", "_receive", "_send", "bytes", "messages")

    def __init__(self, capacity: int) -> None:
        self._send, self._receive = trio.open_memory_channel[_Entry](capacity)
        self._front: _Entry | None = None
        self._droppable: dict[_Entry, None] = {}
        self._by_key: dict[str, _Entry] = {}
        self.bytes = 0
        self.messages = 0

    def put(self, message: EncodedMessage) -> None:
        """Add a message at the end."""
        entry = _Entry(message)
        try:
            self._send.send_nowait(entry)
        except trio.WouldBlock:
            self._compact()
            self._send.send_nowait(entry)
        self.messages += 1
        self.bytes += message.size
        if message.droppable:
            self._droppable[entry] = None
            if message.key is not None:
                self._by_key[message.key] = entry

    def _compact(self) -> None:
        """Take the empty places out of a full channel."""
        for _ in range(self._receive.statistics().current_buffer_used):
            entry = self._receive.receive_nowait()
            if entry.message is not None:
                self._send.send_nowait(entry)

    def drop_oldest(self) -> bool:
        """Drop the oldest message that may be dropped; False if there is none."""
        entry = next(iter(self._droppable), None)
        if entry is None:
            return False
        self._drop(entry)
        return True

    def drop_key(self, key: str) -> bool:
        """Drop the latest message with this key; False if there is none."""
        entry = self._by_key.get(key)
        if entry is None:
            return False
        self._drop(entry)
        return True

    def _drop(self, entry: _Entry) -> None:
        self._forget(entry)
        entry.message = None

    def _forget(self, entry: _Entry) -> EncodedMessage:
        message = entry.message
        assert message is not None
        self._droppable.pop(entry, None)
        if message.key is not None and self._by_key.get(message.key) is entry:
            del self._by_key[message.key]
        self.messages -= 1
        self.bytes -= message.size
        return message

    def take(self, max_bytes: int = sys.maxsize, max_packets: int = sys.maxsize) -> list[EncodedMessage]:
        """Take messages from the front.

        Args:
            max_bytes: About how much to take.
            max_packets: How many Engine.IO packets the messages may make; the first is taken anyway.
        """
        taken: list[EncodedMessage] = []
        while max_bytes > 0 and (entry := self._peek()) is not None:
            assert entry.message is not None
            max_packets -= entry.message.packets
            if taken and max_packets < 0:
                break
            max_bytes -= entry.message.size
            taken.append(self._forget(entry))
            self._front = None
        return taken

    def _peek(self) -> _Entry | None:
        """Return the place of the message that is next, left where it is."""
        while self.messages:
            if self._front is None:
                self._front = self._receive.receive_nowait()
            if self._front.message is not None:
                return self._front
            self._front = None
        return None

    def close(self) -> None:
        """Forget everything."""
        self.take()
        self._send.close()
        self._receive.close()
