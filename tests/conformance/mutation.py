"""Break the broker on purpose: rewrite the source of a function, and put the result in its place everywhere.

A fault whose text is not found is an error, so that none is lost when the broker changes.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        clause: The clause that it breaks.
        target: `module:function` or `module:Class.method`.
        old: Text in the source of the function.
        new: What stands there instead.
        also: Lines put in front of the function, for names that it needs.
    """

    clause: str
    target: str
    old: str
    new: str
    also: str = ""

    def find(self) -> tuple[Any, Any, Any, str]:
        """Return the module, the owner of the function, the function as it is there, and its source.

        Raises:
            LookupError: The broker has changed: the text to replace is not there any more.
        """
        module_name, _, path = self.target.partition(":")
        module = importlib.import_module(module_name)
        owner: Any = module
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        known = inspect.getattr_static(owner, name, None)
        if known is None:
            raise LookupError(f"there is no {self.target}")
        function = known.fget if isinstance(known, property) else known
        source = textwrap.dedent(inspect.getsource(function))
        if isinstance(known, property):
            source = source.replace("@property\n", "", 1)
        if self.old not in source:
            raise LookupError(f"{self.old!r} is not in {self.target}")
        return module, owner, known, source

    def apply(self) -> None:
        """Break the broker in this process."""
        import broker.server.broker  # noqa: F401 - all modules must be there before one is changed

        module, owner, known, source = self.find()
        name = self.target.rpartition(":")[2].rpartition(".")[2]
        exec(self.also, vars(module))
        local: dict[str, Any] = {}
        exec(compile(source.replace(self.old, self.new), f"<{self.target}>", "exec"), vars(module), local)
        changed = local[name]
        _put(owner, name, known, property(changed) if isinstance(known, property) else changed)


@dataclass(frozen=True)
class Row:
    """A fault in a table: a key of a dictionary has another value."""

    clause: str
    change: Callable[[], None]

    def apply(self) -> None:
        """Break the broker in this process."""
        import broker.server.broker  # noqa: F401 - likewise

        self.change()


def _put(owner: Any, name: str, known: Any, changed: Any) -> None:
    setattr(owner, name, changed)
    for module in list(sys.modules.values()):
        if module is not None and module.__name__.partition(".")[0] in ("broker", "protocol"):
            for other, value in list(vars(module).items()):
                if value is known:
                    setattr(module, other, changed)
                elif isinstance(value, type):
                    _put_static(value, known, changed)


def _put_static(owner: type, known: Any, changed: Any) -> None:
    for name, value in list(vars(owner).items()):
        if isinstance(value, staticmethod) and value.__func__ is known:
            setattr(owner, name, staticmethod(changed))
