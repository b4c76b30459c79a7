"""What the broker raises, and what an application raises to answer a peer; each says who is at fault."""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar, Final

from protocol import ClientReason, DisconnectReason
from protocol.codes import ACKS


class BrokerError(Exception):
    """Base of everything the broker raises at run time."""


class NotRunning(BrokerError):
    """The broker is not open: you used it outside `async with broker` or `serve`."""


class Unanswered(BrokerError):
    """A call has no answer; counted in `acks` under the word of its class.

    Attributes:
        word: Why, in a word that stays.
    """

    word: ClassVar[str]

    @property
    def code(self) -> int:
        """The stable number of the word; see `protocol.codes`."""
        return ACKS[self.word]


class Disconnected(Unanswered):
    """The socket ended before the answer came.

    Attributes:
        reason: Why it ended.
    """

    word = "disconnected"

    def __init__(self, reason: DisconnectReason | ClientReason) -> None:
        super().__init__(f"socket has been disconnected: {reason}")
        self.reason = reason


class AckTimeout(Unanswered):
    """No ack in time; a late one is counted, not delivered."""

    word = "timeout"

    def __init__(self, timeout: float) -> None:
        super().__init__(f"operation has timed out: no ack within {timeout:g} s")
        self.timeout = timeout


class TooManyAcks(Unanswered):
    """The peer owes as many acks as it may; see `Limits.outstanding_acks`."""

    word = "too many"


class ConnectRefused(Exception):
    """Raise it in a middleware or connect handler to refuse a namespace.

    Args:
        message: What the client sees as the error's message.
        data: JSON that the client sees as the error's data; None sends none.

    Spec: SIO-CON-5.
    """

    def __init__(self, message: str = "refused", data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class EventError(Exception):
    """Raise it in an event handler to answer the caller with a code.

    Args:
        code: A stable word that programs compare.
        message: One sentence for people.
        data: JSON, if there is more to say.

    Spec: SIO-ANS-1.
    """

    def __init__(self, code: str, message: str, data: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.data = data

    @property
    def answer(self) -> dict[str, Any]:
        """The object that the peer gets."""
        return error_answer(self.code, self.message, self.data)


def error_answer(code: str, message: str, data: Any = None) -> dict[str, Any]:
    """Build the object that tells a peer why its event failed. Spec: SIO-ANS-1."""
    more = {} if data is None else {"data": data}
    return {"error": {"code": code, "message": message, **more}}


def without_group(error: Exception) -> Exception:
    """Return what was raised in a nursery, if it is the one error in there; else the error itself."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class NoAck(Enum):
    """The type of `NO_ACK`."""

    NO_ACK = "no ack"


NO_ACK: Final = NoAck.NO_ACK
"""Returned by a handler that leaves an ack unanswered on purpose."""
