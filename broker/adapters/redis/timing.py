"""How patient a connection to Redis is, and how it waits before it tries again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from attrs import frozen

_FIRST_DELAY: Final = 0.05  # seconds
_LAST_DELAY: Final = 2.0


@frozen(kw_only=True)
class Timing:
    """How patient a connection is; all in seconds.

    Attributes:
        connect_timeout: To connect and log in, once.
        start_timeout: To connect at all, when the broker opens.
        ping_interval: Between two probes.
        ping_timeout: Until a probe must be back.
        return_timeout: That publications wait after an outage for other nodes, at most.
    """

    connect_timeout: float = 5.0
    start_timeout: float = 10.0
    ping_interval: float = 2.0
    ping_timeout: float = 3.0
    return_timeout: float = 3.0


def delays(last: float = _LAST_DELAY) -> Iterator[float]:
    """Yield the seconds to wait between attempts, without end; uneven, so that not all nodes come at once.

    Args:
        last: What they grow to.
    """
    delay = _FIRST_DELAY
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - to spread, not to hide
        delay = min(delay * 2, last)
