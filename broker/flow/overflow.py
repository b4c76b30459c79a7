"""What becomes of an event that finds an outbox full: the policies, and which of them holds when."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal

from attrs import frozen

from .encoded import EncodedMessage

OverflowPolicy = Literal["disconnect", "drop_oldest", "drop_newest", "keep_latest", "wait"]


class Overflow(StrEnum):
    """What to do with an event when the budget is used up."""

    DISCONNECT = "disconnect"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    KEEP_LATEST = "keep_latest"
    WAIT = "wait"


_FOR_OTHERS = (Overflow.DROP_OLDEST, Overflow.KEEP_LATEST)


@frozen
class Policy:
    """How an event is treated where it cannot be sent at once.

    Attributes:
        overflow: What to do when the budget is used up.
        key: For `keep_latest`: which earlier events it replaces; None means those of the same name.
    """

    overflow: Overflow
    key: str | None = None

    def apply(self, message: EncodedMessage, namespace: str, event: str, *, asks: bool = False) -> None:
        """Give a message this policy.

        Args:
            message: An event, encoded and not yet offered.
            namespace: Where it is sent; keys of different namespaces never meet.
            event: Its name.
            asks: Whether it asks for an ack; then it is refused rather than dropped later, for others.
        """
        if asks and self.overflow in _FOR_OTHERS:
            message.overflow = Overflow.DROP_NEWEST
            return
        message.overflow = self.overflow
        if self.overflow is Overflow.KEEP_LATEST:
            message.key = (namespace, event if self.key is None else self.key)

    def to_wire(self) -> list[str]:
        """Return it as it stands in a message to other nodes."""
        overflow = self.overflow.value
        return [overflow] if self.key is None else [overflow, self.key]


def make_policy(overflow: OverflowPolicy | Overflow, key: str | None = None) -> Policy:
    """Check a policy as an application writes it.

    Raises:
        ValueError: There is no such policy, or a key is given to another than `keep_latest`.
    """
    policy = Policy(Overflow(overflow), key)
    if key is not None and policy.overflow is not Overflow.KEEP_LATEST:
        raise ValueError(f"a key is for keep_latest, not for {policy.overflow}")
    return policy


def read_policy(value: Any) -> Policy | None:
    """Read the policy of a message from another node; None if it is none."""
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        return None
    try:
        return make_policy(*value)
    except (TypeError, ValueError):
        return None


class Policies:
    """The policies of one namespace, or of a family of them: its own, and those of rooms.

    Attributes:
        in_use: Whether any event may have another policy than `disconnect`; all that most emits look at.
    """

    __slots__ = ("_fallback", "_own", "_rooms", "in_use")

    def __init__(self) -> None:
        self._fallback: Policy | None = None
        self._own: Policy | None = None
        self._rooms: dict[str, Policy] = {}
        self.in_use = False

    def set_fallback(self, overflow: OverflowPolicy) -> None:
        """Take the policy of the broker, for what nothing else is set for."""
        self._fallback = None if overflow == "disconnect" else make_policy(overflow)
        self._look()

    def set(self, policy: Policy | None, room: str | None = None) -> None:
        """Set the policy of the namespace or of a room; None takes it back."""
        if room is None:
            self._own = policy
        elif policy is None:
            self._rooms.pop(room, None)
        else:
            self._rooms[room] = policy
        self._look()

    def _look(self) -> None:
        self.in_use = bool(self._rooms) or self._own is not None or self._fallback is not None

    def find(self, rooms: Sequence[str] = ()) -> Policy | None:
        """Return the policy for an event to these rooms: of the first that has one, else the wider one."""
        if self._rooms:
            for room in rooms:
                policy = self._rooms.get(room)
                if policy is not None:
                    return policy
        return self._own or self._fallback
