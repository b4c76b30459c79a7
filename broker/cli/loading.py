"""Find the object that MODULE:ATTRIBUTE names, or say in a sentence why it cannot be had."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from broker import Broker
from broker.cli.errors import CommandError
from broker.flow.settings import Settings


def load_broker(target: str, config: str | None) -> Broker:
    """Return the broker that `target` names, or that the function it names returns.

    A function with a required parameter is given the settings: those of the file `config`, overlaid by
    the environment, or those of the environment alone.

    Raises:
        CommandError: It cannot be found, or it is no broker and makes none.
        ConfigError: The settings are wrong.
    """
    found = load_object(target)
    if isinstance(found, Broker):
        if config is not None:
            raise CommandError(
                f"{target} has its settings already: --config needs a function that takes them"
            )
        return found
    if not callable(found):
        raise CommandError(f"{target} is {_kind(found)}, neither a Broker nor a function that returns one")
    return _made_by(found, target, config)


def _made_by(factory: Callable[..., Any], target: str, config: str | None) -> Broker:
    arguments: list[Settings] = []
    if _takes_settings(factory):
        arguments.append(Settings.from_environ() if config is None else Settings.load(config))
    elif config is not None:
        raise CommandError(
            f"{target} takes no settings: --config needs a function with one parameter for them"
        )
    made = factory(*arguments)
    if inspect.iscoroutine(made):
        made.close()
        raise CommandError(f"{target} is an async function: write a plain one that returns a Broker")
    if not isinstance(made, Broker):
        raise CommandError(f"{target}() returned {_kind(made)}, not a Broker")
    return made


def _takes_settings(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # built in C, without a signature
        return False
    return any(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )


def load_application(target: str) -> Any:
    """Return the ASGI application that `target` names.

    Raises:
        CommandError: It cannot be found or cannot be called.
    """
    found = load_object(target)
    if not callable(found):
        raise CommandError(f"{target} is {_kind(found)}, not an ASGI application")
    return found


def load_object(target: str) -> Any:
    """Return the object that MODULE:ATTRIBUTE names; the working directory is searched too.

    Raises:
        CommandError: The module or the attribute is not there, or importing it failed.
    """
    name, colon, path = target.partition(":")
    if not colon or not all(name.split(".")) or not all(path.split(".")):
        raise CommandError(f"{target!r} is not MODULE:ATTRIBUTE, as in my_package.my_module:broker")
    found: Any = _load_module(name)
    owner = f"module {name}"
    for attribute in path.split("."):
        found = _attribute(found, attribute, owner)
        owner = f"{name}:{attribute}"
    return found


def _load_module(name: str) -> ModuleType:
    # As with `python -m`; the installed script has its own directory there.
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise CommandError(
                f"there is no module {missing} in {directory} or among those installed"
            ) from error
        raise CommandError(f"module {name} needs {missing}, which is not installed") from error
    except Exception as error:  # whatever it is, it is the module's and is told with its place
        raise CommandError(f"module {name} cannot be imported: {_told(error)}") from error


def _told(error: Exception) -> str:
    """Describe an exception in one line, with the place it came from."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError):  # raised by the importer, of which nobody wants to know
        return f"{text} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def _attribute(owner: Any, name: str, owner_name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        nearest = difflib.get_close_matches(name, dir(owner), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise CommandError(f"{owner_name} has no attribute {name}{hint}") from None


def _kind(value: object) -> str:
    return "None" if value is None else f"an instance of {type(value).__qualname__}"
