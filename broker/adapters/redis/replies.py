"""What a Redis server answers, told apart: by whom it is to be mended."""

from __future__ import annotations

from typing import Any, Final

from broker.adapters.errors import BusError, BusRefused, BusUnavailable

_REFUSALS: Final = {
    "WRONGPASS": "the Redis server does not know this user and password",
    "NOAUTH": "the Redis server wants a password: redis://:password@host",
    "NOPERM": "the Redis user may not do what is needed: see docs/scaling.md for a rule",
    "DENIED": "the Redis server is in protected mode: it takes only connections from its own machine",
    "MOVED": "this is a node of a Redis Cluster; see docs/scaling.md for what to use instead",
    "CROSSSLOT": "this is a node of a Redis Cluster; see docs/scaling.md for what to use instead",
    "CLUSTERDOWN": "this is a node of a Redis Cluster; see docs/scaling.md for what to use instead",
}


def refusal(text: str, doing: str) -> BusError:
    """Return what to raise for an error that the server has answered."""
    word = text.split(" ", 1)[0]
    if word in _REFUSALS:
        return BusRefused(f"{_REFUSALS[word]} ({text})")
    if "unknown command" in text and "HELLO" in text.upper():
        return BusRefused("the Redis server is too old: 6 or newer is needed, 7 for sharded mode")
    if word in ("ERR", "NOPROTO"):
        return BusRefused(f"{doing}: the Redis server said {text!r}")
    return BusUnavailable(f"{doing}: the Redis server said {text!r}")


def check_hello(reply: Any) -> None:
    """Hold the server to one that can be a bus, by what it says of itself.

    Raises:
        BusRefused: It is a Sentinel, or part of a Cluster.
        BusUnavailable: It is a replica now.
    """
    told = reply if isinstance(reply, dict) else {}
    mode, role = told.get(b"mode"), told.get(b"role")
    if mode == b"sentinel":
        raise BusRefused(
            "this is a Sentinel, not a Redis server; see docs/scaling.md for what to use instead"
        )
    if mode == b"cluster":
        raise BusRefused("this is a node of a Redis Cluster; see docs/scaling.md for what to use instead")
    if role not in (None, b"master"):
        raise BusUnavailable("the Redis server is a replica: what is published there does not get around")
