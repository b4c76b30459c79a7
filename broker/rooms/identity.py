"""Whose socket it is, what was said about them, and until when that holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import trio

from broker.flow.alarms import Alarm
from broker.flow.errors import ConnectRefused, EventError
from protocol import DisconnectReason

from .inbound import Inbound

if TYPE_CHECKING:
    from .connection import Connection
    from .namespace import Namespace

USER_ROOM = "\x00user:"
"""What the room of a user begins with; no socket can be put into such a room by its name."""

EXPIRED_CODE = "identity_expired"
CHANGED_CODE = "identity_changed"

_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


def user_room(user: str) -> str:
    """Return the name of the room that all sockets of a user are in.

    Raises:
        TypeError: A user is no text.
    """
    if not isinstance(user, str):
        raise TypeError(f"an identity is a str, not {type(user).__name__}")
    return USER_ROOM + user


def without_user(rooms: Iterable[str]) -> frozenset[str]:
    """Return rooms without that of the user."""
    return frozenset(room for room in rooms if not room.startswith(USER_ROOM))


def wall_clock() -> float:
    """Return the time as others know it, in Unix seconds."""
    return datetime.now(UTC).timestamp()


class _Pass:
    """What a middleware has found out about a socket."""

    __slots__ = ("alarm", "claims", "expires_at", "identity", "present")

    def __init__(self) -> None:
        self.identity: str | None = None
        self.claims: Mapping[str, Any] = _NO_CLAIMS
        self.expires_at: float | None = None
        self.alarm: Alarm | None = None
        self.present = False


class Identified(Inbound):
    """The half of a socket that knows whose it is."""

    __slots__ = ("_pass",)

    def __init__(self, namespace: Namespace, connection: Connection) -> None:
        super().__init__(namespace, connection)
        self._pass: _Pass | None = None

    @property
    def identity(self) -> str | None:
        """The user whose socket this is, as a middleware has said; None if nobody has.

        It reaches all sockets of the user through `to_user`, and the user is online in `presence`.

        Raises:
            ValueError: On setting: the socket has another one already and is let in, or the name is empty or
                longer than `Limits.room_bytes`.
            TypeError: On setting: it is no text.
        """
        return None if self._pass is None else self._pass.identity

    @identity.setter
    def identity(self, user: str) -> None:
        room = user_room(user)
        limit = self._connection.limits.room_bytes
        if not user or len(room.encode()) > limit + len(USER_ROOM):
            raise ValueError(f"an identity has 1 to {limit} bytes")
        known = self._known()
        if known.identity == user:
            return
        if known.present:
            raise ValueError("the identity of a socket that was let in does not change")
        known.identity = user
        if self.connected:
            self._appear(known)
        self.noted()

    @property
    def claims(self) -> Mapping[str, Any]:
        """What else a middleware has found out about the user, such as the claims of a token."""
        return _NO_CLAIMS if self._pass is None else self._pass.claims

    @claims.setter
    def claims(self, claims: Mapping[str, Any]) -> None:
        self._known().claims = claims
        self.noted()

    @property
    def expires_at(self) -> float | None:
        """Until when this holds, in Unix seconds as `exp` of a JSON Web Token; None for ever.

        At that time the session ends with the reason `identity expired`, with all its namespaces: after
        such an end stock clients come back by themselves. `refresh` puts it off. The wall clock is read once,
        when this is set; the time until then is measured by Trio's clock, which nobody can put back.

        Raises:
            ValueError: On setting: it is no finite number.
        """
        return None if self._pass is None else self._pass.expires_at

    @expires_at.setter
    def expires_at(self, when: float | None) -> None:
        known = self._known()
        if when is not None and not math.isfinite(when):
            raise ValueError(f"expires_at is a finite number of Unix seconds, not {when!r}")
        known.expires_at = when
        if self.connected:
            self._set_alarm(known)
        self.noted()

    def refresh(
        self,
        expires_at: float | None,
        *,
        claims: Mapping[str, Any] | None = None,
        identity: str | None = None,
    ) -> None:
        """Let what was said about the user hold for longer; for a handler of the application's own.

        Args:
            expires_at: The new end, in Unix seconds; None for no end.
            claims: In place of the old ones; None keeps those.
            identity: Whom the new proof names, to be compared; None compares nothing.

        Raises:
            EventError: The proof names somebody else (code `identity_changed`); nothing is changed then.
            ValueError: `expires_at` is no finite number.
        """
        if identity is not None and identity != self.identity:
            raise EventError(CHANGED_CODE, "a refresh cannot change the identity of a socket")
        self.expires_at = expires_at
        if claims is not None:
            self.claims = claims

    @property
    def is_present(self) -> bool:
        """Whether it is in the room of its user."""
        return self._pass is not None and self._pass.present

    def _known(self) -> _Pass:
        if self._pass is None:
            self._pass = _Pass()
        return self._pass

    # For the socket

    def noted(self) -> None:
        """Take note that something has changed that is kept with the session."""

    def check_expiry(self) -> None:
        """Keep out who has expired already: coming back with the same proof would not help.

        Raises:
            ConnectRefused: It has.
        """
        if self._pass is not None and self._time_left(self._pass) <= 0:
            raise ConnectRefused("identity expired", {"code": EXPIRED_CODE})

    def come_online(self) -> None:
        """Take effect, now that the socket is let in."""
        known = self._pass
        if known is not None:
            self._appear(known)
            self._set_alarm(known)

    def go_offline(self, reason: DisconnectReason) -> None:
        """Have no effect any more."""
        known = self._pass
        if known is None:
            return
        if known.alarm is not None:
            known.alarm.cancel()
        if known.present and known.identity is not None:
            known.present = False
            self.namespace.presence.leave(known.identity, for_good=not reason.retryable)

    def _appear(self, known: _Pass) -> None:
        if known.identity is not None:
            known.present = True
            self.namespace.index.join(self, user_room(known.identity))  # type: ignore[arg-type] # it is a Socket
            self.namespace.presence.enter(known.identity)
            session = self._connection.session
            if session.engine.rates is not None:
                session.engine.rates.identify(session, known.identity)

    def _time_left(self, known: _Pass) -> float:
        """Return the seconds until it expires."""
        if known.expires_at is None:
            return math.inf
        clock = self._connection.session.engine.settings.wall_clock or wall_clock
        return known.expires_at - clock()

    def _set_alarm(self, known: _Pass) -> None:
        if known.alarm is not None:
            known.alarm.cancel()
            known.alarm = None
        left = self._time_left(known)
        if left < math.inf:
            alarms = self._connection.session.engine.alarms
            known.alarm = alarms.set(trio.current_time() + left, self._expire)

    def _expire(self) -> None:
        self._connection.session.close(DisconnectReason.IDENTITY_EXPIRED)
