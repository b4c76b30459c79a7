"""Each fuzz target for a moment, with the same input each time."""

from __future__ import annotations

from itertools import islice

import pytest

from fuzz.mutation import mutations
from fuzz.targets import SEEDS, TARGETS

INPUTS = 1_500


def test_every_target_has_seeds() -> None:
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", list(TARGETS))
def test_only_what_is_documented_comes_out(name: str) -> None:
    for data in islice(mutations(SEEDS[name], seed=1), INPUTS):
        TARGETS[name](data)
