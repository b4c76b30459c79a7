"""The catalogue of the cases for servers; the modules of this package fill it when they are imported."""

from __future__ import annotations

import importlib

from broker.conformance.cases import Catalogue
from broker.conformance.lab import ServerLab

TOPICS = (
    "http",
    "handshake",
    "origins",
    "polling",
    "polling_faults",
    "websocket",
    "upgrade",
    "heartbeat",
    "closing",
    "packets",
    "namespaces",
    "events",
    "acks",
    "binary",
    "answers",
    "bounds",
    "flow",
    "drain",
    "recovery",
    "sharing",
    "vectors",
)

CASES: Catalogue[ServerLab] = Catalogue()


def load_cases() -> Catalogue[ServerLab]:
    """Return the whole catalogue."""
    for topic in TOPICS:
        importlib.import_module(f"{__package__}.{topic}")
    return CASES
