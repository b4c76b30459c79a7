"""The benchmark's arithmetic: medians, ratios, floors, tables. Nothing is measured here."""

import pytest

from bench import document, report, run
from bench.measure import check_complete
from bench.processes import MeasureError
from bench.report import Cell, Sample
from bench.scenarios import BY_NAME, FLAT_SIZES, SCENARIOS, SERVERS, select


def sample(scenario, server, value, round_=1, failure=None, **detail):
    return Sample(round_, scenario, server, value, failure, detail)


def cells_of(medians):
    return {key: Cell(value, (value,), ()) for key, value in medians.items()}


def flat_cells(server, costs_us):
    keys = [(server, f"fanout{size}") for size in FLAT_SIZES]
    return cells_of({key: 1e6 / cost for key, cost in zip(keys, costs_us, strict=True)})


GOOD = {
    ("limit", "fanout1000"): 300_000.0,
    ("node", "fanout1000"): 135_000.0,
    ("ours", "fanout1000"): 260_000.0,
    ("node", "echo16"): 80_000.0,
    ("ours", "echo16"): 160_000.0,
    ("node", "echo"): 50_000.0,
    ("ours", "echo"): 50_000.0,
    ("ours", "idle"): 12.0,
}


FLAT = [3.5, 3.5, 3.85, 4.0]


def test_a_cell_holds_the_median_of_its_rounds():
    cells = report.summarise([sample("echo", "ours", value, n) for n, value in enumerate([30.0, 10.0, 20.0])])

    assert cells[("ours", "echo")] == Cell(20.0, (30.0, 10.0, 20.0), (), (False,) * 3)


def test_a_failed_round_is_kept_beside_the_median_of_the_others():
    cells = report.summarise([sample("echo", "node", 10.0), sample("echo", "node", None, 2, failure="died")])

    assert cells[("node", "echo")].median == 10.0
    assert cells[("node", "echo")].failures == ("died",)
    assert report.cell_text(cells[("node", "echo")]) == "10.0 (1 of 2 failed)"


def test_a_row_that_always_fails_says_so_and_has_no_ratio():
    cells = report.summarise([sample("echo", "node", None, failure="died"), sample("echo", "ours", 10.0)])

    table = report.main_table(cells)
    assert table[1] == ["Node socket.io", "failed"]
    assert ["ours / node", "-"] in table
    assert report.failures_of(cells) == [
        "Node socket.io, echo, 100 conns, 1 in flight: died",
    ]


def test_ratios_are_of_medians():
    cells = cells_of(GOOD)

    assert report.ratio(cells, "echo16", "ours", "node") == 2.0
    assert report.ratio(cells, "idle", "ours", "node") is None
    assert ["ours / limit", "-", "-", "0.87", "-"] in report.main_table(cells)


def test_flatness_is_the_dearest_size_over_the_cheapest():
    cells = flat_cells("ours", [4.0, 3.0, 3.3, 3.9])

    costs = report.delivery_costs_us(cells, "ours")
    assert costs == pytest.approx({10: 4.0, 100: 3.0, 1000: 3.3, 10_000: 3.9})
    assert report.cost_spread(costs) == pytest.approx(4 / 3)


def test_flatness_is_unknown_when_a_size_is_missing():
    assert report.cost_spread({10: 4.0, 100: 3.0}) is None


def test_each_further_member_costs_what_a_publication_leaves_over():
    once, each = 20.0, 3.0
    costs = {size: (once + each * size) / size for size in FLAT_SIZES}

    marginal = report.marginal_costs_us(costs)
    assert marginal == pytest.approx({100: each, 1000: each, 10_000: each})


def test_growth_that_the_limit_shares_is_told_apart():
    cells = flat_cells("ours", [4.0, 3.0, 3.3, 6.0]) | flat_cells("limit", [2.0, 1.5, 1.65, 3.0])

    assert report.own_cost_spread(cells) == pytest.approx(1.0)


def test_floors_are_met_at_their_bounds():
    cells = cells_of(GOOD) | flat_cells("ours", FLAT)

    assert [verdict.met for verdict in report.judge(cells)] == [True] * len(report.FLOORS)


