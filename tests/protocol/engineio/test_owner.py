"""Marks of owners at the end of session ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.engineio.owner import NODES, WORKERS, Owner, owner_of, owner_of_query


@pytest.mark.clause("EIO-SID-5")
@given(st.integers(0, NODES - 1), st.integers(0, WORKERS - 1), st.text())
def test_an_id_names_its_owner(node: int, worker: int, rest: str) -> None:
    owner = Owner(node, worker)
    assert len(owner.mark) == 2
    assert owner_of(rest + owner.mark) == owner


@pytest.mark.parametrize("owner", [Owner(-1, 0), Owner(0, -1), Owner(NODES, 0), Owner(0, WORKERS)])
def test_no_more_owners_than_marks(owner: Owner) -> None:
    with pytest.raises(ValueError, match="from 0 to 63"):
        _ = owner.mark


@pytest.mark.parametrize("session_id", ["", "A", "é", "AAé", "AA A", "AAA."])
def test_an_end_that_is_no_mark(session_id: str) -> None:
    assert owner_of(session_id) is None


@pytest.mark.parametrize(
    ("query", "owner"),
    [
        ("EIO=4&transport=polling", None),
        ("sid=xxBA&EIO=4", Owner(1, 0)),
        ("sid=xxB%41", Owner(1, 0)),
        ("s%69d=xxBA", None),
        ("sid=xxBA&sid=xxAA", None),
        ("sid=", None),
        ("&".join(f"{n}=1" for n in range(201)) + "&sid=xxAA", None),
    ],
)
def test_the_owner_of_a_request(query: str, owner: Owner | None) -> None:
    assert owner_of_query(query) == owner
