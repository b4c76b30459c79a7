"""Measure the client beside python-socketio's: ``python -m bench.client_throughput``.

Both speak to the same server of Node's.

Each client runs in a process of its own on one core, the server on another. Events carry 64 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench import processes

PAYLOAD = "x" * 64
PACE = 500
CLIENTS = {"ours": "this client", "python-socketio": "python-socketio AsyncClient"}
COLUMNS = {"in": "events in /s", "out": "events out /s", "calls": "calls /s, 1 in flight"}
TIME_LIMIT = 120.0


async def measure_ours(url: str, count: int) -> dict[str, float]:
    import trio

    from broker import open_client

    async with open_client(url, transports=("websocket",)) as client:
        received = 0
        done = trio.Event()

        @client.on("tick")
        def tick(payload: Any) -> None:
            nonlocal received
            received += 1
            if received == count:
                done.set()

        sent = 0

        async def emit(event: str, *args: Any) -> None:
            # `emit` never waits, so now and then the sender does.
            nonlocal sent
            client.emit(event, *args)
            sent += 1
            if sent % PACE == 0:
                await client.flush()

        await client.wait_connected()
        return await _measure(emit, client.call, done.wait, count)


async def measure_python_socketio(url: str, count: int) -> dict[str, float]:
    import asyncio

    import socketio

    client = socketio.AsyncClient()
    received = 0
    done = asyncio.Event()

    @client.on("tick")
    def tick(payload: Any) -> None:
        nonlocal received
        received += 1
        if received == count:
            done.set()

    async def emit(event: str, *args: Any) -> None:
        await client.emit(event, args)

    async def call(event: str, *args: Any) -> Any:
        return await client.call(event, args, timeout=TIME_LIMIT)

    await client.connect(url, transports=["websocket"])
    rates = await _measure(emit, call, done.wait, count)
    await client.disconnect()
    return rates


async def _measure(
    emit: Callable[..., Awaitable[Any]],
    call: Callable[..., Awaitable[Any]],
    all_received: Callable[[], Awaitable[Any]],
    count: int,
) -> dict[str, float]:
    for _ in range(200):
        await call("echo", PAYLOAD)
    rates: dict[str, float] = {}
    began = time.perf_counter()
    await emit("flood", count, PAYLOAD)
    await all_received()
    rates["in"] = count / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(count):
        await emit("count", PAYLOAD)
    total = await call("total")
    assert total == count, f"the server got {total} of {count}"
    rates["out"] = count / (time.perf_counter() - began)
    calls = count // 10
    began = time.perf_counter()
    for _ in range(calls):
        await call("echo", PAYLOAD)
    rates["calls"] = calls / (time.perf_counter() - began)
    return rates


def run_client(name: str, port: int, count: int) -> dict[str, float]:
    """Measure in this process."""
    url = f"http://127.0.0.1:{port}"
    if name == "ours":
        import trio

        return trio.run(measure_ours, url, count)
    import asyncio

    return asyncio.run(measure_python_socketio(url, count))


def measure_clients(rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Measure both clients in turns; return the medians of their rates, by client and column.

    Raises:
        MeasureError: The server or a client failed.
    """
    processes.install_node_packages()
    cores = sorted(os.sched_getaffinity(0))
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    for _ in range(rounds):
        for name in CLIENTS:
            with processes.running_server("client-peer", cores[0]) as server:
                samples[name].append(_child(name, server.port, count, cores[-1]))
    return {
        name: {column: statistics.median(sample[column] for sample in taken) for column in COLUMNS}
        for name, taken in samples.items()
    }


def _child(name: str, port: int, count: int, cpu: int) -> dict[str, float]:
    command = ["taskset", "-c", str(cpu), sys.executable, "-m", "bench.client_throughput"]
    command += ["--client", name, "--port", str(port), "--count", str(count)]
    try:
        ran = subprocess.run(
            command, cwd=processes.ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise processes.MeasureError(f"{name} took longer than {TIME_LIMIT:g} s") from None
    if ran.returncode:
        raise processes.MeasureError(f"{name} failed: {(ran.stderr.strip().splitlines() or ['?'])[-1]}")
    rates: dict[str, float] = json.loads(ran.stdout)
    return rates


def table(rates: dict[str, dict[str, float]]) -> str:
    """Return the rates as a Markdown table."""
    lines = [
        f"| client, against Node socket.io | {' | '.join(COLUMNS.values())} |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for name, title in CLIENTS.items():
        figures = " | ".join(f"{rates[name][column] / 1000:.1f} k" for column in COLUMNS)
        lines.append(f"| {title} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.client_throughput", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=50_000, help="events of one measurement")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(run_client(options.client, options.port, options.count)))
        return 0
    try:
        print(table(measure_clients(options.rounds, options.count)))
    except processes.MeasureError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
