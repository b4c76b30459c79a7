"""What is measured: the scenarios, as arguments of the load generator, and the servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SERVERS = {
    "limit": "limit, C",
    "node": "Node socket.io",
    "python-socketio": "python-socketio, uvicorn, uvloop",
    "ours": "this broker",
}
"""Name to title, in the order of the table and of each round."""

FLAT_SIZES = (10, 100, 1000, 10_000)
"""Room sizes over which the cost of a delivery is compared."""

_FLAT_SERVERS = ("limit", "ours")  # what the smallest and the largest room are measured against


@dataclass(frozen=True)
class Scenario:
    """One column: a load to run against each server.

    Attributes:
        name: What ``--scenarios`` calls it.
        title: The column's head.
        kind: ``rate`` is acks, deliveries or connections per second, ``memory`` is KiB of
            resident memory per idle connection.
        mode: The generator's mode.
        connections: How many are opened.
        window: Events outstanding per connection or publisher.
        stalled: How many of the connections never read.
        servers: Which servers it is run against; if not all, it is for the cost of a delivery alone.
        default: Whether it is run when no scenarios are named.
    """

    name: str
    title: str
    kind: Literal["rate", "memory"]
    mode: Literal["echo", "fanout", "idle", "connect"]
    connections: int
    window: int = 1
    stalled: int = 0
    servers: tuple[str, ...] = tuple(SERVERS)
    default: bool = True

    def arguments(self) -> list[str]:
        """Return the generator's arguments, without port and durations."""
        stalled = ["-S", str(self.stalled)] if self.stalled else []
        window = ["-w", str(self.window)]
        return ["-m", self.mode, "-c", str(self.connections), *window, *stalled]


SCENARIOS = (
    Scenario("echo", "echo, 100 conns, 1 in flight", "rate", "echo", 100),
    Scenario("echo16", "echo, 100 x 16 in flight", "rate", "echo", 100, window=16),
    Scenario("fanout100", "fan-out to 100", "rate", "fanout", 100, window=2),
    Scenario("fanout1000", "fan-out to 1000", "rate", "fanout", 1000, window=2),
    Scenario("idle", "KiB idle", "memory", "idle", 8000),
    Scenario("fanout10", "fan-out to 10", "rate", "fanout", 10, window=2, servers=_FLAT_SERVERS),
    Scenario("fanout10000", "fan-out to 10000", "rate", "fanout", 10_000, window=2, servers=_FLAT_SERVERS),
    Scenario("connect", "connections/s", "rate", "connect", 50, window=50, default=False),
    Scenario(
        "stalled",
        "fan-out to 1000, 10 stalled",
        "rate",
        "fanout",
        1000,
        window=2,
        stalled=10,
        default=False,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
GROUPS = {"flat": tuple(f"fanout{size}" for size in FLAT_SIZES)}
"""Names that stand for several scenarios."""


def select(names: list[str] | None) -> list[Scenario]:
    """Return the scenarios of these names or groups, the default ones for None.

    Raises:
        ValueError: for a name that is neither.
    """
    if names is None:
        return [scenario for scenario in SCENARIOS if scenario.default]
    wanted = [member for name in names for member in GROUPS.get(name, (name,))]
    unknown = [name for name in wanted if name not in BY_NAME]
    if unknown:
        raise ValueError(f"no such scenario: {', '.join(unknown)}; there are {known_names()}")
    return [scenario for scenario in SCENARIOS if scenario.name in wanted]


def known_names() -> str:
    """Return every name that ``--scenarios`` takes."""
    return " ".join([*BY_NAME, *GROUPS])
