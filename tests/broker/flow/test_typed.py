"""Annotations of a handler that check and build its arguments."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache, partial
from typing import Any, Literal, Union

import pytest
from attrs import frozen
from cattrs import unstructure

from broker import EventError
from broker.flow.typed import compile_arguments


@frozen
class Point:
    x: int
    y: float = 0.0


@dataclass
class Line:
    name: str
    points: list[Point]


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@frozen
class Loose:
    x: int | None = None


def build(function: Any, *args: Any) -> list[Any]:
    compiled = compile_arguments("ev", function, 1)
    assert compiled is not None
    return compiled.build(args)


def test_classes_are_built_at_any_depth() -> None:
    def handler(socket: Any, line: Line, tag: Literal["a", "b"], raw: bytes, anything: Any) -> None: ...

    data = {"name": "n", "points": [{"x": 1, "y": 2}, {"x": 3}], "unknown": 1}
    assert build(handler, data, "a", b"\x01", {"k": 1}) == [
        Line("n", [Point(1, 2), Point(3)]),
        "a",
        b"\x01",
        {"k": 1},
    ]


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (str, "x", 1),
        (int, 1, "1"),
        (int, 1, True),
        (int, 1, 1.5),
        (float, 1, "1"),
        (float, 1.5, False),
        (bool, True, 1),
        (bytes, b"x", "x"),
        (list[int], [1], [None]),
        (dict[str, int], {"a": 1}, {"a": "b"}),
        (int | None, None, "x"),
        (list, ["a"], "a"),
        (list[str], ["a"], "a"),
        (list[str], ["a"], {"a": 1}),
        (list[list[str]], [["a"]], ["a"]),
        (Sequence[bytes] | None, (b"a",), b"a"),
        (tuple[str, ...], ("a",), "a"),
        (dict, {"a": 1}, [["a", 1]]),
        (dict, {}, []),
        (dict[str, int], {}, []),
        (dict[str, int], {}, None),
        (Mapping[str, int], {}, "a"),
        (Colour, Colour.RED, "green"),
        (Level | None, Level.LOW, 2),
        (list[Colour], [Colour.RED], ["green"]),
        (Literal["a", "b"], "a", "c"),
        (Literal["a", "b"], "a", []),
        (Loose, Loose(), "nothing of it"),
        (Loose, Loose(), ["x"]),
        (dict[str, Loose], {"k": Loose()}, {"k": []}),
        (int | str, 1, True),
        (int | str | None, None, 1.5),
        (Union[int, str], "a", None),  # noqa: UP007 - the older form
        (bool | int, True, "x"),
        (bool | int, 1, 1.5),
        (int | float, 1, "x"),
        (int | float, 1.5, None),
        (float | str, 1, True),
        (str | bytes, b"x", 1),
        (Point | str, Point(1), ["x"]),
        (Point | Line | str | None, Line("n", []), 1),
        (Point | Line | None, Point(1, 2.0), []),
        (list[int] | dict[str, int], {"a": 1}, "x"),
        (tuple[int, ...] | int, (1, 2), "x"),
        (list[int | str], [1, "a"], [None]),
    ],
)
def test_json_values_are_not_converted(annotation: Any, good: Any, bad: Any) -> None:
    def handler(socket: Any, value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    (built,) = build(handler, unstructure(good))
    assert built == good
    assert type(built) is type(good)
    with pytest.raises(EventError) as caught:
        build(handler, bad)
    assert caught.value.code == "invalid_arguments"
    assert caught.value.data


def test_the_member_of_a_union_that_fits_says_what_is_wrong() -> None:
    def handler(socket: Any, value: list[int] | Point | None) -> None: ...

    for bad, problem in (
        ([1, "x"], "invalid value for type, expected int @ value[1]"),
        ({}, "required field missing @ value.x"),
        ("x", "expected list or null or dict, got str @ value"),
    ):
        with pytest.raises(EventError) as caught:
            build(handler, bad)
        assert caught.value.data == [problem]


@pytest.mark.parametrize("annotation", [list[int] | list[str], dict | Point, Colour | int, str | complex])
def test_unions_whose_members_look_alike_are_refused(annotation: Any) -> None:
    def handler(socket: Any, value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    with pytest.raises(TypeError, match="parameter 'value' of the handler of 'ev'"):
        compile_arguments("ev", handler, 1)


def test_problems_have_paths() -> None:
    def handler(socket: Any, count: int, line: Line) -> None: ...

    with pytest.raises(EventError, match="arguments of 'ev': ") as caught:
        build(handler, 1, {"name": 1, "points": [{"x": 1}, {"y": "no"}]})
    assert caught.value.data == [
        "invalid value for type, expected str @ line.name",
        "required field missing @ line.points[1].x",
        "invalid value for type, expected float @ line.points[1].y",
    ]


def test_fewer_and_more_arguments_than_parameters() -> None:
    def handler(socket: Any, a: int, b: int = 2, *rest: Any) -> None: ...

    assert build(handler, 1) == [1]
    assert build(handler, 1, 2, "more") == [1, 2, "more"]


def test_partial_functions_and_callable_objects_are_checked_too() -> None:
    def handler(database: Any, socket: Any, point: Point, *, log: Any) -> None: ...

    class Callable:
        def __call__(self, socket: Any, point: Point) -> None: ...

        def method(self, socket: Any, point: Point) -> None: ...

    @cache
    def cached(socket: Any, point: Point) -> None: ...

    for function in (partial(partial(handler, 1), log=2), Callable(), Callable().method, cached):
        compiled = compile_arguments("ev", function, 1)
        assert compiled is not None
        assert compiled.build([{"x": 1}]) == [Point(1)]


def test_nothing_to_check() -> None:
    def untyped(socket, a, b):  # type: ignore[no-untyped-def]
        ...

    assert compile_arguments("ev", untyped, 1) is None
    assert compile_arguments("ev", lambda socket, a: None, 1) is None


def test_annotations_that_cannot_be_read_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    def handler(socket: Any, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - it is nowhere

    with caplog.at_level(logging.DEBUG, logger="broker.flow.typed"):
        assert compile_arguments("ev", handler, 1) is None
    assert "cannot be read" in caplog.text


def test_types_that_json_cannot_become_are_refused_at_registration() -> None:
    class Opaque:
        def __init__(self, *args: Any) -> None: ...

    def handler(socket: Any, value: Any) -> None: ...

    handler.__annotations__["value"] = Opaque
    with pytest.raises(TypeError, match="parameter 'value' of the handler of 'ev'"):
        compile_arguments("ev", handler, 1)
