"""Hold every option of a broker, checked once, unchangeable after."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

from attrs import field, frozen

from broker.flow import settings_checks as check
from broker.flow import settings_sources as sources
from broker.flow.codec import Parser, check_parser
from broker.flow.overflow import OverflowPolicy
from broker.flow.settings_checks import ConfigError
from broker.flow.settings_groups import CookieOptions, History, Recovery, cookie_options
from protocol.limits import Limits

__all__ = [
    "ConfigError",
    "CookieOptions",
    "History",
    "OverflowPolicy",
    "Recovery",
    "Settings",
    "TransportName",
]

TransportName = Literal["polling", "websocket"]
AllowRequest = Callable[..., Any] | Callable[..., Awaitable[Any]]
GenerateId = Callable[..., Any]
WallClock = Callable[[], float]

TRANSPORTS: Final[tuple[str, ...]] = get_args(TransportName)
OVERFLOW_POLICIES: Final[tuple[str, ...]] = get_args(OverflowPolicy)
_DEFAULT_PORTS = re.compile(r"(?<=^http://)([^:]+):80$|(?<=^https://)([^:]+):443$")


def _texts(value: Any) -> Any:
    """Take one string as a tuple of one; leave what is no collection to the check."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, Iterable) else value


def _origins(value: str | Iterable[str]) -> Any:
    origins = _texts(value)
    if origins == ("*",):
        return "*"
    if not isinstance(origins, tuple):
        return origins
    return tuple(_origin(item) if isinstance(item, str) else item for item in origins)


def _origin(text: str) -> str:
    """Write an origin as browsers do: lower case, without the default port."""
    return _DEFAULT_PORTS.sub(lambda found: found[1] or found[2], text.lower())


def _seconds(value: float) -> float:
    return float(value) if type(value) is int else value


def _path(value: str) -> str:
    return value.removesuffix("/") if isinstance(value, str) else value


