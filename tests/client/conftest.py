"""Deadlines for tests of the client, which waits for servers that may never answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.steady import run_steady

from .servers import DEADLINE


@pytest.fixture
def within_the_deadline() -> None:
    """Have a test that names it in `usefixtures` fail if it takes longer than `DEADLINE`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold them to it: pytest-trio runs no async fixture that a test does not take as an argument."""
    for item in items:
        if "within_the_deadline" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_within_the_deadline), append=False)


def _run_within_the_deadline(test: Callable[[], Awaitable[None]], **options: Any) -> None:
    async def bounded() -> None:
        with trio.fail_after(DEADLINE):
            await test()

    run_steady(bounded, **options)
