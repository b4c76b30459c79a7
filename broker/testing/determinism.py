"""Takes chance out of a run: the order in which Trio runs tasks, and Python's own random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from trio._core import _run  # noqa: TID251 - Trio offers this to Hypothesis only


@contextmanager
def fixed_order(seed: int) -> Iterator[None]:
    """Make runs inside the block repeatable.

    Trio shuffles the tasks that are ready, so that nobody comes to rely on an order. Inside the block it does
    so in an order that the seed decides, and so do the jitter of reconnections and the like. Identifiers stay
    secret and random; transcripts number them.

    Args:
        seed: The same one gives the same run.

    Raises:
        RuntimeError: This version of Trio cannot do it.
    """
    if not hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not hasattr(_run, "_r"):
        raise RuntimeError("this version of Trio has no way to fix the order of its tasks")
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    states = random.getstate(), _run._r.getstate()
    setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010 - Trio declares it final
    random.seed(seed)
    _run._r.seed(seed)
    try:
        yield
    finally:
        setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", before)  # noqa: B010 - likewise
        random.setstate(states[0])
        _run._r.setstate(states[1])
