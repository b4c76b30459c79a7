"""Turn a TOML file and environment variables into settings; every error names its path."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import os
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
from cattrs import AttributeValidationNote, ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from broker.flow.settings_checks import ConfigError, problem, unknown_option

TABLE = "broker"
PREFIX = "BROKER_"

T = TypeVar("T")
Tree = dict[str, Any]
Options = Mapping[str, tuple[tuple[str, ...], Any]]  # by variable: path in the tree, type hint

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class _UnfitError(ValueError):
    """Carry what a value should have been, until its path is known."""

    def __init__(self, allowed: str, value: object) -> None:
        self.allowed = allowed
        self.value = value
        super().__init__(problem("value", allowed, value))


def shallow_dict(values: object) -> Tree:
    """Return the fields of an attrs instance or a dataclass, one level deep."""
    kind: Any = type(values)
    return {name: getattr(values, name) for name in _hints(kind)}


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    if attrs.has(cls):
        return {attribute.name: hints[attribute.name] for attribute in attrs.fields(cls)}
    return {item.name: hints[item.name] for item in dataclasses.fields(cls)}


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and (attrs.has(kind) or dataclasses.is_dataclass(kind))


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the types that a hint allows, without None."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(member for member in get_args(kind) if member is not types.NoneType)
    return (kind,)


def _group(kind: Any) -> type | None:
    return next((member for member in _members(kind) if _is_group(member)), None)


# -- the file ------------------------------------------------------------------


def read_toml(path: str | os.PathLike[str]) -> Tree:
    """Return the broker's table of a TOML file.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        tree = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{os.fspath(path)}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{os.fspath(path)}: is not TOML: {error}") from None
    table = tree.get(TABLE, tree)
    if not isinstance(table, dict):
        raise ConfigError(problem(TABLE, "a table", table))
    return table


# -- the environment -----------------------------------------------------------


def overlay_environ(cls: type, tree: Tree, environ: Mapping[str, str]) -> Tree:
    """Return the tree with the values of the environment in place of its own.

    Raises:
        ConfigError: A variable comes close to an option but is none, or its text cannot be read.
    """
    result = copy.deepcopy(tree)
    known = dict(_variables(cls))
    problems: list[str] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        try:
            _overlay(result, known, variable, environ[variable])
        except _UnfitError as error:
            problems.append(problem(variable, error.allowed, error.value))
        except KeyError:
            # Container platforms set variables of this prefix for a service called "broker": only a
            # likely slip of the pen is an error.
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0.9)
            problems += [f"{variable}: unknown option; did you mean {name}?" for name in nearest]
    if problems:
        raise ConfigError(*problems)
    return result


def _variables(cls: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[tuple[str, ...], Any]]]:
    for name, kind in _hints(cls).items():
        here = (*path, name)
        yield PREFIX + "_".join(here).upper(), (here, kind)
        if (group := _group(kind)) is not None:
            yield from _variables(group, here)


def _overlay(tree: Tree, known: Mapping[str, tuple[tuple[str, ...], Any]], variable: str, text: str) -> None:
    path, kind = known[variable]
    for name in path[:-1]:
        # A table takes the place of a plain value, such as a cookie given by name.
        table = tree.get(name)
        tree[name] = table if isinstance(table, dict) else {}
        tree = tree[name]
    tree[path[-1]] = parse_text(text, kind)


def parse_text(text: str, kind: Any) -> Any:
    """Read the text of a variable as the type of its option.

    Raises:
        ValueError: It cannot be read so.
    """
    optional = types.NoneType in get_args(kind)
    if optional and text.strip().lower() in ("", "none"):
        return None
    member = next(iter(_members(kind)))
    if get_origin(member) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    reader = _READERS.get(member)
    return reader(text.strip()) if reader is not None else text


