"""The channels that a connection hears: remembered, so that each new connection hears them too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from protocol.bus.commands import Part, write_command

_OPPOSITES: Final = {"SUBSCRIBE": "UNSUBSCRIBE", "SSUBSCRIBE": "SUNSUBSCRIBE"}

Subscription = tuple[str, str]
"""The verb, SUBSCRIBE or SSUBSCRIBE, and the channel."""


class Subscriptions:
    """The channels that are to be heard.

    Args:
        last: The channel to subscribe to after all others: who is seen there hears everything.
    """

    def __init__(self, last: str | None) -> None:
        self._wanted: dict[Subscription, None] = {}
        self._last = last

    def add(self, subscription: Subscription) -> bool:
        """Take one more; tell whether it is new."""
        is_new = subscription not in self._wanted
        self._wanted[subscription] = None
        return is_new

    def remove(self, subscription: Subscription) -> bool:
        """Take one away; tell whether it was there."""
        return self._wanted.pop(subscription, 0) is None

    def all(self) -> list[Subscription]:
        """Return all of them, in the order in which to subscribe."""
        return sorted(self._wanted, key=lambda one: one[1] == self._last)

    def changes_since(self, heard: list[Subscription]) -> Iterator[tuple[str, str]]:
        """Yield the commands, verb and channel, that make what is heard into what is to be heard."""
        before = dict.fromkeys(heard)
        yield from (one for one in self._wanted if one not in before)
        yield from (opposite(one) for one in before if one not in self._wanted)


def opposite(subscription: Subscription) -> tuple[str, str]:
    """Return the command that ends a subscription."""
    verb, channel = subscription
    return _OPPOSITES[verb], channel


def write_subscriptions(subscriptions: list[Subscription]) -> bytes:
    """Return the commands that subscribe."""
    plain: list[Part] = [channel for verb, channel in subscriptions if verb == "SUBSCRIBE"]
    # One each: their slots may differ.
    commands = [write_command(one) for one in subscriptions if one[0] == "SSUBSCRIBE"]
    if plain:
        commands.append(write_command(("SUBSCRIBE", *plain)))
    return b"".join(commands)