@pytest.mark.parametrize(
    ("key", "value", "missed"),
    [
        (("ours", "fanout1000"), 250_000.0, "fan-out to 1000, of the limit"),
        (("node", "fanout1000"), 150_000.0, "fan-out to 1000, of Node"),
        (("ours", "echo16"), 151_000.0, "echo with 16 in flight, of Node"),
        (("ours", "echo"), 49_000.0, "echo with 1 in flight, of Node"),
        (("ours", "idle"), 12.1, "memory per idle connection"),
        (
            ("ours", "fanout10000"),
            1e6 / 4.3,
            "cost of a delivery from 10 to 10,000 members, dearest over cheapest",
        ),
    ],
)
def test_each_floor_can_be_missed_alone(key, value, missed):
    cells = cells_of(GOOD) | flat_cells("ours", FLAT) | cells_of({key: value})

    assert [verdict.title for verdict in report.judge(cells) if not verdict.met] == [missed]


def test_a_floor_without_figures_is_neither_met_nor_missed():
    verdicts = report.judge({})

    assert {verdict.met for verdict in verdicts} == {None}
    assert report.floors_table(verdicts)[1][2:] == ["not measured", "unknown"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (4.26, "4.3"), (123.4, "123"), (9_999.0, "9999"), (292_400.0, "292 k")],
)
def test_numbers_are_short(value, text):
    assert report.number(value) == text


def test_disturbed_rounds_are_marked_and_counted():
    cells = report.summarise(
        [
            sample("echo", "ours", 100.0, 1, server_waited_share=0.4, waited_share=0.0),
            sample("echo", "ours", 200.0, 2, server_waited_share=0.1, waited_share=0.1),
        ]
    )

    assert report.rounds_table(cells)[1] == ["echo", "ours", "~100, 200"]
    assert report.disturbance(cells).startswith("1 of 2 measurements were disturbed")


def test_text_tables_are_aligned():
    assert report.as_text([["", "a"], ["long", "1"]]) == "      a\nlong  1"


def test_markdown_escapes_bars():
    assert report.as_markdown([["a|b"], ["1"]]) == "| a\\|b |\n| --- |\n| 1 |"


def test_the_page_has_every_part():
    cells = report.summarise(
        [sample(s.name, server, 10.0) for s in SCENARIOS for server in s.servers]
        + [sample("echo", "node", None, 2, failure="died")]
    )
    page = document.as_markdown({"command": "make bench"}, cells, report.judge(cells))

    for head in ("Floors", "Side by side", "Cost of one delivery", "What failed", "Every round"):
        assert f"## {head}" in page
    assert "| fanout10 | limit | 10 |" in page


# -- which scenarios, and what counts as a figure ------------------------------------------------


def test_without_names_the_table_and_the_flatness_are_measured():
    names = [scenario.name for scenario in select(None)]

    assert names[:5] == ["echo", "echo16", "fanout100", "fanout1000", "idle"]
    assert names[5:] == ["fanout10", "fanout10000"]


def test_a_group_stands_for_its_members_and_an_unknown_name_is_refused():
    assert {s.name for s in select(["flat"])} == {f"fanout{size}" for size in FLAT_SIZES}
    with pytest.raises(ValueError, match="no such scenario: ecco; there are echo"):
        select(["ecco"])


def test_the_generator_gets_the_scenario_as_arguments():
    arguments = " ".join(BY_NAME["stalled"].arguments())

    assert arguments == "-m fanout -c 1000 -w 2 -S 10"


def test_quick_is_one_short_round_of_everything():
    options = run.parse(["--quick"])

    assert (options.rounds, options.seconds, options.servers) == (1, 2, list(SERVERS))


@pytest.mark.parametrize(
    "said", [{"ready": 999, "lost": 1}, {"ready": 900, "lost": 0}, {"ready": 1000, "failed": 3}]
)
def test_a_figure_reached_with_missing_connections_does_not_count(said):
    with pytest.raises(MeasureError, match="of 1000 connections"):
        check_complete(said, BY_NAME["fanout1000"])


def test_stalled_connections_may_be_cut_off():
    check_complete({"ready": 990, "lost": 10}, BY_NAME["stalled"])
    with pytest.raises(MeasureError):
        check_complete({"ready": 989, "lost": 11}, BY_NAME["stalled"])
