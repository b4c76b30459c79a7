"""From samples to the table, the ratios and the floors: pure functions, no measuring."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.scenarios import BY_NAME, FLAT_SIZES, SERVERS, Scenario

DISTURBED_SHARE = 0.15
"""Waiting longer than this share of the time for its core, a process was not alone on it.

Alone, the servers with helper threads (garbage collection, on the same core) wait up to 0.1.
"""


@dataclass(frozen=True)
class Sample:
    """One measurement of one server: a value, or why there is none.

    Attributes:
        value: Per second, or KiB per connection (see ``Scenario.kind``).
        detail: What else the generator said (latencies, connection counts).
    """

    round: int
    scenario: str
    server: str
    value: float | None
    failure: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def waited_share(self) -> float:
        """The share of the time that server or generator waited for its core, the larger."""
        shares = [self.detail.get(key) for key in ("server_waited_share", "waited_share")]
        return max((share for share in shares if share is not None), default=0.0)

    @property
    def disturbed(self) -> bool:
        """Whether other work on the machine made the figure too low to be trusted."""
        return self.waited_share > DISTURBED_SHARE

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """All rounds of one server in one scenario.

    Attributes:
        median: Of the rounds that gave a value; None if none did.
        values: One per round that gave one, in order.
        failures: Why the other rounds gave none.
        disturbed: For each value, whether its sample was disturbed.
    """

    median: float | None
    values: tuple[float, ...]
    failures: tuple[str, ...]
    disturbed: tuple[bool, ...] = ()


Cells = Mapping[tuple[str, str], Cell]
"""By (server, scenario)."""


def summarise(samples: Iterable[Sample]) -> dict[tuple[str, str], Cell]:
    """Join the rounds of each server and scenario."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.server, sample.scenario), []).append(sample)
    return {key: _cell(group) for key, group in grouped.items()}


def _cell(samples: Sequence[Sample]) -> Cell:
    values = tuple(sample.value for sample in samples if sample.value is not None)
    failures = tuple(s.failure or "no value" for s in samples if s.value is None)
    disturbed = tuple(s.disturbed for s in samples if s.value is not None)
    return Cell(statistics.median(values) if values else None, values, failures, disturbed)


def median(cells: Cells, server: str, scenario: str) -> float | None:
    """Return one median; None if it was not measured or failed."""
    cell = cells.get((server, scenario))
    return cell.median if cell else None


def ratio(cells: Cells, scenario: str, over: str, under: str) -> float | None:
    """Return server ``over``'s median divided by ``under``'s; None if either is missing."""
    above, below = median(cells, over, scenario), median(cells, under, scenario)
    return above / below if above is not None and below else None


# -- flatness ------------------------------------------------------------------------------------


def delivery_costs_us(cells: Cells, server: str) -> dict[int, float]:
    """Return microseconds per delivery by room size, for the sizes measured."""
    rates = {size: median(cells, server, f"fanout{size}") for size in FLAT_SIZES}
    return {size: 1e6 / rate for size, rate in rates.items() if rate}


def cost_spread(costs: Mapping[int, float]) -> float | None:
    """Return the dearest delivery divided by the cheapest; None unless all sizes are there."""
    if set(costs) != set(FLAT_SIZES):
        return None
    return max(costs.values()) / min(costs.values())


def marginal_costs_us(costs: Mapping[int, float]) -> dict[int, float]:
    """Return what a delivery to each further member costs, by the larger of two room sizes.

    It leaves out what a publication costs once, however many members it has: in a room of 10
    that is a tenth of it per delivery.
    """
    sizes = sorted(costs)
    return {
        large: (costs[large] * large - costs[small] * small) / (large - small)
        for small, large in itertools.pairwise(sizes)
    }


def own_cost_spread(cells: Cells) -> float | None:
    """Return the spread of this broker's cost per delivery as a multiple of the limit's."""
    ours, limit = delivery_costs_us(cells, "ours"), delivery_costs_us(cells, "limit")
    both = set(ours) & set(limit)
    return cost_spread({size: ours[size] / limit[size] for size in both})


# -- floors --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Floor:
    """A promise about the broker's speed: a figure and its bound."""

    title: str
    bound: float
    at_least: bool
    figure: Callable[[Cells], float | None]
    unit: str = "x"


@dataclass(frozen=True)
class Verdict:
    """A floor and what was measured; ``met`` is None when it could not be told."""

    title: str
    bound: str
    measured: str
    met: bool | None


FLOORS = (
    Floor("fan-out to 1000, of the limit", 0.85, True, lambda c: _over(c, "fanout1000", "limit")),
    Floor("fan-out to 1000, of Node", 1.8, True, lambda c: _over(c, "fanout1000", "node")),
    Floor("echo with 16 in flight, of Node", 1.9, True, lambda c: _over(c, "echo16", "node")),
    Floor("echo with 1 in flight, of Node", 1.0, True, lambda c: _over(c, "echo", "node")),
    Floor("memory per idle connection", 12.0, False, lambda c: median(c, "ours", "idle"), " KiB"),
    Floor(
        "cost of a delivery from 10 to 10,000 members, dearest over cheapest",
        1.2,
        False,
        lambda c: cost_spread(delivery_costs_us(c, "ours")),
    ),
)


def _over(cells: Cells, scenario: str, other: str) -> float | None:
    return ratio(cells, scenario, "ours", other)


def judge(cells: Cells, floors: Sequence[Floor] = FLOORS) -> list[Verdict]:
    """Compare each floor with what was measured."""
    return [_judge_one(cells, floor) for floor in floors]


