"""Which pages are let in."""

from __future__ import annotations

import pytest

from protocol.engineio.origin import origin_allowed, origin_detail


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("https://example.com", "Example.COM"),
        ("https://EXAMPLE.com:443", "example.com"),
        ("http://example.com:8080", "example.com:8080"),
        ("http://[::1]:3000", "[::1]:3000"),
        ("https://[::1]", "[::1]"),
    ],
)
def test_same_origin(origin: str, host: str) -> None:
    assert origin_allowed(origin, host, ())


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.com", "example.com"),
        ("http://example.com.evil.com", "example.com"),
        ("http://example.com:81", "example.com"),
        ("http://example.com", "example.com:81"),
        ("http://example.com", None),
        ("null", "example.com"),
        ("", ""),
        ("http://", ""),
        ("http://[::1", "[::1"),
        ("http://example.com:99999", "example.com"),
        ("http://example.com:x", "example.com:x"),
        ("file://", "example.com"),
    ],
)
def test_other_origins(origin: str, host: str | None) -> None:
    assert not origin_allowed(origin, host, ())


def test_clients_that_are_no_browsers() -> None:
    assert origin_allowed(None, "example.com", ("https://app.example",))


def test_allowed_list_is_compared_whole() -> None:
    allowed = ("https://app.example",)
    assert origin_allowed("https://app.example", None, allowed)
    assert not origin_allowed("https://app.example.evil.com", None, allowed)
    assert not origin_allowed("http://app.example", "app.example", allowed)
    assert origin_allowed("http://anything", None, ("*",))


def test_detail_names_both_sides() -> None:
    assert (
        origin_detail("http://a", "b", ()) == "origin http://a is not allowed; expected the same origin (b)"
    )
    assert origin_detail("http://a", "b", ("http://c", "http://d")).endswith("expected http://c, http://d")
