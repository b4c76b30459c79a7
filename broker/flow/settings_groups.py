"""Hold the options that come in groups: the cookie, the recovery of lost connections, room history."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from attrs import frozen

from broker.flow import settings_checks as check

SameSite = Literal["Strict", "Lax", "None"]
_SAME_SITE: Final[tuple[str, ...]] = get_args(SameSite)


@frozen(kw_only=True)
class CookieOptions:
    """Describe the cookie set on the first polling response, for sticky load balancers.

    Attributes:
        name: Name of the cookie; its value is the session id.
        path: Its Path, or None to leave the attribute out.
        http_only: Keep it from scripts.
        same_site: "Strict", "Lax", "None" (needs `secure`), or None to leave the attribute out.
        secure: Send it over TLS only.
        domain: Its Domain, or None.
        max_age: Seconds until it expires, or None for a session cookie.

    Raises:
        ConfigError: An option is unknown or its value could break out of the header.
    """

    name: str = "io"
    path: str | None = "/"
    http_only: bool = True
    same_site: SameSite | None = "Lax"
    secure: bool = False
    domain: str | None = None
    max_age: int | None = None

    if not TYPE_CHECKING:  # the checker sees the typed signature that attrs generates

        def __init__(self, **options: Any) -> None:
            check.refuse_unknown(CookieOptions, options, "cookie.")
            self.__attrs_init__(**options)

    def __attrs_post_init__(self) -> None:
        check.refuse(self._problems())

    def _problems(self) -> Iterator[str]:
        yield from check.check_token("cookie.name", self.name)
        yield from check.check_cookie_attribute("cookie.path", self.path)
        yield from check.check_cookie_attribute("cookie.domain", self.domain)
        yield from check.check_bool("cookie.http_only", self.http_only)
        yield from check.check_bool("cookie.secure", self.secure)
        if self.same_site is not None:
            yield from check.check_choice("cookie.same_site", self.same_site, _SAME_SITE)
        if self.same_site == "None" and self.secure is False:
            yield 'cookie.same_site: "None" needs cookie.secure, browsers drop the cookie otherwise'
        if self.max_age is not None:
            yield from check.check_whole("cookie.max_age", self.max_age, minimum=0, maximum=check.MAX_AGE)

    def render(self, session_id: str) -> str:
        """Return the value of the Set-Cookie header for a session."""
        parts = [f"{self.name}={session_id}"]
        if self.max_age is not None:
            parts.append(f"Max-Age={self.max_age}")
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.path is not None:
            parts.append(f"Path={self.path}")
        if self.http_only:
            parts.append("HttpOnly")
        if self.secure:
            parts.append("Secure")
        if self.same_site is not None:
            parts.append(f"SameSite={self.same_site}")
        return "; ".join(parts)


def cookie_options(
    value: str | Mapping[str, Any] | CookieOptions | bool | None,
) -> CookieOptions | None:
    """Take the short forms of the cookie option: a name, a mapping, True or False."""
    if value is None or value is False:
        return None
    if value is True:
        return CookieOptions()
    if isinstance(value, str):
        return CookieOptions(name=value)
    return CookieOptions(**value) if isinstance(value, Mapping) else value


@frozen(kw_only=True)
class Recovery:
    """Let clients that lost their connection come back to their socket and the events they have missed.

    Attributes:
        window: Seconds for which a lost session is kept.
        skip_middlewares: Whether a recovered socket passes the namespace's middlewares by. With False they
            run again, with `socket.recovered` set; who is refused may try again while the session is kept.
        max_events: Events kept for each namespace; beyond it the oldest go.
        max_bytes: Bytes of memory that they may take.

    Raises:
        ConfigError: An option is unknown or holds a value that is not allowed.
    """

    window: float = 120.0
    skip_middlewares: bool = True
    max_events: int = 10_000
    max_bytes: int = 16_777_216

    if not TYPE_CHECKING:

        def __init__(self, **options: Any) -> None:
            check.refuse_unknown(Recovery, options, "recovery.")
            self.__attrs_init__(**options)

    def __attrs_post_init__(self) -> None:
        check.refuse(
            (
                *check.check_seconds("recovery.window", self.window, maximum=86_400.0),
                *check.check_bool("recovery.skip_middlewares", self.skip_middlewares),
                *_check_counts("recovery", self, ("max_events", "max_bytes")),
            )
        )


@frozen(kw_only=True)
class History:
    """Keep the latest events of each room for those who come late; see `Namespace.history`.

    Attributes:
        count: Events kept for each room.
        bytes: Bytes of memory that they may take.
        age: Seconds that an event is kept.

    Raises:
        ConfigError: An option is unknown or holds a value that is not allowed.
    """

    count: int = 100
    bytes: int = 1_048_576
    age: float = 3_600.0

    if not TYPE_CHECKING:

        def __init__(self, **options: Any) -> None:
            check.refuse_unknown(History, options, "history.")
            self.__attrs_init__(**options)

    def __attrs_post_init__(self) -> None:
        check.refuse(
            (
                *_check_counts("history", self, ("count", "bytes")),
                *check.check_seconds("history.age", self.age, maximum=31_536_000.0),
            )
        )


def _check_counts(group: str, options: object, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield from check.check_whole(
            f"{group}.{name}", getattr(options, name), minimum=1, maximum=sys.maxsize
        )
