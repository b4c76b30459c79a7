"""A server process that is measured: started, asked for figures and ended by the one who measures."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.processes import ROOT, Generator, MeasureError, child

ANSWER_TIMEOUT = 30.0
START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Service(Generator):
    """A running `bench.hold.server`; it is asked by JSON, a line each, and answers so."""

    port: int = 0

    def tell(self, what: str, **how: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": what, **how}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise MeasureError("the server has ended") from None

    def ask(self, what: str, timeout: float = ANSWER_TIMEOUT, **how: Any) -> dict[str, Any]:
        """Send a command and return its answer.

        Raises:
            MeasureError: if the server has ended or does not answer in time.
        """
        self.tell(what, **how)
        return self.next_line(timeout)


@contextlib.contextmanager
def running_service(cpu: int, **options: Any) -> Iterator[Service]:
    """Start a server on one core; end it on exit.

    Args:
        cpu: The core.
        options: Settings of the broker; `limits` is a mapping.
    """
    python = ["taskset", "-c", str(cpu), sys.executable]
    with running([*python, "-m", "bench.hold.server", json.dumps(options)]) as service:
        yield service


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[Service]:
    """Start a program that says its port and then obeys; end it on exit."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        child(command, ROOT, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.PIPE) as process,
    ):
        port = Service(process, errors).next_line(START_TIMEOUT)["port"]
        yield Service(process, errors, port)
