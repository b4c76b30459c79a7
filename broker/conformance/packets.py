"""Socket.IO packets as plain text, read and written without the broker's own codec."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .cases import Deviation, expect

_EVENT = re.compile(r"4([2356])(?:(\d+)-)?(?:(/[^,]*),)?(\d+)?(\[.*)", re.DOTALL)


@dataclass(slots=True)
class Event:
    """An event or ack as received.

    Attributes:
        kind: The type digit: 2, 3, 5 or 6.
        count: How many attachments it announces.
        namespace: Where.
        ack: The ack id.
        data: The array.
        attachments: What followed.
    """

    kind: int
    count: int
    namespace: str
    ack: int | None
    data: list[Any]
    attachments: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> Any:
        """The event's name; None for an ack without arguments."""
        return self.data[0] if self.data else None

    @property
    def args(self) -> list[Any]:
        """The event's arguments."""
        return self.data[1:]


def parse_event(text: str) -> Event | None:
    """Read a MESSAGE with an event or ack; None if it is something else."""
    match = _EVENT.fullmatch(text)
    if match is None:
        return None
    kind, count, namespace, ack, data = match.groups()
    try:
        array = json.loads(data)
    except ValueError:
        raise Deviation(f"the data are not JSON: {text!r}") from None
    return Event(int(kind), int(count or 0), namespace or "/", None if ack is None else int(ack), array)


def compact(value: Any) -> str:
    """Write JSON without white space."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def part(namespace: str) -> str:
    """Write the namespace part of a packet."""
    return "" if namespace == "/" else f"{namespace},"


def connect_packet(namespace: str = "/", auth: Any = None) -> str:
    """Write CONNECT."""
    return f"40{part(namespace)}" + ("" if auth is None else compact(auth))


def event_packet(name: str, args: Sequence[Any] = (), ack: int | None = None, namespace: str = "/") -> str:
    """Write EVENT."""
    return f"42{part(namespace)}{'' if ack is None else ack}{compact([name, *args])}"


def parse_connected(text: str, namespace: str = "/") -> str:
    """Read the answer to CONNECT and return the socket id."""
    prefix = f"40{part(namespace)}"
    expect(text.startswith(prefix + "{"), f"expected {prefix}{{...}}, got {text!r}")
    try:
        socket_id = json.loads(text[len(prefix) :])["sid"]
    except (ValueError, KeyError):
        raise Deviation(f"the answer to CONNECT has no sid: {text!r}") from None
    return str(socket_id)


def parse_refused(text: str, namespace: str) -> dict[str, Any]:
    """Read a CONNECT_ERROR and return its object."""
    prefix = f"44{part(namespace)}"
    expect(text.startswith(prefix + "{"), f"expected {prefix}{{...}}, got {text!r}")
    answer: dict[str, Any] = json.loads(text[len(prefix) :])
    return answer
