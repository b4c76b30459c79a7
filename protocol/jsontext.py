"""Strict JSON in and out: depth-bounded, no NaN, no lone surrogates, bytes taken out as attachments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from .limits import Limits

JSON_DEPTH = Limits().json_depth

_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class JSONError(ValueError):
    """The text is not the JSON this protocol admits; the message says what is wrong, without the text."""


class DepthError(JSONError):
    """The text nests deeper than the limit."""


def is_utf8(data: bytes) -> bool:
    """Tell whether `data` is UTF-8 text."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def nesting_exceeds(text: bytes, depth: int) -> bool:
    """Tell whether arrays and objects in `text` nest deeper than `depth`.

    Brackets inside strings do not count. Text that cannot nest so deep is told by counting alone. Otherwise
    the strings are cut out, and what is left of the brackets loses its innermost pairs once per level: all of
    it in C. For text that is not JSON the answer only decides which error it gets.
    """
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(text.split(b'"')[::2]).translate(_TO_SQUARE, _NO_BRACKETS)
    for _ in range(depth):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    return brackets.count(b"[") > (depth if b"[]" not in brackets else 0)


def load(text: bytes, depth: int = JSON_DEPTH) -> Any:
    """Parse JSON text.

    Args:
        text: UTF-8 bytes.
        depth: How deep arrays and objects may nest.

    Raises:
        DepthError: It nests deeper than `depth`.
        JSONError: It is not strict JSON (RFC 8259): NaN, lone surrogates, trailing text and the like.
    """
    # A text must hold an opening and a closing bracket for each level: shorter ones need no scan.
    if len(text) > 2 * depth and nesting_exceeds(text, depth):
        raise DepthError(f"nested deeper than {depth}")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise JSONError(error.msg) from None


def dump(value: Any) -> bytes:
    """Serialize `value` as compact UTF-8 JSON; bytes are refused.

    Raises:
        TypeError: Something in `value` has no JSON form.
    """
    return orjson.dumps(value)


def dump_with_attachments(
    value: Any, default: Callable[[Any], Any] | None = None
) -> tuple[bytes, list[bytes]]:
    """Serialize `value`, replacing each bytes-like object by a numbered placeholder.

    Placeholders are numbered in the order of the text. `value` itself is not changed.

    Args:
        value: JSON values, other sets and mappings, dataclasses, datetimes, UUIDs, enums, and bytes-like
            objects at any depth.
        default: Turns an object of another type into one of those; raises TypeError if it cannot.

    Returns:
        The JSON text and the attachments, in placeholder order.

    Raises:
        TypeError: Something has no JSON form, nests too deep, or refers to itself.
    """
    attachments: list[bytes] = []

    def replace(item: Any) -> Any:
        if isinstance(item, (bytes, bytearray, memoryview)):
            attachments.append(bytes(item))
            return {"_placeholder": True, "num": len(attachments) - 1}
        if isinstance(item, (set, frozenset)):
            return list(item)
        if isinstance(item, Mapping):
            return dict(item)
        if default is not None:
            return default(item)
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return orjson.dumps(value, default=replace), attachments
    except orjson.JSONEncodeError as error:
        raise TypeError(f"arguments cannot be encoded: {error.__cause__ or error}") from error
