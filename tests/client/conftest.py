"""Deadlines for tests of the client, which waits for servers that may never answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from .servers import DEADLINE


@pytest.fixture
def deadline() -> None:
    """Have the test fail if it takes longer than `DEADLINE`; for `pytest.mark.usefixtures("deadline")`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold them to it: pytest-trio runs no async fixture that a test does not take as an argument."""
    for item in items:
        if "deadline" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_within_the_deadline), append=False)


def _run_within_the_deadline(test: Callable[[], Awaitable[None]], **options: Any) -> None:
    async def bounded() -> None:
        with trio.fail_after(DEADLINE):
            await test()

    trio.run(bounded, **options)
