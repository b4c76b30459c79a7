"""Compare one process with several at one port: echoes and deliveries per second.

    python -m bench.cluster.workers [--seconds 5] [--rounds 3] [--workers 1 2]

Nothing is bound to a core: the generator and the workers share the machine, so what several workers gain
shows only where there are cores for all of them. Prints one line of JSON for each round, and then the best.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

from bench import processes
from bench.processes import BIN, ROOT, START_TIMEOUT, Generator, MeasureError, Server, build, child

LOADS = {
    "echo, 100 x 16 in flight": ["-m", "echo", "-c", "100", "-w", "16"],
    "echo, 100 conns, 1 in flight": ["-m", "echo", "-c", "100", "-w", "1"],
    "fan-out to 1000": ["-m", "fanout", "-c", "1000", "-w", "2"],
}


@contextlib.contextmanager
def serving(workers: int) -> Iterator[int]:
    """Serve the benchmark's broker with so many processes; return the port."""
    port = processes.free_port()
    command = [sys.executable, "-m", "broker", "serve", "bench.servers.ours:broker"]
    command += ["--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--drain-timeout", "0.1"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        child(command, ROOT, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        processes.wait_until_accepting(Server(process, port, errors))
        _wait_for_all(errors)
        yield port


def _wait_for_all(errors: IO[str]) -> None:
    """Wait for the line that says that all of them listen."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        errors.seek(0)
        if "listening on" in errors.read():
            return
        time.sleep(0.05)
    raise MeasureError("the workers did not all start")


def measure(load: Sequence[str], workers: int, seconds: int) -> float:
    """Return what came through per second."""
    with serving(workers) as port, tempfile.TemporaryFile("w+") as errors:
        command = [str(BIN / "sioload"), "-p", str(port), *load, "-t", str(seconds), "-W", "1"]
        with child(command, ROOT, stdout=subprocess.PIPE, stderr=errors) as process:
            said = Generator(process, errors).next_line(60 + seconds)
    return float(said["per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description="One process and several at one port.")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    build()
    processes.raise_file_limit()
    best: dict[str, dict[int, float]] = {title: {} for title in LOADS}
    for round_number in range(arguments.rounds):
        for title, load in LOADS.items():
            for workers in arguments.workers:
                rate = measure(load, workers, arguments.seconds)
                best[title][workers] = max(rate, best[title].get(workers, 0.0))
                said = {"round": round_number, "load": title, "workers": workers, "per_s": round(rate)}
                print(json.dumps({**said, "machine_load": round(os.getloadavg()[0], 1)}), flush=True)
    for title, rates in best.items():
        print(title, *(f"{workers} workers: {rate:,.0f}/s" for workers, rate in rates.items()), sep="  ")


if __name__ == "__main__":
    main()
