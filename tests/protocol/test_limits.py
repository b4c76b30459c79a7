"""Limits refuse what cannot be a bound."""

from __future__ import annotations

from dataclasses import fields

import pytest

from protocol import Limits


def test_defaults_are_legal() -> None:
    assert all(getattr(Limits(), field.name) > 0 for field in fields(Limits))


@pytest.mark.parametrize("value", ["1", None, 1.5, True])
def test_wrong_types(value: object) -> None:
    with pytest.raises(TypeError, match="limit sessions must be int"):
        Limits(sessions=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1])
def test_not_positive(value: int) -> None:
    with pytest.raises(ValueError, match="must be greater than 0"):
        Limits(sessions=value)


def test_times_may_be_whole_numbers_but_not_nan() -> None:
    assert Limits(ack_timeout=5).ack_timeout == 5
    with pytest.raises(ValueError, match="greater than 0"):
        Limits(ack_timeout=float("nan"))


def test_depth_stays_below_what_can_be_written() -> None:
    assert Limits(json_depth=254).json_depth == 254
    with pytest.raises(ValueError, match="json_depth must be at most 254"):
        Limits(json_depth=255)
