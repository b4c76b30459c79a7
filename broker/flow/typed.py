"""Annotations of a handler to functions that check and build its arguments, compiled at registration."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError

from .errors import EventError

logger = logging.getLogger(__name__)

Structure = Callable[[Any, Any], Any]


def _strict(expected: type, *also: type) -> Structure:
    accepted = (expected, *also)

    def check(value: Any, _: Any) -> Any:
        # JSON true is no number, though Python's bool is an int.
        if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
            raise TypeError(f"expected {expected.__name__}, got {type(value).__name__}")
        return value

    return check


def _build_converter() -> Converter:
    # A bare converter: its JSON preset would turn bytes into base85 text, ours travel as attachments.
    converter = Converter(forbid_extra_keys=False)
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(float, _strict(float, int))
    converter.register_structure_hook(bool, _strict(bool))
    converter.register_structure_hook(bytes, _strict(bytes))
    return converter


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
            except (BaseValidationError, TypeError, ValueError, KeyError) as error:
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
        hints = get_type_hints(function)
    except (NameError, TypeError) as error:
        logger.debug("annotations of the handler of %r cannot be read: %s", event, error)
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    hooks = [_compile(event, p.name, hints.get(p.name, Any)) for p in positional]
    if not any(hooks):
        return None
    return TypedArguments(event, hooks, [p.name for p in positional])


def _compile(event: str, name: str, annotation: Any) -> Callable[[Any], Any] | None:
    if annotation in (Any, object):
        return None
    try:
        hook = converter.get_structure_hook(annotation)
    except StructureHandlerNotFoundError as error:
        raise TypeError(f"parameter {name!r} of the handler of {event!r}: {error}") from error
    return lambda value: hook(value, annotation)