def _judge_one(cells: Cells, floor: Floor) -> Verdict:
    figure = floor.figure(cells)
    bound = f"{'>=' if floor.at_least else '<='} {floor.bound:g}{floor.unit}"
    if figure is None:
        return Verdict(floor.title, bound, "not measured", None)
    met = figure >= floor.bound if floor.at_least else figure <= floor.bound
    return Verdict(floor.title, bound, f"{figure:.2f}{floor.unit}", met)


# -- tables --------------------------------------------------------------------------------------

Table = list[list[str]]
"""Rows of cells; the first row is the head."""


def number(value: float | None) -> str:
    """Return a figure as the tables show it: 1234567 as ``1235 k``, 9.87 as ``9.9``."""
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:.0f} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def cell_text(cell: Cell | None) -> str:
    """Return a cell's median, and how many of its rounds failed."""
    if cell is None:
        return "-"
    if cell.median is None:
        return "failed"
    rounds = len(cell.values) + len(cell.failures)
    failed = f" ({len(cell.failures)} of {rounds} failed)" if cell.failures else ""
    return number(cell.median) + failed


def main_table(cells: Cells) -> Table:
    """Return a row per server, a column per scenario, and the ratios of this broker."""
    columns = [s for s in _measured(cells) if len(s.servers) == len(SERVERS)]
    servers = [name for name in SERVERS if any(key[0] == name for key in cells)]
    rows = [["", *(scenario.title for scenario in columns)]]
    if not columns:
        return []
    for server in servers:
        texts = [cell_text(cells.get((server, scenario.name))) for scenario in columns]
        rows.append([SERVERS[server], *texts])
    for other in servers:
        if other == "ours" or "ours" not in servers:
            continue
        ratios = [ratio(cells, scenario.name, "ours", other) for scenario in columns]
        texts = ["-" if r is None else f"{r:.2f}" for r in ratios]
        rows.append([f"ours / {other}", *texts])
    return rows


def flat_table(cells: Cells) -> Table:
    """Return the cost of one delivery by room size; empty if it was not measured."""
    only_here = {scenario.name for scenario in _measured(cells) if len(scenario.servers) < len(SERVERS)}
    servers = [server for server in SERVERS if any((server, name) in cells for name in only_here)]
    if not servers:
        return []
    head = ["us per delivery", *(f"room of {size}" for size in FLAT_SIZES), "dearest / cheapest"]
    rows = [head]
    for server in servers:
        costs = delivery_costs_us(cells, server)
        texts = [_cost_text(cells.get((server, f"fanout{size}"))) for size in FLAT_SIZES]
        spread = cost_spread(costs)
        rows.append([SERVERS[server], *texts, "-" if spread is None else f"{spread:.2f}"])
        if spread is not None:
            marginal = marginal_costs_us(costs)
            texts = [f"{cost:.2f}" for cost in marginal.values()]
            spread = max(marginal.values()) / min(marginal.values())
            rows.append([f"{SERVERS[server]}, each further member", "", *texts, f"{spread:.2f}"])
    return rows


def _cost_text(cell: Cell | None) -> str:
    if cell is None or not cell.median:
        return cell_text(cell)
    return f"{1e6 / cell.median:.2f}"


def rounds_table(cells: Cells) -> Table:
    """Return every round's value, and the failures, as they were measured."""
    rows = [["scenario", "server", "rounds"]]
    for scenario in _measured(cells):
        for server in SERVERS:
            cell = cells.get((server, scenario.name))
            if cell is None:
                continue
            values = _round_texts(cell, digits=2 if scenario.kind == "memory" else 0)
            failures = [f"failed: {failure}" for failure in cell.failures]
            rows.append([scenario.name, server, ", ".join(values + failures)])
    return rows


def _round_texts(cell: Cell, digits: int) -> list[str]:
    marks = ["~" if disturbed else "" for disturbed in cell.disturbed]
    marks += [""] * (len(cell.values) - len(marks))
    return [f"{mark}{v:.{digits}f}" for mark, v in zip(marks, cell.values, strict=True)]


def disturbance(cells: Cells) -> str:
    """Return a sentence on the disturbed measurements; empty if there were none."""
    disturbed = sum(sum(cell.disturbed) for cell in cells.values())
    total = sum(len(cell.values) for cell in cells.values())
    if not disturbed:
        return ""
    return (
        f"{disturbed} of {total} measurements were disturbed by other work on the machine (server "
        f"or generator waited for its core for more than {DISTURBED_SHARE:.0%} of the time)."
    )


def floors_table(verdicts: Sequence[Verdict]) -> Table:
    """Return a row per floor: its bound, what was measured, met or missed."""
    words = {True: "met", False: "MISSED", None: "unknown"}
    rows = [["floor", "bound", "measured", ""]]
    rows += [[v.title, v.bound, v.measured, words[v.met]] for v in verdicts]
    return rows


def failures_of(cells: Cells) -> list[str]:
    """Return each failure once, with its server and scenario."""
    lines = [
        f"{SERVERS[server]}, {BY_NAME[scenario].title}: {failure}"
        for (server, scenario), cell in cells.items()
        for failure in cell.failures
    ]
    return list(dict.fromkeys(lines))


def _measured(cells: Cells) -> list[Scenario]:
    names = {scenario for _, scenario in cells}
    return [scenario for scenario in BY_NAME.values() if scenario.name in names]


def as_text(table: Table) -> str:
    """Return a table in aligned columns, the first one to the left."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    if not table:
        return ""
    rows = [[text.replace("|", "\\|") for text in row] for row in table]
    rows.insert(1, ["---"] * len(table[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