@frozen(kw_only=True)
class Settings:
    """Hold the options of one broker.

    Names are Socket.IO's in snake_case where it has one; durations are float seconds, sizes bytes.

    Attributes:
        path: Where the broker answers; other paths go to the application served beside it.
        add_trailing_slash: Answer at `path` with a slash at its end, as stock clients ask, and
            not without.
        transports: The ways in, of "polling" and "websocket".
        allow_upgrades: Let a polling session move to WebSocket.
        ping_interval: Seconds between two heartbeats.
        ping_timeout: Seconds the peer has to answer one.
        connect_timeout: Seconds a connection has to join a namespace.
        upgrade_timeout: Seconds a probe has to become an upgrade.
        max_payload_bytes: Largest message or polling body taken from a peer.
        cors_allowed_origins: Origins whose pages may connect; empty: pages of the same origin only,
            "*": all.
        cors_credentials: Let those pages send cookies.
        cors_methods: Methods named to a preflight request.
        cors_allowed_headers: Headers named to a preflight request; empty: those it asks for.
        cors_max_age: Seconds for which a browser may keep the answer to a preflight request.
        allow_request: Called with each new handshake, sync or async; what it refuses stays out.
        cookie: None, a cookie's name, or `CookieOptions` (also as a mapping).
        serve_client: Serve the JavaScript client beside the path.
        cleanup_empty_child_namespaces: Forget a dynamic namespace when its last socket leaves.
        recovery: None, or `Recovery` to let lost connections come back.
        history: None, or `History` to keep the latest events of each room.
        adapter: None for this process alone, or what links the nodes of a cluster.
        proxy_addresses: Addresses of proxies, behind which many clients stand; sessions from there do
            not count for `limits.sessions_per_address`.
        limits: What a peer may cost, see `protocol.limits.Limits`.
        error_acks: Answer a handler's error to the client.
        overflow: What happens to a peer that reads slower than it is written to, or to what it is sent;
            see `Broadcast.overflow` for the policies, `set_overflow` for namespaces and rooms.
        parser: None for the text of the protocol, "msgpack" for what `socket.io-msgpack-parser` speaks, or a
            `Parser` of the application's own. All clients must use the same.
        generate_id: Called for each new session to name it, instead of the broker's own random ids.
        presence_grace_time: Seconds for which a user whose last connection was lost is still online: who
            comes back by then has never left. 0 for none.
        readiness_delay: Seconds between the moment in which a drain makes the broker unready and that in
            which it refuses newcomers; as long as load balancers take to notice.
        wall_clock: Tells the Unix seconds that `Socket.expires_at` is compared with; None for the machine's
            clock, a function of your own in tests.

    Raises:
        ConfigError: An option is unknown, or a value is not allowed; it names all of them.
    """

    path: str = field(default="/socket.io", converter=_path)
    add_trailing_slash: bool = True
    transports: tuple[TransportName, ...] = field(default=("polling", "websocket"), converter=_texts)
    allow_upgrades: bool = True
    ping_interval: float = field(default=25.0, converter=_seconds)
    ping_timeout: float = field(default=20.0, converter=_seconds)
    connect_timeout: float = field(default=45.0, converter=_seconds)
    upgrade_timeout: float = field(default=10.0, converter=_seconds)
    max_payload_bytes: int = 1_000_000
    cors_allowed_origins: tuple[str, ...] | Literal["*"] = field(default=(), converter=_origins)
    cors_credentials: bool = False
    cors_methods: tuple[str, ...] = field(default=("GET", "POST"), converter=_texts)
    cors_allowed_headers: tuple[str, ...] = field(default=(), converter=_texts)
    cors_max_age: int | None = None
    allow_request: AllowRequest | None = None
    cookie: CookieOptions | None = field(default=None, converter=cookie_options)
    serve_client: bool = True
    cleanup_empty_child_namespaces: bool = False
    recovery: Recovery | None = None
    history: History | None = None
    adapter: Any = None
    proxy_addresses: tuple[str, ...] = field(default=("127.0.0.1", "::1"), converter=_texts)
    limits: Limits = field(factory=Limits)
    error_acks: bool = True
    overflow: OverflowPolicy = "disconnect"
    parser: Literal["msgpack"] | Parser | None = None
    generate_id: GenerateId | None = None
    presence_grace_time: float = field(default=5.0, converter=_seconds)
    readiness_delay: float = field(default=0.0, converter=_seconds)
    wall_clock: WallClock | None = None

    if not TYPE_CHECKING:

        def __init__(self, **options: Any) -> None:
            check.refuse_unknown(Settings, options)
            self.__attrs_init__(**options)

    def __attrs_post_init__(self) -> None:
        check.refuse(self._problems())

    def _problems(self) -> Iterator[str]:
        yield from check.check_path("path", self.path)
        yield from check.check_transports("transports", self.transports, TRANSPORTS)
        for name in ("ping_interval", "ping_timeout", "connect_timeout", "upgrade_timeout"):
            yield from check.check_seconds(name, getattr(self, name))
        yield from check.check_whole(
            "max_payload_bytes", self.max_payload_bytes, minimum=1, maximum=check.MAX_PAYLOAD_BYTES
        )
        for name in _SWITCHES:
            yield from check.check_bool(name, getattr(self, name))
        yield from self._cors_problems()
        yield from check.check_addresses("proxy_addresses", self.proxy_addresses)
        for name in ("presence_grace_time", "readiness_delay"):
            yield from check.check_seconds(name, getattr(self, name), or_none=True)
        for name in ("allow_request", "generate_id", "wall_clock"):
            yield from check.check_callable(name, getattr(self, name))
        yield from check.check_instance("cookie", self.cookie, CookieOptions, optional=True)
        yield from check.check_instance("recovery", self.recovery, Recovery, optional=True)
        yield from check.check_instance("history", self.history, History, optional=True)
        yield from check.check_instance("limits", self.limits, Limits)
        yield from check_parser("parser", self.parser)
        if self.adapter is not None and not callable(getattr(self.adapter, "bus", None)):
            # Not the value: it may be a URL with a password.
            found = type(self.adapter).__name__
            yield f"adapter: must be an adapter, such as RedisAdapter(url), not a {found}"
        yield from check.check_choice("overflow", self.overflow, OVERFLOW_POLICIES)

    def _cors_problems(self) -> Iterator[str]:
        yield from check.check_origins("cors_allowed_origins", self.cors_allowed_origins)
        yield from check.check_tokens("cors_methods", self.cors_methods, "HTTP methods")
        yield from check.check_tokens("cors_allowed_headers", self.cors_allowed_headers, "header names")
        if self.cors_max_age is not None:
            yield from check.check_whole("cors_max_age", self.cors_max_age, minimum=0, maximum=1 << 31)
        if self.cors_credentials is True and self.cors_allowed_origins == "*":
            yield 'cors_credentials: cannot be True while every origin ("*") may connect'

    @classmethod
    def load(cls, path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Self:
        """Read settings from a TOML file, overlaid by the environment.

        The options stand in the table `[broker]` (or at the top of a file that has no such table),
        those of `limits`, `cookie`, `recovery` and `history` in tables below it. The environment wins:
        `BROKER_PING_INTERVAL=10`, `BROKER_LIMITS_MAX_ATTACHMENTS=5`,
        `BROKER_CORS_ALLOWED_ORIGINS=https://a.example,https://b.example`. A `BROKER_` variable that
        is no option is passed over, unless it comes close to one.

        Args:
            path: The file; it is read at once, before a broker serves.
            environ: The environment to take; None takes that of the process.

        Raises:
            ConfigError: The file cannot be read, or an option is unknown or not allowed; it gives
                the path of each.
        """
        tree = sources.read_toml(path)
        return sources.structure(cls, sources.overlay_environ(cls, tree, _environ(environ)))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read settings from environment variables alone, as `load` does.

        Raises:
            ConfigError: A variable comes close to an option but is none, or its value is not
                allowed.
        """
        return sources.structure(cls, sources.overlay_environ(cls, {}, _environ(environ)))

    def replace(self, **options: Any) -> Self:
        """Return a copy with other values for some options, checked as a whole.

        Raises:
            ConfigError: An option is unknown, or a value is not allowed.
        """
        return type(self)(**{**sources.shallow_dict(self), **options})

    def describe(self) -> list[str]:
        """Return one aligned line (name, value, unit) for each option and limit, for people."""
        rows = list(_rows(self))
        width = max(len(name) for name, _ in rows)
        return [f"{name:<{width}}  {value}" for name, value in rows]


_SWITCHES: Final = (
    "add_trailing_slash",
    "allow_upgrades",
    "cors_credentials",
    "serve_client",
    "cleanup_empty_child_namespaces",
    "error_acks",
)
_SECONDS: Final = (
    "_interval",
    "_timeout",
    "_window",
    "_delay",
    "_period",
    "_time",
    "max_age",
    ".window",
)


def _environ(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environ is None else environ


def _rows(values: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in sources.shallow_dict(values).items():
        if isinstance(value, CookieOptions | Recovery | Limits):
            yield from _rows(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _worded(prefix + name, value)


def _worded(name: str, value: object) -> str:
    """Write a value as a person would.

    What only code can set is named, never printed: it may hold secrets.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        number = f"{value:,}" if isinstance(value, int) or math.isinf(value) else f"{value:,.10g}"
        return number + _unit(name)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else getattr(value, "__qualname__", type(value).__qualname__)


def _unit(name: str) -> str:
    if name.endswith("_bytes"):
        return " bytes"
    return " s" if name.endswith(_SECONDS) else ""
