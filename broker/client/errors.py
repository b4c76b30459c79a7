"""What the client raises, and what its own layers tell each other of a failure."""

from __future__ import annotations

from typing import Any

import trio

from broker.flow.errors import BrokerError
from protocol import ClientReason


class ConnectError(BrokerError):
    """A namespace, or the server as a whole, could not be connected to.

    Attributes:
        message: One sentence; that of the server if it refused.
        data: What the server's refusal carried, None otherwise.
        retryable: Whether the client tries again by itself: after a failure of the network, not when
            it was refused.
        namespace: The namespace; None if no connection came about at all.

    Spec: SIO-CON-5, SIO-REASON-3.
    """

    def __init__(
        self, message: str, data: Any = None, *, retryable: bool = True, namespace: str | None = None
    ) -> None:
        super().__init__(message if namespace is None else f"{namespace}: {message}")
        self.message = message
        self.data = data
        self.retryable = retryable
        self.namespace = namespace


class BufferFull(BrokerError):
    """As much waits to be sent as may wait; see `offline_limit` and `offline_policy`."""


class TransportFailed(Exception):
    """A transport cannot go on; never leaves the client's own layers.

    Args:
        reason: How the session ends.
        message: What went wrong, for a person.
        retry_after: Seconds that the server asks to wait.
    """

    def __init__(self, reason: ClientReason, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


def parse_retry_after(value: str | bytes | None) -> float:
    """Return the seconds of a Retry-After header; 0 if there is none, or a date. Spec: SIO-REASON-4."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value or ""
    text = text.strip()
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() else 0.0


def explain(error: BaseException) -> str:
    """Say what went wrong, in the words of the cause if the error itself has none."""
    deepest: BaseException = error
    while not str(deepest) or type(deepest) is trio.BrokenResourceError:
        cause = deepest.__cause__ or deepest.__context__
        if cause is None:
            break
        deepest = cause
    return str(deepest) or type(deepest).__name__
