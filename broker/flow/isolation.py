"""Keeps what application code raises where it was called, also when it is cancelled at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def isolated(failed: Callable[[Exception], Any]) -> Iterator[None]:
    """Hand what the block raises to `failed`; a cancellation goes on, alone.

    A nursery that is cancelled while one of its tasks fails raises both in one group. That is no `Exception`,
    and a cancelled scope takes only its own part of it: the rest would end whatever is around it.
    """
    try:
        yield
    except Exception as error:
        failed(error)
    except BaseExceptionGroup as group:
        raise without_failure(group, failed) from None


def without_failure(group: BaseExceptionGroup[Any], failed: Callable[[Exception], Any]) -> BaseException:
    """Hand what is no cancellation in a group to `failed`; return what is one, to be raised."""
    failure, rest = group.split(Exception)
    if failure is not None:
        failed(failure)
    assert rest is not None  # a group of nothing but `Exception`s is one itself
    return rest