def _read_bool(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise _UnfitError(f"one of {', '.join(_TRUE + _FALSE)}", text)
    return text.lower() in _TRUE


def _read_number(kind: type[int] | type[float], allowed: str, text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise _UnfitError(allowed, text) from None


_READERS: dict[Any, Callable[[str], Any]] = {
    bool: _read_bool,
    int: functools.partial(_read_number, int, "a whole number"),
    float: functools.partial(_read_number, float, "a number"),
}


# -- the structure -------------------------------------------------------------


def structure(cls: type[T], tree: Tree) -> T:
    """Build the settings from a tree of plain values.

    Raises:
        ConfigError: It names the path of each unknown key and of each value that does not fit.
    """
    kind: Any = cls
    converter = _converter(kind)
    try:
        return converter.structure(tree, cls)
    except ClassValidationError as error:
        raise ConfigError(*_problems(error, TABLE)) from None


@functools.cache
def _converter(cls: Any) -> Converter:
    """Compile the hooks of the settings and of the groups inside them, once."""
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    for kind, (accepted, allowed) in _PLAIN.items():
        converter.register_structure_hook(kind, _plain_hook(accepted, allowed))
    converter.register_structure_hook_factory(_is_option, functools.partial(_option_hook, converter))
    for group in filter(None, map(_group, _hints(cls).values())):
        converter.register_structure_hook(group, _table_hook(converter, group))
    converter.register_structure_hook(cls, _table_hook(converter, cls))
    return converter


_PLAIN: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
}


def _plain_hook(accepted: tuple[type, ...], allowed: str) -> Callable[[Any, Any], Any]:
    return lambda value, _: _plain(value, accepted, allowed)


def _table_hook(converter: Converter, group: type) -> Callable[[Any, Any], Any]:
    fill: Callable[[Any, Any], Any] = make_dict_structure_fn(group, converter, _cattrs_forbid_extra_keys=True)

    def hook(value: Any, kind: Any) -> Any:
        try:
            return fill(_plain(value, (dict,), "a table"), kind)
        except ClassValidationError as error:
            if not dataclasses.is_dataclass(group) or list(error.group_exceptions()[0]):
                raise
            raise _by_field(group, value) or error from None

    return hook


def _by_field(group: type, table: Tree) -> BaseExceptionGroup[Any] | None:
    """Find all fields that a dataclass refuses: it stops at the first, and gives no path."""
    known = _hints(group)
    errors: list[Exception] = []
    for name in filter(known.__contains__, table):
        try:
            group(**{name: table[name]})
        except (TypeError, ValueError) as error:
            error.__notes__ = [AttributeValidationNote("", name, known[name])]
            errors.append(error)
    return ClassValidationError("", errors, group) if errors else None


def _plain(value: Any, accepted: tuple[type, ...], allowed: str) -> Any:
    # Not isinstance: bool is an int to Python; in a file it is a slip.
    if type(value) not in accepted:
        raise _UnfitError(allowed, value)
    return value


def _is_option(kind: Any) -> bool:
    """Say whether a hint is of an option: a union, a list, a choice of words or a callable."""
    return kind is Any or get_origin(kind) in (Union, types.UnionType, tuple, Literal)


def _option_hook(converter: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    members = _members(kind)
    group = _group(kind)
    if any(member is Any or get_origin(member) is _CALLABLE for member in members):
        return _code_only
    if group is not None:
        return lambda value, _: converter.structure(value, group) if isinstance(value, dict) else value
    if len(members) == 1 and members[0] is not kind:
        return lambda value, _: value if value is None else converter.structure(value, members[0])
    # Lists and words are checked by the settings themselves, which accept a single text for a list.
    return lambda value, _: value


_CALLABLE = get_origin(Callable[..., Any])


def _code_only(value: Any, _: Any) -> Any:
    raise _UnfitError("set in code: a file cannot hold it", value)


# -- what went wrong -----------------------------------------------------------


def _problems(error: BaseException, path: str) -> Iterator[str]:
    """Flatten the converter's tree of exceptions into lines that start with a path."""
    if isinstance(error, ClassValidationError):
        noted, rest = error.group_exceptions()
        for inner, note in noted:
            yield from _problems(inner, f"{path}.{note.name}")
        for inner in rest:
            yield from _problems(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = _hints(error.cl)
        yield from (f"{path}.{unknown_option(name, known)}" for name in sorted(error.extra_fields))
    elif isinstance(error, ConfigError):
        # The option's own check names it from the settings down, also when it is in a group.
        yield from (f"{TABLE}.{line}" for line in error.problems)
    elif isinstance(error, _UnfitError):
        yield problem(path, error.allowed, error.value)
    else:
        yield f"{path}: {error}"
