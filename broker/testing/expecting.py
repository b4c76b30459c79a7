"""Whether a value is what a test expects, and how it differs if it is not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson


def fits(expected: Any, found: Any) -> bool:
    """Tell whether a value is the expected one.

    Anywhere inside `expected`, `...` stands for any value, or at the end of a list for the rest of it; a type
    stands for its instances, a pattern for texts in which it is found, a function for what it returns true
    for. A mapping with the key `...` may hold more keys.
    """
    if expected is ...:
        return True
    if isinstance(expected, type):
        return isinstance(found, expected)
    if isinstance(expected, re.Pattern):
        return isinstance(found, str) and expected.search(found) is not None
    if callable(expected):
        return bool(expected(found))
    if isinstance(expected, Mapping):
        return _mapping_fits(expected, found)
    if isinstance(expected, (list, tuple)):
        return _sequence_fits(expected, found)
    return bool(expected == found) and isinstance(expected, bool) == isinstance(found, bool)


def _mapping_fits(expected: Mapping[Any, Any], found: Any) -> bool:
    if not isinstance(found, Mapping):
        return False
    names = [name for name in expected if name is not ...]
    if ... not in expected and set(names) != set(found):
        return False
    return all(name in found and fits(expected[name], found[name]) for name in names)


def _sequence_fits(expected: Sequence[Any], found: Any) -> bool:
    if not isinstance(found, (list, tuple)):
        return False
    if expected and expected[-1] is ...:
        return len(found) >= len(expected) - 1 and all(map(fits, expected[:-1], found))
    return len(expected) == len(found) and all(map(fits, expected, found))


def show(value: Any) -> str:
    """Show a value as JSON over several lines, with what has no JSON form in angle brackets."""
    return orjson.dumps(
        _plain(value), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    ).decode()


def _plain(value: Any) -> Any:
    if value is ...:
        return "..."
    if isinstance(value, Mapping):
        return {str(_plain(name)): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, re.Pattern):
        return f"<text like {value.pattern}>"
    if isinstance(value, type):
        return f"<any {value.__name__}>"
    return f"<{value!r}>"


def difference(expected: Any, found: Any) -> str:
    """Return a diff of two values."""
    lines = difflib.ndiff(show(expected).splitlines(), show(found).splitlines())
    return "\n".join(line for line in lines if not line.startswith("?"))


def unexpected(what: str, expected: Any, found: Any, others: Iterable[Any] = ()) -> AssertionError:
    """Return the error that says how they differ, and what else there was."""
    text = f"{what}\n(- expected, + found)\n{difference(expected, found)}"
    rest = [show(one).replace("\n", "").replace("  ", " ") for one in others]
    if rest:
        text += "\nand after it:\n" + "\n".join(f"    {one}" for one in rest)
    return AssertionError(text)
