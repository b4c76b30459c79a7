"""Runs one scenario against one server and says what came out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench.processes import MeasureError, Server, running_generator, running_server
from bench.report import Sample
from bench.scenarios import Scenario

CONNECT_ALLOWANCE = 30.0
"""Seconds granted to open connections, besides one for every 100 of them."""

SETTLE = 3.0
"""Seconds between the last connection's being ready and the reading of the memory."""

REPEATS = 2
"""How often a disturbed measurement is made again."""

SPARE_FILES = 100
"""Open files a server needs besides its connections."""


@dataclass(frozen=True)
class Conditions:
    """What all measurements of a run share: durations in seconds, cores by number."""

    seconds: int
    warm_up: int
    server_cpu: int
    generator_cpu: int
    file_limit: int


def measure(scenario: Scenario, server: str, round_: int, conditions: Conditions) -> Sample:
    """Run a scenario against a fresh server; a failure is a sample too.

    A measurement that other work on the machine disturbed is made again, at most ``REPEATS``
    times, and the least disturbed one counts. What decides is the scheduler's account alone,
    never the figure.
    """
    samples: list[Sample] = []
    while len(samples) <= REPEATS:
        samples.append(_measure_once(scenario, server, round_, conditions))
        if not samples[-1].disturbed:
            break
    return min(samples, key=lambda sample: sample.waited_share)


def _measure_once(scenario: Scenario, server: str, round_: int, conditions: Conditions) -> Sample:
    try:
        if scenario.connections + SPARE_FILES > conditions.file_limit:
            raise MeasureError(f"at most {conditions.file_limit} files may be open here")
        with running_server(server, conditions.server_cpu) as running:
            if scenario.kind == "memory":
                value, detail = _memory(scenario, running, conditions)
            else:
                value, detail = _rate(scenario, running, conditions)
    except MeasureError as error:
        return Sample(round_, scenario.name, server, None, str(error))
    return Sample(round_, scenario.name, server, value, None, detail)


def _rate(scenario: Scenario, server: Server, conditions: Conditions) -> tuple[float, dict[str, Any]]:
    durations = ["-t", str(conditions.seconds), "-W", str(conditions.warm_up)]
    arguments = [*scenario.arguments(), *durations]
    timeout = _connect_timeout(scenario) + conditions.seconds + conditions.warm_up
    waited, since = server.waited_ns(), time.monotonic()
    with running_generator(arguments, server.port, conditions.generator_cpu) as generator:
        said = generator.next_line(timeout)
    server.check_alive()
    share = (server.waited_ns() - waited) / 1e9 / (time.monotonic() - since)
    check_complete(said, scenario)
    rate = float(said["per_s"])
    if not rate:
        raise MeasureError("nothing came back")
    return rate, {**said, "server_waited_share": round(share, 3)}


def _memory(scenario: Scenario, server: Server, conditions: Conditions) -> tuple[float, dict[str, Any]]:
    time.sleep(1)
    before = server.resident_kib()
    arguments = [*scenario.arguments(), "-t", "600"]  # ended sooner, when the memory is read
    with running_generator(arguments, server.port, conditions.generator_cpu) as generator:
        said = generator.next_line(_connect_timeout(scenario))
        time.sleep(SETTLE)
        server.check_alive()
        after = server.resident_kib()
    check_complete(said, scenario)
    detail = {**said, "rss_before_kib": before, "rss_after_kib": after}
    return (after - before) / scenario.connections, detail


def _connect_timeout(scenario: Scenario) -> float:
    return CONNECT_ALLOWANCE + scenario.connections / 100


def check_complete(said: dict[str, Any], scenario: Scenario) -> None:
    """Refuse a figure that was reached with fewer connections than it claims.

    Raises:
        MeasureError: if connections failed, were lost or did not get ready.
    """
    lost = int(said.get("lost", said.get("failed", 0)))
    ready = int(said.get("ready", scenario.connections))
    if scenario.stalled:  # a server may cut off those that never read
        lost = max(0, lost - scenario.stalled)
        ready += scenario.stalled
    if lost or ready < scenario.connections:
        raise MeasureError(f"{ready} of {scenario.connections} connections held, {lost} lost")
