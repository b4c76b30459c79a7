"""Who holds a session, where several servers share the work: its id ends with their mark. Spec: EIO-SID-5."""

from __future__ import annotations

from typing import NamedTuple

from protocol.engineio.handshake import parse_query

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

NODES = len(_ALPHABET)
WORKERS = len(_ALPHABET)


class Owner(NamedTuple):
    """A process that holds sessions.

    Attributes:
        node: The number of its machine, or of its port: whatever has an address of its own.
        worker: Its number among the processes that share that address.
    """

    node: int
    worker: int

    @property
    def mark(self) -> str:
        """What its session ids end with: two characters.

        Raises:
            ValueError: There are not so many nodes or workers.
        """
        if not (0 <= self.node < NODES and 0 <= self.worker < WORKERS):
            raise ValueError(f"nodes and workers have numbers from 0 to {NODES - 1}, not {self}")
        return _ALPHABET[self.node] + _ALPHABET[self.worker]


def owner_of(session_id: str) -> Owner | None:
    """Return the owner that an id names; None if its end is no mark."""
    node, worker = (_ALPHABET.find(character) for character in session_id[-2:].rjust(2))
    return None if node < 0 or worker < 0 else Owner(node, worker)


def owner_of_query(query: str) -> Owner | None:
    """Return the owner that the `sid` of a query names; None if there is none, or not exactly one."""
    if "sid" not in query:
        return None
    values = (parse_query(query) or {}).get("sid", ())
    return owner_of(values[0]) if len(values) == 1 else None
