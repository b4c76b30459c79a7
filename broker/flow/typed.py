"""Annotations of a handler to functions that check and build its arguments, compiled at registration."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import is_dataclass
from enum import EnumType
from functools import partial, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from attrs import has
from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError, CattrsError, StructureHandlerNotFoundError
from cattrs.gen import make_mapping_structure_fn

from .errors import EventError

logger = logging.getLogger(__name__)

Structure = Callable[[Any, Any], Any]


def _strict(expected: type, *also: type) -> Structure:
    accepted = (expected, *also)

    def check(value: Any, annotation: Any) -> Any:
        # JSON true is no number, though Python's bool is an int.
        if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
            raise TypeError(f"expected {expected.__name__}, got {type(value).__name__}")
        # An enum of texts or numbers is found here by its base.
        is_enum = annotation is not expected and isinstance(annotation, EnumType)
        return annotation(value) if is_enum else value

    return check


def _build_converter() -> Converter:
    # A bare converter: its JSON preset would turn bytes into base85 text, ours travel as attachments.
    converter = Converter(forbid_extra_keys=False)
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(float, _strict(float, int))
    converter.register_structure_hook(bool, _strict(bool))
    converter.register_structure_hook(bytes, _strict(bytes))
    converter.register_structure_hook(NoneType, _strict(NoneType))
    _guard_containers(converter)
    _tell_apart_by_json_form(converter)
    return converter


def _guard_containers(converter: Converter) -> None:
    """Hold arrays and objects to what they are: cattrs would take a text for a list of its letters."""
    being_built: set[Any] = set()

    def is_guarded(annotation: Any) -> bool:
        return _json_form(annotation) is not None and annotation not in being_built

    def guard(annotation: Any) -> Structure:
        check = _strict(*_json_form(annotation) or ())
        if annotation is dict:
            return check
        if get_origin(annotation) in (dict, Mapping, MutableMapping):
            # What `get_structure_hook` builds of these would take the place of this guard.
            build: Structure = make_mapping_structure_fn(annotation, converter)
        else:
            being_built.add(annotation)
            try:
                build = converter.get_structure_hook(annotation, cache_result=False)
            finally:
                being_built.discard(annotation)
        return lambda value, expected: build(check(value, expected), expected)

    converter.register_structure_hook_factory(is_guarded, guard)


def _json_form(annotation: Any) -> tuple[type, ...] | None:
    """Return what a JSON array or object for this type is in Python; None if it is neither."""
    made = get_origin(annotation) or annotation
    if not isinstance(made, type) or issubclass(made, (str, bytes)):
        return None
    if issubclass(made, Mapping) or has(made) or is_dataclass(made):
        return (dict,)
    return (list, tuple) if issubclass(made, Collection) else None


def _tell_apart_by_json_form(converter: Converter) -> None:
    """Have unions built whose members look different in JSON, such as `int | str`; cattrs refuses them."""

    def build(annotation: Any) -> Structure:
        members = _by_json_form(annotation)
        hooks = [(form, converter.get_structure_hook(one), one) for form, one in members.items()]
        names = " or ".join("null" if form is NoneType else form.__name__ for form in members)

        def choose(value: Any, _: Any) -> Any:
            kind = list if isinstance(value, tuple) else type(value)
            for form, hook, one in hooks:
                if kind is form or (form is float and kind is int and int not in members):
                    return hook(value, one)
            raise TypeError(f"expected {names}, got {type(value).__name__}")

        return choose

    converter.register_structure_hook_factory(lambda one: len(_by_json_form(one)) > 1, build)


def _by_json_form(annotation: Any) -> dict[type, Any]:
    """Return the members of a union by what they are in JSON; nothing if cattrs knows better."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    scalars = (str, int, float, bool, bytes, NoneType)
    forms = [one if one in scalars else (_json_form(one) or (None,))[0] for one in members]
    objects = [one for one, form in zip(members, forms, strict=True) if form is dict]
    others = {form: one for one, form in zip(members, forms, strict=True) if form not in (None, dict)}
    told_apart = None not in forms and len(others) + len(objects) == len(members)
    values = others.keys() - {NoneType}
    if not told_apart or not values or len(values) + len(objects) < 2:
        return {}
    return {**others, **({dict: reduce(or_, objects)} if objects else {})}


converter = _build_converter()


class TypedArguments:
    """Checks and builds the arguments of one event.

    Args:
        event: The event's name, for the error.
        hooks: One function an argument; None takes the argument as it is.
        names: Names of the parameters, for the error.
    """

    __slots__ = ("_event", "_hooks", "_names")

    def __init__(
        self, event: str, hooks: Sequence[Callable[[Any], Any] | None], names: Sequence[str]
    ) -> None:
        self._event = event
        self._hooks = hooks
        self._names = names

    def build(self, args: Sequence[Any]) -> list[Any]:
        """Return the arguments as the annotations want them.

        Raises:
            EventError: With code `invalid_arguments`; the data lists what is wrong, with paths.
        """
        built = list(args)
        for index, hook in enumerate(self._hooks[: len(built)]):
            if hook is None:
                continue
            try:
                built[index] = hook(built[index])
            except (CattrsError, TypeError, ValueError, KeyError) as error:
                problems = _problems(error, self._names[index])
                raise EventError(
                    "invalid_arguments", f"arguments of {self._event!r}: {problems[0]}", problems
                ) from error
        return built


def _problems(error: Exception, name: str) -> list[str]:
    if isinstance(error, BaseValidationError):
        return transform_error(error, path=name)
    return [f"{error} @ {name}"]


def compile_arguments(event: str, function: Callable[..., Any], skip: int) -> TypedArguments | None:
    """Compile the annotations of a handler; None if none of them says anything.

    Args:
        event: The event's name, for errors.
        function: The handler.
        skip: How many leading parameters are not arguments of the event.

    Raises:
        TypeError: An annotation names a type that JSON cannot be structured into.
    """
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    try:
        hints = get_type_hints(_annotated(function))
    except (NameError, TypeError) as error:
        logger.debug("annotations of the handler of %r cannot be read: %s", event, error)
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    hooks = [_compile(event, p.name, hints.get(p.name, Any)) for p in positional]
    if not any(hooks):
        return None
    return TypedArguments(event, hooks, [p.name for p in positional])


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what bears the annotations of a function, a partial one, or an object that can be called."""
    while isinstance(function, partial):
        function = function.func
    bears_them = inspect.isroutine(function) or hasattr(function, "__wrapped__")
    return function if bears_them else type(function).__call__


def _compile(event: str, name: str, annotation: Any) -> Callable[[Any], Any] | None:
    if annotation in (Any, object):
        return None
    try:
        hook = converter.get_structure_hook(annotation)
    except StructureHandlerNotFoundError as error:
        raise TypeError(f"parameter {name!r} of the handler of {event!r}: {error}") from error
    return lambda value: hook(value, annotation)
