"""What a session asks of the layer above it."""

from __future__ import annotations

from typing import Protocol

import trio

from protocol import DisconnectReason


class Driven(Protocol):
    """A handler that has suspended and now owns the task that drove it."""

    def adopt(self, scope: trio.CancelScope) -> None:
        """Take the scope that cancels this handler alone."""

    async def finish(self) -> None:
        """Go on to the end, and with what waited behind it. Must be awaited at once."""


class SessionHandler(Protocol):
    """The layer above: takes the messages of one session. Nothing here may block but `finish`."""

    def on_text(self, text: bytes) -> Driven | None:
        """Take a text message, with its type digit `4`."""

    def on_binary(self, data: bytes) -> Driven | None:
        """Take a binary message."""

    def warn(self, code: str, message: str) -> None:
        """Tell the client what will end its session if it goes on."""

    def cancel_all(self) -> None:
        """Cancel what runs: the session is ending."""

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs and no ack is owed."""

    async def finish(self, reason: DisconnectReason) -> None:
        """Tell the application that the session is over. Called once, when no handler runs any more."""
