"""Say in words what is wrong with the value of an option.

Every check takes the option's name and value and yields nothing, or one line that names the option,
says what is allowed and shows what was found. Lines are gathered, so that one run tells all.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import attrs

MAX_SECONDS = 3_600.0
MAX_PAYLOAD_BYTES = 1 << 30
MAX_AGE = 1 << 31  # seconds; what RFC 9111 lets a cache read as for ever

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_PATH = re.compile(r"/[^\s\x00-\x1f\x7f?#]*[^\s\x00-\x1f\x7f?#/]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://(\[[0-9a-f:.]+\]|[a-z0-9._\-]+)(:[0-9]{1,5})?")
_COOKIE_ATTRIBUTE = re.compile(r"[\x21-\x3a\x3c-\x7e]+")
_ORIGINS_WITHOUT_HOST = ("null", "file://")


class ConfigError(ValueError):
    """Say which options are unknown or hold a value that is not allowed.

    Attributes:
        problems: One line for each problem, each starting with the name of its option.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def refuse(problems: Iterable[str]) -> None:
    """Raise a ConfigError with all problems, if there are any."""
    if lines := tuple(problems):
        raise ConfigError(*lines)


def refuse_unknown(cls: type[attrs.AttrsInstance], names: Iterable[str], prefix: str = "") -> None:
    """Raise a ConfigError for names that are no options of the class."""
    known = [attribute.name for attribute in attrs.fields(cls)]
    refuse(prefix + unknown_option(name, known) for name in names if name not in known)


def unknown_option(name: str, known: Iterable[str]) -> str:
    """Return the line for an option that does not exist, with the nearest one that does."""
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
    nearest = difflib.get_close_matches(snake, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{name}: unknown option{hint}"


def problem(name: str, allowed: str, value: object) -> str:
    """Return the line that says what is allowed and what was found."""
    return f"{name}: must be {allowed}, found {value!r}"


def check_seconds(
    name: str, value: object, *, maximum: float = MAX_SECONDS, or_none: bool = False
) -> Iterator[str]:
    """Hold durations to finite float seconds above 0, or to 0 as well if there may be none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and or_none and value == 0:
        return
    if not number or not math.isfinite(value) or not 0 < value <= maximum:  # type: ignore[arg-type,operator]
        least = "from 0 to" if or_none else "above 0 and at most"
        allowed = f"a number of seconds (not milliseconds) {least} {maximum:,.0f}"
        yield problem(name, allowed, value)


def check_whole(name: str, value: object, *, minimum: int, maximum: int) -> Iterator[str]:
    """Hold sizes and counts to whole numbers within a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        yield problem(name, f"a whole number from {minimum:,} to {maximum:,}", value)


def check_bool(name: str, value: object) -> Iterator[str]:
    """Hold switches to True and False: a non-empty string such as "false" would be true."""
    if not isinstance(value, bool):
        yield problem(name, "True or False", value)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> Iterator[str]:
    """Hold a value to one of a few words."""
    if value not in choices:
        yield problem(name, f"one of {', '.join(choices)}", value)


def check_callable(name: str, value: object) -> Iterator[str]:
    """Hold hooks to None or something that can be called."""
    if value is not None and not callable(value):
        yield problem(name, "None or a callable", value)


def check_instance(name: str, value: object, wanted: type, *, optional: bool = False) -> Iterator[str]:
    """Hold grouped options to their class."""
    if not isinstance(value, wanted) and not (optional and value is None):
        none = "None or " if optional else ""
        yield problem(name, f"{none}an instance of {wanted.__name__}", value)


def check_path(name: str, value: object) -> Iterator[str]:
    """Hold the request path to one that can be matched as it is."""
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "//" in value:
        allowed = 'a path like "/socket.io", without spaces, "?" or "#"'
        yield problem(name, allowed, value)


def check_transports(name: str, value: object, choices: tuple[str, ...]) -> Iterator[str]:
    """Hold the transports to a choice without repeats of those there are."""
    if not isinstance(value, tuple) or not value:
        yield problem(name, f"one or more of {', '.join(choices)}", value)
        return
    for item in value:
        yield from check_choice(name, item, choices)
    if len(set(value)) != len(value):
        yield problem(name, "free of repeats", value)


def check_tokens(name: str, value: object, what: str) -> Iterator[str]:
    """Hold method and header names to tokens, which cannot break out of a header."""
    if not isinstance(value, tuple):
        yield problem(name, f"a list of {what}", value)
        return
    for item in value:
        if not isinstance(item, str) or not _TOKEN.fullmatch(item):
            yield problem(name, f"a list of {what}", item)


def check_origins(name: str, value: object) -> Iterator[str]:
    """Hold allowed origins to what a browser sends as Origin: scheme, host and port, no more."""
    if value == "*":
        return
    allowed = '"*" or origins like "https://app.example" (scheme, host, port; no path)'
    if not isinstance(value, tuple):
        yield problem(name, allowed, value)
        return
    for item in value:
        known = isinstance(item, str) and (item in _ORIGINS_WITHOUT_HOST or _ORIGIN.fullmatch(item))
        if not known:
            yield problem(name, allowed, item)


def check_addresses(name: str, value: object) -> Iterator[str]:
    """Hold addresses to IP addresses."""
    allowed = "a list of IP addresses"
    if not isinstance(value, tuple):
        yield problem(name, allowed, value)
        return
    for item in value:
        try:
            ip_address(item)
        except ValueError:
            yield problem(name, allowed, item)


def check_token(name: str, value: object) -> Iterator[str]:
    """Hold a cookie's name to a token."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        yield problem(name, 'letters, digits and punctuation, without spaces, ";" or "="', value)


def check_cookie_attribute(name: str, value: object) -> Iterator[str]:
    """Hold a cookie's path and domain to text that stays inside its attribute (CVE-2024-47764)."""
    if value is not None and not (isinstance(value, str) and _COOKIE_ATTRIBUTE.fullmatch(value)):
        yield problem(name, 'printable ASCII without spaces or ";"', value)
