"""Everything that `open_client` can be told, checked, and the addresses that follow from it."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urlencode, urlsplit

import trio
from attrs import Attribute, field, frozen, validators

from broker.flow.codec import check_client_parser
from broker.flow.settings_checks import refuse
from protocol import Limits
from protocol.engineio.handshake import PROTOCOL_VERSION

from .backoff import Backoff
from .offline import OfflinePolicy
from .tunnel import check_proxy

AuthValue: TypeAlias = Mapping[str, Any] | None
Auth: TypeAlias = AuthValue | Callable[[], AuthValue | Awaitable[AuthValue]]

Connector: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]

_SECURE = {"http": False, "ws": False, "https": True, "wss": True}
TRANSPORTS = ("polling", "websocket")


class HandlerErrorPolicy(StrEnum):
    """What an exception in a handler does."""

    RAISE = "raise"
    LOG = "log"


def _check_transports(_: Any, __: Attribute[Any], value: tuple[str, ...]) -> None:
    if not value or not set(value) <= set(TRANSPORTS):
        raise ValueError(f"transports must be some of {TRANSPORTS}, not {value!r}")


def _check_path(_: Any, __: Attribute[Any], value: str) -> None:
    if not value.startswith("/"):
        raise ValueError(f"path must begin with a slash, unlike {value!r}")


def _check_retries(_: Any, __: Attribute[Any], value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"retries must be a whole number, 0 or more, not {value!r}")


def _check_timeout(_: Any, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be a number of seconds above 0, not {value!r}")


def _check_parser(_: Any, attribute: Attribute[Any], value: str) -> None:
    refuse(check_client_parser(attribute.name, value))


@frozen(kw_only=True)
class ClientOptions:
    """The options of a client; `open_client` says what each means."""

    url: str
    auth: Auth = None
    transports: tuple[str, ...] = field(default=TRANSPORTS, converter=tuple, validator=_check_transports)
    upgrade: bool = True
    remember_upgrade: bool = False
    try_all_transports: bool = False
    reconnect: Backoff | None = field(factory=Backoff)
    ssl_context: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(factory=dict)
    cookies: Mapping[str, str] = field(factory=dict)
    proxy: str | None = None
    connector: Connector | None = None
    query: Mapping[str, str] = field(factory=dict)
    path: str = field(default="/socket.io", validator=_check_path)
    connect_timeout: float = field(default=20.0, validator=_check_timeout)
    ack_timeout: float | None = field(default=None, validator=_check_timeout)
    retries: int | None = field(default=None, validator=_check_retries)
    offline_limit: int = field(default=1_000, validator=validators.ge(1))
    offline_policy: OfflinePolicy = field(default=OfflinePolicy.RAISE, converter=OfflinePolicy)
    on_handler_error: HandlerErrorPolicy = field(
        default=HandlerErrorPolicy.RAISE, converter=HandlerErrorPolicy
    )
    max_message_bytes: int = field(default=16_777_216, validator=validators.ge(1_024))
    parser: str = field(default="json", validator=_check_parser)
    limits: Limits = field(factory=Limits)

    def __attrs_post_init__(self) -> None:
        """Refuse an address that cannot be one."""
        if self.connector is not None and self.proxy is not None:
            raise ValueError("a connector opens the connections itself: give either it or a proxy")
        if self.proxy is not None and "websocket" in self.transports:
            check_proxy(self.proxy)
        try:
            parts = self._parts()
            usable = parts.scheme in _SECURE and bool(parts.hostname) and parts.port != 0
            (parts.hostname or "").encode("idna")
        except ValueError:  # brackets without an IPv6 address, a port that is none, a part of a name too long
            usable = False
        if not usable:
            raise ValueError(f"the URL must be http(s)://HOST:PORT or ws(s)://HOST:PORT, not {self.url!r}")

    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def secure(self) -> bool:
        """Whether the server is reached over TLS."""
        return _SECURE[self._parts().scheme]

    @property
    def host(self) -> str:
        """The host to reach."""
        return self._parts().hostname or ""

    @property
    def port(self) -> int:
        """The TCP port to reach."""
        return self._parts().port or (443 if self.secure else 80)

    @property
    def netloc(self) -> str:
        """Host and port as they stand in a Host header."""
        return self._parts().netloc.rpartition("@")[2]

    @property
    def namespace(self) -> str:
        """The namespace that the path of the URL names."""
        return self._parts().path.rstrip("/") or "/"

    @property
    def call_timeout(self) -> float:
        """Seconds to wait for an ack if a call says nothing else."""
        return self.limits.ack_timeout if self.ack_timeout is None else self.ack_timeout

    def resource(self, transport: str, session_id: str | None = None) -> str:
        """Return path and query of a request."""
        query = {**self.query, "EIO": PROTOCOL_VERSION, "transport": transport}
        given = self._parts().query
        if session_id is not None:
            query["sid"] = session_id
        text = urlencode(query)
        return f"{self.path.rstrip('/')}/?{f'{given}&{text}' if given else text}"

    def http_url(self, session_id: str | None) -> str:
        """Return the URL of a polling request."""
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{self.netloc}{self.resource('polling', session_id)}"


def namespaces_of(options: ClientOptions, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the namespaces to be in: those given, or the one the URL names."""
    names = (options.namespace,) if given is None else tuple(given)
    if not names:
        raise ValueError("a client needs at least one namespace")
    for name in names:
        check_namespace(name)
    return names


def check_namespace(name: str) -> None:
    """Refuse what cannot be the name of a namespace. Spec: SIO-NSP-1."""
    if not name.startswith("/") or "," in name:
        raise ValueError(f"a namespace begins with a slash and holds no comma, unlike {name!r}")
