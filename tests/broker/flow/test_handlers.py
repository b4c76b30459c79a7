"""What is checked when a handler is registered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from broker import EventError
from broker.flow.handlers import Handler, HandlerRegistry


@pytest.mark.parametrize(
    ("function", "least", "most"),
    [
        (lambda socket: None, 0, 0),
        (lambda socket, a: None, 1, 1),
        (lambda socket, a, b=1: None, 1, 2),
        (lambda socket, *rest: None, 0, float("inf")),
        (lambda *everything: None, 0, float("inf")),
        (lambda socket, /, a, *, b=1: None, 1, 1),
        (partial(lambda extra, socket, a: None, "extra"), 1, 1),
    ],
)
def test_arity(function: Callable[..., Any], least: int, most: float) -> None:
    handler = Handler("ev", function, 1)
    assert (handler.min_args, handler.max_args) == (least, most)


@pytest.mark.parametrize(
    ("function", "count", "message"),
    [
        (lambda socket, a: None, 0, "event 'ev' takes 1 argument, not 0"),
        (lambda socket: None, 2, "event 'ev' takes 0 arguments, not 2"),
        (lambda socket, a, b=1: None, 3, "event 'ev' takes 1 to 2 arguments, not 3"),
        (lambda socket, a, *rest: None, 0, "event 'ev' takes at least 1 arguments, not 0"),
    ],
)
def test_wrong_arity_says_what_is_wanted(function: Callable[..., Any], count: int, message: str) -> None:
    with pytest.raises(EventError) as caught:
        Handler("ev", function, 1).check_arity(count)
    assert (caught.value.code, caught.value.message) == ("wrong_arity", message)


def test_right_arity_passes() -> None:
    Handler("ev", lambda socket, a: None, 1).check_arity(1)


def test_registry_names_the_handler_that_is_in_the_way() -> None:
    registry = HandlerRegistry()

    def first(socket: Any) -> None: ...

    assert registry.on("ev", 1)(first) is first
    with pytest.raises(ValueError, match=r"handled by .*first already; off\('ev'\) removes it"):
        registry.on("ev", 1)(lambda socket: None)
    registry.off("ev")
    registry.off("ev")
    registry.on("ev", 2)(first)
    assert registry.handlers["ev"].concurrency == 2


def test_lifecycle_events_take_no_typed_arguments() -> None:
    def disconnect(socket: Any, reason: int) -> None: ...

    assert Handler("disconnect", disconnect, 1).typed is None
    assert Handler("ev", disconnect, 1).typed is not None
