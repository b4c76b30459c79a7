"""A dict that tells of its changes, so that a socket's data can be written ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class WatchedDict(dict[str, Any]):
    """A dict that calls a function after each change of itself; changes inside its values it does not see.

    Args:
        values: What it begins with.
        changed: Called with nothing; must not raise.
    """

    __slots__ = ("_changed",)

    def __init__(self, values: Mapping[str, Any], changed: Callable[[], None]) -> None:
        super().__init__(values)
        self._changed = changed

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what is in it: whoever is told of changes of this dict is not for a copy."""
        return dict, (dict(self),)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._changed()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed()

    def __ior__(self, other: Any) -> WatchedDict:  # type: ignore[override,misc] # it stays what it is
        self.update(other)
        return self

    def clear(self) -> None:
        """Take out everything."""
        super().clear()
        self._changed()

    def pop(self, *args: Any) -> Any:
        """Take out one value."""
        value = super().pop(*args)
        self._changed()
        return value

    def popitem(self) -> tuple[str, Any]:
        """Take out the last key and its value."""
        item = super().popitem()
        self._changed()
        return item

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, put in if it was missing."""
        value = super().setdefault(key, default)
        self._changed()
        return value

    def update(self, *args: Any, **values: Any) -> None:
        """Take over what a mapping or pairs say."""
        super().update(*args, **values)
        self._changed()
