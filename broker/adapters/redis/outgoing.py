"""What is on its way to a Redis server: commands in order, and publications that may be held back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import trio
from attrs import define, field, frozen

_CHUNK: Final = 262_144  # bytes written at once


@define(eq=False)
class Waiter:
    """Waits for one reply, until it has left."""

    done: trio.Event = field(factory=trio.Event)
    reply: Any = None
    lost: bool = False
    left: bool = False

    def settle(self, reply: Any) -> None:
        """Take the reply."""
        self.reply = reply
        self.done.set()

    def lose(self) -> None:
        """Take note that there will be none."""
        self.lost = True
        self.done.set()


@frozen
class Command:
    """A command in the queue. With a waiter somebody waits for its reply, which may hold so many messages."""

    data: bytes
    waiter: Waiter | None = None
    has_reply: bool = True
    messages: int = 1
    queued_at: float = field(factory=trio.current_time)

    @property
    def is_publication(self) -> bool:
        """Whether it is for the other nodes, and nobody here waits for what comes of it."""
        return self.waiter is None and self.has_reply


class Outgoing:
    """Commands that wait to be written, and those that were written and wait for their replies.

    Publications are held back after each loss, until `release`; all else passes them. Among themselves they
    keep their order.

    Args:
        budget: Bytes that may wait.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._queue: deque[Command] = deque()
        self._held: deque[Command] = deque()
        self._sent: deque[Command] = deque()
        self._bytes = 0  # of the queue and of what is held
        self._wanted = trio.Event()
        self._settled = trio.Event()
        self.holds = False

    def offer(self, command: Command) -> bool:
        """Take a command if there is room for it; tell whether there was."""
        if self._bytes + len(command.data) > self._budget:
            return False
        self.put(command)
        return True

    def put(self, command: Command) -> None:
        """Take a command, whether there is room or not."""
        self._bytes += len(command.data)
        if self.holds and command.is_publication:
            self._held.append(command)
        else:
            self._queue.append(command)
            self._wanted.set()

    def release(self) -> None:
        """Hold publications back no longer."""
        self.holds = False
        self._queue += self._held
        self._held.clear()
        self._wanted.set()

    async def take(self) -> bytes:
        """Wait for commands; return the next ones in one piece. They count as sent."""
        while not self._queue:
            self._wanted = trio.Event()
            await self._wanted.wait()
        chunk: list[bytes] = []
        size = 0
        while self._queue and size < _CHUNK:
            command = self._queue.popleft()
            size += len(command.data)
            chunk.append(command.data)
            self._sent.append(command)
        self._bytes -= size
        return b"".join(chunk)

    @property
    def oldest_sent(self) -> Command | None:
        """The one whose answer is the next; None if none is due."""
        return self._sent[0] if self._sent else None

    def answered(self) -> None:
        """Take note that the oldest one sent has its answer."""
        self._sent.popleft()
        if self.is_settled:
            self._settled.set()

    @property
    def is_settled(self) -> bool:
        """Whether all there was has been sent and answered."""
        return not (self._sent or self._queue or self._held)

    @property
    def is_wanted(self) -> bool:
        """Whether anything of it is for other nodes, or has somebody who waits for its reply."""
        commands = (*self._sent, *self._queue, *self._held)
        return any(one.is_publication or (one.waiter and not one.waiter.left) for one in commands)

    async def settle(self) -> None:
        """Wait until all there is has been sent and answered."""
        while not self.is_settled:
            self._settled = trio.Event()
            await self._settled.wait()

    def publications(self) -> Iterator[Command]:
        """Yield the publications, those sent and not answered first."""
        return (one for one in (*self._sent, *self._queue, *self._held) if one.is_publication)

    def give_up(self) -> int:
        """Lose what was sent and not answered, and who waits; hold the publications that are left.

        Returns:
            How many publications were sent and not answered.
        """
        unconfirmed = sum(one.is_publication for one in self._sent)
        waiting = [one.waiter for one in (*self._sent, *self._queue) if one.waiter is not None]
        self._sent.clear()
        self._held = deque(self.publications())
        self._queue.clear()
        self._bytes = sum(len(one.data) for one in self._held)
        self.holds = True
        self._settled.set()
        for waiter in waiting:
            waiter.lose()
        return unconfirmed
