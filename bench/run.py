"""Measure the broker beside the limit, Node's server and python-socketio: ``python -m bench.run``.

Exit status: 0 when the run was made, whatever the figures; with ``--check-floors`` 1 when a floor
is missed or could not be told; 2 when nothing could be measured; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench import document, machine, processes, report
from bench.measure import Conditions, measure
from bench.scenarios import BY_NAME, SERVERS, Scenario, known_names, select

DOCUMENT = processes.ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables; return the exit status."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        conditions = _prepare(options)
    except processes.MeasureError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    samples: list[report.Sample] = []
    interrupted = False
    load = machine.load_average()
    try:
        _measure_all(options, conditions, samples)
    except KeyboardInterrupt:
        interrupted = True
        print("bench: interrupted; what was measured so far:", file=sys.stderr)

    facts = _facts(options, conditions, arguments, load)
    cells = report.summarise(samples)
    verdicts = report.judge(cells)
    print(document.as_text(cells, verdicts))
    if options.json:
        content = document.as_json(facts, samples, cells, verdicts)
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    if interrupted:
        return 130
    if options.write_docs:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document.as_markdown(facts, cells, verdicts))
    failed = options.check_floors and not all(verdict.met for verdict in verdicts)
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 2 s")
    parser.add_argument("--rounds", type=_positive, help="default 5")
    parser.add_argument("--seconds", type=_positive, help="of each measurement, default 4")
    parser.add_argument("--servers", type=_names, help=f"of {' '.join(SERVERS)}")
    parser.add_argument("--scenarios", type=_names, help=f"of {known_names()}")
    parser.add_argument("--server-cpu", type=int, help="core of the servers")
    parser.add_argument("--generator-cpu", type=int, help="core of the load generator")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--check-floors", action="store_true", help="exit with 1 unless all floors are met")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 4)
    options.servers = options.servers or list(SERVERS)
    unknown = [name for name in options.servers if name not in SERVERS]
    if unknown:
        parser.error(f"no such server: {', '.join(unknown)}; there are {' '.join(SERVERS)}")
    try:
        options.scenarios = select(options.scenarios)
    except ValueError as error:
        parser.error(str(error))
    return options


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _prepare(options: argparse.Namespace) -> Conditions:
    missing = processes.missing_tools()
    if missing:
        raise processes.MeasureError(f"not installed: {', '.join(missing)}")
    processes.build()
    if "node" in options.servers:
        try:
            processes.install_node_packages()
        except processes.MeasureError as error:  # Node's row fails then, the others can be had
            print(f"bench: {error}", file=sys.stderr)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise processes.MeasureError("two cores are needed, one for the server, one for the load")
    return Conditions(
        seconds=options.seconds,
        warm_up=1 if options.quick else 2,
        server_cpu=cores[0] if options.server_cpu is None else options.server_cpu,
        generator_cpu=cores[1] if options.generator_cpu is None else options.generator_cpu,
        file_limit=processes.raise_file_limit(),
    )


def _measure_all(options: argparse.Namespace, conditions: Conditions, samples: list[report.Sample]) -> None:
    """Go round the servers within each scenario, and through all of it once per round.

    What changes on the machine while the run goes on so touches all servers alike.
    """
    for round_ in range(1, options.rounds + 1):
        for scenario in options.scenarios:
            for server in options.servers:
                if server in scenario.servers:
                    samples.append(measure(scenario, server, round_, conditions))
                    _progress(samples[-1], options.rounds)


def _progress(sample: report.Sample, rounds: int) -> None:
    scenario: Scenario = BY_NAME[sample.scenario]
    said = sample.failure or report.number(sample.value)
    if sample.disturbed:
        said += f" (disturbed: waited for its core for {sample.waited_share:.0%} of the time)"
    print(
        f"[{sample.round}/{rounds}] {scenario.title}, {SERVERS[sample.server]}: {said}",
        file=sys.stderr,
        flush=True,
    )


def _facts(
    options: argparse.Namespace,
    conditions: Conditions,
    arguments: Sequence[str] | None,
    load: float,
) -> dict[str, str]:
    given = sys.argv[1:] if arguments is None else arguments
    return {
        **machine.describe(),
        "command": shlex.join(["python", "-m", "bench.run", *given]),
        "measurement": (
            f"{options.rounds} rounds of {conditions.seconds} s after {conditions.warm_up} s of "
            f"warm-up; server on core {conditions.server_cpu}, load generator on core "
            f"{conditions.generator_cpu}"
        ),
        "load before the run": f"{load:.2f}",
    }


if __name__ == "__main__":
    sys.exit(main())
