"""Says on which machine, with which versions and from which commit a run was made."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

from bench.processes import HERE, ROOT

PACKAGES = (
    "trio",
    "orjson",
    "wsproto",
    "h11",
    "trio-websocket",
    "hypercorn",
    "python-socketio",
    "uvicorn",
    "uvloop",
    "websockets",
)


def describe() -> dict[str, str]:
    """Return the facts of the machine, versions, commit and date, by title."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _package(name) for name in PACKAGES},
        "node": _output("node", "--version").removeprefix("v"),
        "socket.io": _node_package("socket.io"),
        "ws": _node_package("ws"),
        "C compiler": (_output("cc", "--version").splitlines() or ["-"])[0],
    }


def load_average() -> float:
    """Return the machine's load of the last minute: above 1 before a run, it is not alone."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    return f"{commit} with changes" if changed not in ("", "-") else commit


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _node_package(name: str) -> str:
    try:
        text = (HERE / "node" / "node_modules" / name / "package.json").read_text()
    except FileNotFoundError:
        return "-"
    return str(json.loads(text)["version"])


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return "-"
    return done.stdout.strip() if done.returncode == 0 else "-"
