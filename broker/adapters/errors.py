"""What a bus raises."""

from __future__ import annotations

from broker.flow.errors import BrokerError


class BusError(BrokerError):
    """The bus between the nodes cannot be used: the message says why, and what to do."""


class BusUnavailable(BusError):
    """The bus cannot be reached now; that may change by itself."""


class BusRefused(BusError):
    """The server of the bus refuses this node; waiting will not help, something is set up wrong."""
