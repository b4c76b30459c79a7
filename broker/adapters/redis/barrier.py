"""Lets a node wait after an outage until the others hear it again.

Redis keeps nothing for who is not subscribed: what the first node that is back publishes at once is lost for
all that come a moment later. See docs/adr/0024.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from attrs import define

from broker.adapters.errors import BusRefused

from .timing import delays

logger = logging.getLogger(__name__)

COUNT_INTERVAL: Final = 0.5  # seconds: one that has joined since the last count is not waited for
_LAST_DELAY: Final = 0.2  # seconds between two questions


@define
class Barrier:
    """Counts the nodes by a channel that each of them hears.

    Attributes:
        ask: Asks the server.
        verb: NUMSUB, or SHARDNUMSUB for sharded channels.
        channel: The channel.
        grace: Seconds, at most, to wait for nodes that were there before.
        expected: How many nodes there were last, this one included.
    """

    ask: Callable[..., Awaitable[Any]]
    verb: str
    channel: str
    grace: float
    expected: int = 0
    _waited: float = 0.0
    _is_refused: bool = False

    async def count(self) -> None:
        """Find out how many nodes there are now.

        Raises:
            BusUnavailable: The server does not answer.
        """
        self.expected = await self._number()

    async def wait(self) -> None:
        """Wait until as many nodes are there as before, or the grace time is over.

        The grace time of one outage is counted on where this was cancelled, so that a connection that is
        lost again and again does not hold anything back for ever.

        Raises:
            BusUnavailable: The server does not answer.
        """
        begun = trio.current_time()
        left = max(0.0, self.grace - self._waited)
        try:
            with trio.move_on_after(left) as scope:
                await self._until_all()
        finally:
            self._waited += trio.current_time() - begun
        self._waited = 0.0
        if scope.cancelled_caught:
            logger.warning("fewer than %d nodes are back on the bus after %g s", self.expected, self.grace)

    async def _until_all(self) -> None:
        for delay in delays(_LAST_DELAY):
            if await self._number() >= self.expected:
                return
            await trio.sleep(delay)

    async def _number(self) -> int:
        if self._is_refused:
            return self.expected
        try:
            reply = await self.ask("PUBSUB", self.verb, self.channel)
        except BusRefused as error:
            # Who may publish need not have the right to count: go on without.
            self._is_refused = True
            logger.warning("nodes on the bus cannot be counted, so none is waited for: %s", error)
            return self.expected
        return int(reply[1])
