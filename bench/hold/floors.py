"""Figure 6: the floors of speed, measured by the benchmark beside Node and the limit."""

from __future__ import annotations

import json

from bench.processes import ROOT, MeasureError

from .counts import run
from .figure import Claim, Plan, say

FILE = ROOT / "build" / "hold-bench.json"
ALLOWANCE = 3_600.0


def measure(plan: Plan) -> list[Claim]:
    """Run the benchmark, print its tables, and take over its verdicts."""
    FILE.parent.mkdir(exist_ok=True)
    short = ["--quick", "--servers", "limit,ours", "--scenarios", "echo"] if plan.short else []
    cores = ["--server-cpu", str(plan.server_cpu), "--generator-cpu", str(plan.load_cpu)]
    status, output = run(["bench.run", "--json", str(FILE), *cores, *short], ALLOWANCE)
    if status:
        raise MeasureError(f"bench.run ended with status {status}: {output[-300:]}")
    say(output)
    floors = json.loads(FILE.read_text())["floors"]
    return [Claim(one["title"], one["bound"], one["measured"], one["met"]) for one in floors]
