"""Fixtures of all tests that speak to a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import Any

import pytest
import trio

from broker import Server

from .peers import serving, serving_in_memory
from .steady import run_steady

_PLUGIN = "broker.testing.plugin"
# An installation brings it as an entry point; a bare checkout does not.
pytest_plugins = [] if any(one.value == _PLUGIN for one in entry_points(group="pytest11")) else [_PLUGIN]


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Server]]:
    """Return `serving`: `async with serve(broker) as server` serves, and checks that nothing is left."""
    wrapped: Any = serving
    return wrapped  # type: ignore[no-any-return]


@pytest.fixture
def virtual_serve() -> Callable[..., AbstractAsyncContextManager[Server]]:
    """Return the same on a network in memory; tests that ask for it run on a clock that jumps."""
    wrapped: Any = serving_in_memory
    return wrapped  # type: ignore[no-any-return]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Run those tests on such a clock, and all others on a steady one."""
    from broker.testing.plugin import run_virtual  # pytest wants to import a plugin itself, first

    for item in items:
        if "virtual_serve" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=run_virtual), append=False)
    yield  # now all tests for Trio are marked
    for item in items:
        runs = [marker.kwargs["run"] for marker in item.iter_markers("trio") if "run" in marker.kwargs]
        if runs and all(run is trio.run for run in runs):
            item.add_marker(pytest.mark.trio(run=run_steady), append=False)
