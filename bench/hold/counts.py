"""Figure 5: how many WebSocket cases, hostile inputs and fuzzed inputs there were, and what came of them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.processes import ROOT, MeasureError, child

from .figure import Claim, Plan, say

VERDICTS = re.compile(r"^(\w+) +([\d,]+) strict, ([\d,]+) non-strict, ([\d,]+) failed$", re.MULTILINE)
SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
FUZZED = re.compile(r"^(\w+): ([\d,?]+) inputs, (.*)$", re.MULTILINE)
CANARIES = 50
ALLOWANCE = 1_500.0
SHORT_ALLOWANCE = 60.0


def measure(plan: Plan) -> list[Claim]:
    """Run the suites that count; what goes wrong with one is a claim, and the others are run."""
    claims: list[Claim] = []
    for part in (_websocket_cases, _hostile, _fuzz):
        try:
            claims += part(plan)
        except MeasureError as error:
            claims.append(Claim("could be counted", "", f"no: {error}", met=False))
    return claims


def _allowance(plan: Plan) -> float:
    return SHORT_ALLOWANCE if plan.short else ALLOWANCE


def run(arguments: list[str], allowance: float, **environment: str) -> tuple[int, str]:
    """Run a Python module; return its status and what it has said.

    Raises:
        MeasureError: if it takes too long.
    """
    with _environment(environment), tempfile.TemporaryFile("w+") as output:
        with child([sys.executable, "-m", *arguments], ROOT, stdout=output, stderr=output) as process:
            try:
                status = process.wait(allowance)
            except subprocess.TimeoutExpired:
                raise MeasureError(f"{' '.join(arguments)} took longer than {allowance:g} s") from None
        output.seek(0)
        return status, output.read()


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _number(text: str) -> int:
    return int(text.replace(",", "")) if text != "?" else 0


def verdicts_in(output: str) -> dict[str, tuple[int, int, int]]:
    """Read strict, non-strict and failed by place out of what the cases say at their end."""
    return {place: (_number(a), _number(b), _number(c)) for place, a, b, c in VERDICTS.findall(output)}


def summary_in(output: str) -> dict[str, int]:
    """Read the counts of pytest's last line."""
    lines = [line for line in output.splitlines() if SUMMARY.search(line)]
    return {
        word.rstrip("s") if word.startswith("error") else word: int(number)
        for number, word in SUMMARY.findall(lines[-1] if lines else "")
    }


def _websocket_cases(plan: Plan) -> list[Claim]:
    chosen = ["-k", "1.1 or 7.9"] if plan.short else []
    status, output = run(
        ["pytest", "tests/websocket", "-q", *chosen],
        _allowance(plan),
        BROKER_WEBSOCKET_CASES="" if plan.short else "full",
    )
    places = verdicts_in(output)
    strict, weaker, failed = (sum(one[index] for one in places.values()) for index in range(3))
    say(f"counts: WebSocket cases {places}, status {status}")
    by_place = ", ".join(f"{place} {sum(counts):,}" for place, counts in places.items())
    return [
        Claim.told("WebSocket cases", f"{strict:,} strict, {weaker:,} non-strict ({by_place})"),
        Claim("WebSocket cases failed", "0", f"{failed:,}", status == 0 and failed == 0 and strict > 0),
    ]


def _hostile(plan: Plan) -> list[Claim]:
    canaries = 3 if plan.short else CANARIES
    chosen = ["-k", "row_4"] if plan.short else []
    began = time.monotonic()
    status, output = run(
        ["pytest", "tests/hostile", "-q", *chosen], _allowance(plan), BROKER_CANARIES=str(canaries)
    )
    counts = summary_in(output)
    failed = counts.get("failed", 0) + counts.get("error", 0)
    say(f"counts: hostile inputs {counts}, status {status}, {time.monotonic() - began:.0f} s")
    if failed:
        say("\n".join(line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))))
    return [
        Claim.told("hostile inputs", f"{counts.get('passed', 0):,}, each while {canaries} clients talk"),
        Claim("hostile inputs that broke a promise", "0", f"{failed:,}", status == 0 and not failed),
    ]


def _fuzz(plan: Plan) -> list[Claim]:
    seconds = 0.2 if plan.short else plan.fuzz_seconds
    status, output = run(["fuzz", "--seconds", str(seconds)], _allowance(plan) + 20 * seconds)
    found = FUZZED.findall(output)
    total = sum(_number(number) for _, number, _ in found)
    crashes = sum(outcome != "nothing found" for _, _, outcome in found) + (status != 0 and not found)
    say(f"counts: {total:,} inputs for {len(found)} parsers, status {status}")
    return [
        Claim.told("fuzzed inputs", f"{total:,} for {len(found)} parsers"),
        Claim("crashes", "0", f"{crashes:,}", status == 0 and not crashes and total > 0),
    ]
