"""The figures of docs/reliability.md in their short form, and the table that they are written to."""

import os
import shutil

import pytest

from bench import processes
from bench.hold import __main__ as hold
from bench.hold import aborts, counts, drain, idle, stalled, table
from bench.hold.figure import Claim, Figure, Plan

CORES = sorted(os.sched_getaffinity(0))
PLAN = Plan(short=True, server_cpu=CORES[0], load_cpu=CORES[-1])
needs_tools = pytest.mark.skipif(bool(processes.missing_tools()), reason="needs a C compiler and taskset")


@pytest.fixture(scope="module", autouse=True)
def generator():
    if shutil.which("cc"):
        processes.build()


def missed(claims):
    return [claim for claim in claims if claim.met is False]


@needs_tools
@pytest.mark.parametrize(
    "figure", [stalled, idle, aborts, drain], ids=lambda one: one.__name__.split(".")[-1]
)
def test_it_holds(figure):
    claims = figure.measure(PLAN)

    assert missed(claims) == []
    assert sum(claim.met is True for claim in claims) >= 2


def test_what_the_suites_say_is_counted():
    output = "socket     1,300 strict, 4 non-strict, 0 failed\nsession    12 strict, 0 non-strict, 1 failed\n"
    assert counts.verdicts_in(output) == {"socket": (1300, 4, 0), "session": (12, 0, 1)}
    assert counts.summary_in("x\n2 failed, 415 passed, 3 skipped, 1 error in 4.00s (0:07)") == {
        "failed": 2,
        "passed": 415,
        "skipped": 3,
        "error": 1,
    }
    assert counts.FUZZED.findall("json_text: 1,234 inputs, nothing found\n") == [
        ("json_text", "1,234", "nothing found")
    ]


def test_a_claim_is_judged_by_its_bound():
    assert Claim.at_most("x", 3, 3).met
    assert not Claim.at_most("x", 3.1, 3).met
    assert Claim.at_least("x", 0.9, 0.9).met
    assert not Claim.at_least("x", 0.89, 0.9).met


PAGE = f"before\n\n{table.BEGIN}\n\n{table.END}\nafter\n"


def rows(title, measured):
    return table.rows_of(title, [Claim.at_most("x | y", measured, 1)], "run", "here")


def test_a_run_replaces_the_rows_that_it_has_measured(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    table.write(page, {"b": rows("b", 1), "a": rows("a", 2)}, ["a", "b", "c"])
    table.write(page, {"a": rows("a", 0)}, ["a", "b", "c"])

    assert [row[0] for row in table.read(page.read_text())] == ["a", "b"]
    assert [row[3] for row in table.read(page.read_text())] == ["0", "1"]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


def test_the_page_has_the_markers():
    table.read(hold.DOCUMENT.read_text(encoding="utf-8"))


def run_with(monkeypatch, tmp_path, measure, allowance=60.0):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    figure = Figure("one", "1. one", measure, 1, allowance)
    monkeypatch.setattr(hold, "FIGURES", {"one": figure})
    monkeypatch.setattr(hold, "DOCUMENT", page)
    monkeypatch.setattr(hold, "_plan", lambda options: Plan())
    return hold.main(["--figures", "one", "--write-docs"]), page.read_text()


def test_a_figure_that_fails_is_a_row_that_says_so(monkeypatch, tmp_path):
    def measure(plan):
        raise processes.MeasureError("no such thing")

    status, page = run_with(monkeypatch, tmp_path, measure)

    assert status == 1
    assert "no: MeasureError: no such thing" in page


def test_a_figure_that_hangs_is_given_up(monkeypatch, tmp_path):
    def measure(plan):
        while True:
            pass

    status, page = run_with(monkeypatch, tmp_path, measure, allowance=0.2)

    assert status == 1
    assert "took longer than 0.2 s" in page


def test_figures_that_hold_are_written_with_their_command(monkeypatch, tmp_path):
    status, page = run_with(monkeypatch, tmp_path, lambda plan: [Claim.at_most("x", 0, 0)])

    assert status == 0
    assert "| 1. one | x | <= 0 | 0 | met | `python -m bench.hold --figures one` |" in page
