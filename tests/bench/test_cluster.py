"""The figures of docs/scaling.md in their short form, and what they count."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from bench import processes
from bench.cluster import __main__ as cluster
from bench.cluster import killed, outages, shared_port, throughput
from bench.cluster.follower import missed_and_doubled
from bench.cluster.world import Scale, missing_packages
from bench.hold import table
from bench.hold.figure import Claim, Figure
from tests.workers.test_round_robin import NGINX

SHORT = Scale(short=True)
needs_all = pytest.mark.skipif(
    bool([*processes.missing_tools(), *missing_packages()]),
    reason="needs redis-server, node, the packages of tests/interop, a C compiler and taskset",
)
SHARED_STORE = importlib.util.find_spec("broker.adapters.redis.sessions") is not None
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def missed(claims: list[Claim]) -> list[str]:
    return [claim.what for claim in claims if claim.met is False]


@needs_all
def test_clients_of_a_killed_node_come_back() -> None:
    claims = killed.measure(SHORT)
    assert len(claims) > 5
    # Without a store that the nodes share, a client comes back to a new session.
    recovered = missed(claims) if SHARED_STORE else [one for one in missed(claims) if one.startswith("back")]
    assert recovered == []


@needs_all
def test_nothing_is_lost_without_a_word_while_redis_fails() -> None:
    assert missed(outages.measure(SHORT)) == []


@needs_all
def test_a_node_without_members_hears_nothing() -> None:
    claims = throughput.measure(SHORT)
    assert missed(claims) == []
    assert sum(claim.met is True for claim in claims) >= 1


@needs_all
@needs_nginx
def test_round_robin_refuses_nothing() -> None:
    assert missed(shared_port.round_robin(SHORT)) == []


def test_numbers_are_counted_from_the_first_one_heard() -> None:
    assert missed_and_doubled([3, 4, 5], 5) == (0, 0)
    assert missed_and_doubled([3, 5, 5, 6, 7], 6) == (1, 1)
    assert missed_and_doubled([3, 4], 6) == (2, 0)
    assert missed_and_doubled([], 6) == (6, 0)


def test_the_page_has_the_markers() -> None:
    table.read(cluster.DOCUMENT.read_text(encoding="utf-8"), cluster.BEGIN, cluster.END)


@pytest.mark.parametrize("error", [None, "broken"])
def test_what_was_measured_is_written(error: str | None, monkeypatch: Any, tmp_path: Any) -> None:
    def measure(scale: Scale) -> list[Claim]:
        if error:
            raise processes.MeasureError(error)
        return [Claim.at_most("x", 0, 0)]

    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{cluster.BEGIN}\n\n{cluster.END}\nafter\n")
    monkeypatch.setattr(cluster, "DOCUMENT", page)
    monkeypatch.setattr(cluster, "FIGURES", {"one": Figure("one", "1. one", measure, 1, 60)})
    monkeypatch.setattr(cluster, "missing_packages", list)
    monkeypatch.setattr(processes, "missing_tools", list)
    status = cluster.main(["--figures", "one", "--short", "--write-docs"])
    told = page.read_text()
    assert status == (1 if error else 0)
    assert ("no: MeasureError: broken" if error else "| 1. one | x | <= 0 | 0 | met |") in told
    assert "`python -m bench.cluster --figures one --short`" in told
    assert told.endswith("after\n")


def test_without_the_programs_nothing_is_measured(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(cluster, "missing_packages", lambda: ["redis-server"])
    assert cluster.main(["--figures", "mixed"]) == 2
    assert "redis-server" in capsys.readouterr().err
