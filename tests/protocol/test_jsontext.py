"""Strict JSON: depth against a naive count, and what cannot be written."""

from __future__ import annotations

import json
import math
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.jsontext import DepthError, JSONError, dump, dump_with_attachments, load, nesting_exceeds

_json = st.recursive(
    st.none() | st.text(alphabet='a"\\[]{}é', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet='"\\[{x', max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def naive_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(naive_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(naive_depth, value), default=0)
    return 0


@given(_json, st.integers(1, 6), st.sampled_from([None, 1]))
def test_depth_is_the_depth_of_the_value(value: Any, limit: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    assert nesting_exceeds(text, limit) is (naive_depth(value) > limit)


@given(st.text(alphabet='[]{}"\\,a', max_size=200).map(str.encode), st.integers(1, 5))
@example(b"[" * 200, 5)
@example(b"]" * 200 + b"[" * 200, 5)
@example(b'["' + b"\\" * 99, 1)
def test_any_text_gives_a_value_or_an_error(text: bytes, depth: int) -> None:
    try:
        value = load(text, depth)
    except JSONError:
        return
    # Short text is not measured, for it cannot hold more levels than its length allows.
    assert naive_depth(value) <= depth


@pytest.mark.parametrize("depth", [1, 2, 64, 254])
def test_exactly_the_limit_passes(depth: int) -> None:
    assert load(b"[" * depth + b"]" * depth, depth) is not None
    with pytest.raises(DepthError):
        load(b"[" * (depth + 1) + b"]" * (depth + 1), depth)
    with pytest.raises(DepthError):
        load(b"[" * 100_000, depth)


@pytest.mark.parametrize(
    "text", [b"", b" ", b"NaN", b"[1,]", b"1e999", b"1" * 5000, b'"\\ud800"', b"\xff", b"[]x"]
)
def test_what_is_not_json(text: bytes) -> None:
    with pytest.raises(JSONError) as caught:
        load(text)
    assert not isinstance(caught.value, DepthError)


def test_bytes_are_refused_without_attachments() -> None:
    with pytest.raises(TypeError):
        dump({"a": b"x"})


def test_sets_and_a_converter() -> None:
    def convert(value: Any) -> Any:
        if isinstance(value, complex):
            return [value.real, b"i"]
        raise TypeError("no form")

    assert dump_with_attachments([{1}, frozenset({b"f"}), 1j], convert) == (
        b'[[1],[{"_placeholder":true,"num":0}],[0.0,{"_placeholder":true,"num":1}]]',
        [b"f", b"i"],
    )
    with pytest.raises(TypeError, match="no form"):
        dump_with_attachments([object()], convert)


def test_mappings_that_are_no_dict() -> None:
    assert dump_with_attachments([MappingProxyType({"a": b"f"}), MappingProxyType({})]) == (
        b'[{"a":{"_placeholder":true,"num":0}},{}]',
        [b"f"],
    )


@pytest.mark.parametrize("value", [object(), {b"k": 1}, {1: 2}, "\ud800", 2**64])
def test_what_has_no_json_form(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be encoded"):
        dump_with_attachments(["x", value])


def test_nan_is_written_as_null() -> None:
    assert dump([math.nan, math.inf]) == b"[null,null]"
