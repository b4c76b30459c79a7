"""Faults as verbs: what a network, or somebody on it, can do to the connections of a client."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import trio
from attrs import define

from .transcript import RECEIVED, SENT

if TYPE_CHECKING:
    from .network import Link

Match = str | re.Pattern[str] | Callable[[str], bool]
"""Which messages: exactly this text, those in which a pattern is found, or those a function chooses."""

Direction = Literal["to_server", "to_client", "both"]
Side = Literal["client", "server"]

_MARKS: dict[str, str] = {RECEIVED: "to_server", SENT: "to_client"}


class UpgradeStep(StrEnum):
    """The steps by which a session moves from polling to a WebSocket. Spec: EIO-UPG-2 to EIO-UPG-6."""

    REQUEST = "request"
    RESPONSE = "response"
    PROBE = "probe"
    ANSWER = "answer"
    UPGRADE = "upgrade"


_STEPS: dict[UpgradeStep, tuple[Direction, Callable[[str], bool]]] = {
    UpgradeStep.REQUEST: ("to_server", lambda text: "transport=websocket" in text and "&sid=" in text),
    UpgradeStep.RESPONSE: ("to_client", lambda text: text.startswith("101")),
    UpgradeStep.PROBE: ("to_server", lambda text: text == "2probe"),
    UpgradeStep.ANSWER: ("to_client", lambda text: text == "3probe"),
    UpgradeStep.UPGRADE: ("to_server", lambda text: text == "5"),
}


@define
class Rule:
    """What is done to the messages that match.

    Attributes:
        match: Which messages.
        direction: Which way they go.
        action: What is done to them.
        seconds: For how long they are delayed.
        left: To how many more it is done.
    """

    match: Match
    direction: Direction
    action: Literal["drop", "delay", "cut"]
    seconds: float = 0.0
    left: int = 1

    def takes(self, mark: str, text: str) -> bool:
        """Tell whether it is for this message, and count it."""
        if self.left < 1 or self.direction not in {"both", _MARKS[mark]} or not matches(self.match, text):
            return False
        self.left -= 1
        return True


def matches(match: Match, text: str) -> bool:
    """Tell whether a message is one of those."""
    if isinstance(match, str):
        return match == text
    if isinstance(match, re.Pattern):
        return match.search(text) is not None
    return match(text)


class Wire:
    """The connections of one client, or of all; what is done to them holds for those that come, too.

    Args:
        name: How the transcript calls it.
        note: Writes a line into the transcript.

    Attributes:
        links: The connections there are now.
    """

    def __init__(self, name: str, note: Callable[[str], None]) -> None:
        self.name = name
        self.links: list[Link] = []
        self.rules: list[Rule] = []
        self.refusing = False
        self._note = note
        self._stalled: set[str] = set()
        self._partitioned = False
        self._latency = 0.0
        self._trickle: dict[str, tuple[int, float]] = {}
        self._next_cut: dict[str, int] = {}
        self._healed = trio.Event()

    # Time and amount

    def stall_reads(self, side: Side) -> None:
        """Let one side read nothing more, until `resume_reads`: what is sent to it fills the buffers."""
        self._say(f"the {side} reads no more")
        self._stalled.add("to_client" if side == "client" else "to_server")
        self._apply()

    def resume_reads(self, side: Side) -> None:
        """End `stall_reads`."""
        self._say(f"the {side} reads again")
        self._stalled.discard("to_client" if side == "client" else "to_server")
        self._apply()

    def latency(self, seconds: float) -> None:
        """Let each byte take so many seconds to the other end."""
        self._say(f"latency {seconds:g} s")
        self._latency = seconds
        self._apply()

    def trickle(self, max_bytes: int, interval: float, direction: Direction = "both") -> None:
        """Let at most `max_bytes` arrive every `interval` seconds; see `end_trickle`."""
        self._say(f"at most {max_bytes} bytes every {interval:g} s {direction}")
        self._trickle.update(dict.fromkeys(_directions(direction), (max_bytes, interval)))
        self._apply()

    def end_trickle(self) -> None:
        """End `trickle`."""
        self._say("no trickle any more")
        self._trickle.clear()
        self._apply()

    # Ends

    def cut(self) -> None:
        """Break all connections, as a reset does."""
        self._say("cut")
        for link in tuple(self.links):
            link.cut()

    def cut_after(
        self, count_bytes: int, direction: Direction = "to_client", *, next_one: bool = False
    ) -> None:
        """Break each connection once so many more bytes have arrived.

        Args:
            count_bytes: How many bytes still arrive.
            direction: Which way they go.
            next_one: Do it to the next connection, not to those there are.
        """
        self._say(f"cut after {count_bytes} bytes {direction}")
        for way in _directions(direction):
            if next_one:
                self._next_cut[way] = count_bytes
                continue
            for link in self.links:
                link.pipe(way).cut_after = count_bytes
                link.pipe(way).wake()

    def partition(self) -> None:
        """Let nothing through, in either direction, and nobody hear of it, until `heal`."""
        self._say("partition")
        self._partitioned = True
        self._apply()

    def refuse(self) -> None:
        """Refuse new connections, until `heal`."""
        self._say("new connections are refused")
        self.refusing = True

    def heal(self) -> None:
        """End `partition`, `refuse`, `stall_reads`, `latency` and `trickle`; drop the rules."""
        self._say("healed")
        self._partitioned = self.refusing = False
        self._stalled.clear()
        self._latency = 0.0
        self._trickle.clear()
        self._next_cut.clear()
        self.rules.clear()
        self._healed.set()
        self._healed = trio.Event()
        self._apply()

    # Single messages

    def drop(self, match: Match, direction: Direction = "both", count: int = 1) -> None:
        """Lose the next `count` messages that match; frames of a WebSocket, for HTTP cannot lose one."""
        self._rule(Rule(match, direction, "drop", left=count))

    def drop_pong(self, count: int = 1) -> None:
        """Lose the client's next answers to a heartbeat, on a WebSocket."""
        self.drop("3", "to_server", count)

    def delay(self, match: Match, seconds: float, direction: Direction = "both", count: int = 1) -> None:
        """Let the next `count` messages that match, and what is sent behind them, arrive later."""
        self._rule(Rule(match, direction, "delay", seconds, count))

    def cut_at(self, match: Match, direction: Direction = "both") -> None:
        """Break the connection in place of the next message that matches."""
        self._rule(Rule(match, direction, "cut"))

    def delay_upgrade(self, step: UpgradeStep | str, seconds: float) -> None:
        """Let one step of the next upgrade arrive later."""
        direction, match = _STEPS[UpgradeStep(step)]
        self._rule(Rule(match, direction, "delay", seconds), str(step))

    def abort_upgrade(self, step: UpgradeStep | str) -> None:
        """Break the WebSocket in place of one step of the next upgrade."""
        direction, match = _STEPS[UpgradeStep(step)]
        self._rule(Rule(match, direction, "cut"), str(step))

    # For the network

    async def wait_reachable(self) -> None:
        """Wait until no partition is in the way."""
        while self._partitioned:
            await self._healed.wait()

    def add(self, link: Link) -> None:
        """Take a new connection."""
        self.links.append(link)
        for way, count in self._next_cut.items():
            link.pipe(way).cut_after = count
        self._next_cut.clear()

    def holds(self, way: str) -> bool:
        """Tell whether nothing goes that way."""
        return self._partitioned or way in self._stalled

    def latency_of(self) -> float:
        """Return the seconds that each byte takes."""
        return self._latency

    def trickle_of(self, way: str) -> tuple[int, float] | None:
        """Return the bound on how much arrives at a time."""
        return self._trickle.get(way)

    def _apply(self) -> None:
        for link in self.links:
            link.apply()

    def _rule(self, rule: Rule, name: str = "") -> None:
        shown = name or (rule.match if isinstance(rule.match, str) else getattr(rule.match, "pattern", "..."))
        self._say(f"to {rule.action}: {shown}")
        self.rules.append(rule)

    def _say(self, text: str) -> None:
        self._note(f"{self.name}: {text}")


def _directions(direction: Direction) -> tuple[str, ...]:
    return ("to_server", "to_client") if direction == "both" else (direction,)
