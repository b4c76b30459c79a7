"""Feed each target odd input: by atheris where it is installed, else by mutations of good input.

    python -m fuzz --seconds 60            every target for a minute
    python -m fuzz json_text request_head  these two

A finding ends the run with status 1; atheris leaves the input in the working directory.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time

from .mutation import mutations
from .targets import SEEDS, TARGETS


def run_mutations(name: str, seconds: float) -> int:
    """Try input until the time is over; return how much was tried."""
    target, tried = TARGETS[name], 0
    end = time.monotonic() + seconds
    for data in mutations(SEEDS[name], seed=0):
        try:
            target(data)
        except BaseException:
            print(f"{name}: found with {data!r}", file=sys.stderr)
            raise
        tried += 1
        if time.monotonic() > end:
            break
    return tried


def main() -> int:
    """Run the chosen targets, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="how long for each target")
    options = parser.parse_args()
    failed = 0
    for name in options.targets or TARGETS:
        if importlib.util.find_spec("atheris") is None:
            print(f"{name}: {run_mutations(name, options.seconds):,} inputs, nothing found")
            continue
        command = [sys.executable, "-m", "fuzz.libfuzzer", name, str(options.seconds)]
        try:
            ended = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=2 * options.seconds + 60
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: ? inputs, FOUND: it does not end")
            failed += 1
            continue
        stats = [line for line in ended.stderr.splitlines() if line.startswith("stat::number_of_executed")]
        print(f"{name}: {stats[0].split()[-1] if stats else '?'} inputs, {_outcome(ended)}")
        failed += ended.returncode != 0
    return 1 if failed else 0


def _outcome(ended: subprocess.CompletedProcess[str]) -> str:
    return "nothing found" if ended.returncode == 0 else f"FOUND:\n{ended.stderr[-4000:]}"


if __name__ == "__main__":
    sys.exit(main())
