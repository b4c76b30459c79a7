"""Serve a broker with several processes: the supervisor, and the command that each of them runs."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import trio

from broker.cli import logs
from broker.cli.arguments import Address
from broker.cli.errors import EXIT_FAILED, CommandError
from broker.cli.serving import told
from broker.server.workers import Crew, Place, supervise
from protocol.engineio.owner import WORKERS


def supervise_workers(arguments: argparse.Namespace, addresses: Sequence[Address]) -> int:
    """Serve with `--workers` processes until a signal ends them; return the exit code.

    The supervisor does not import the application: each process does, in an interpreter of its own.

    Raises:
        CommandError: There are too many, or it cannot listen at one of the addresses.
    """
    if arguments.workers > WORKERS:
        raise CommandError(f"there can be {WORKERS} workers at most, not {arguments.workers}")
    logs.configure(arguments.log_level, arguments.log_format)
    crew = Crew(
        count=arguments.workers,
        addresses=[address.text for address in addresses],
        command=functools.partial(build_command, arguments),
        drain_timeout=arguments.drain_timeout,
        scheme="http" if arguments.certfile is None else "https",
        worker_timeout=arguments.worker_timeout,
    )
    try:
        return trio.run(functools.partial(supervise, crew))
    except OSError as error:
        raise CommandError(told(error, addresses), exit_code=EXIT_FAILED) from error


def build_command(arguments: argparse.Namespace, place: Place) -> list[str]:
    """Return the command line of one process."""
    command = [sys.executable, "-m", "broker", "serve", arguments.target, "--worker", place.to_text()]
    for name in ("config", "app", "certfile", "keyfile", "node", "drain_timeout", "log_level", "log_format"):
        value = getattr(arguments, name)
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    for number, address in arguments.peer:
        command += ["--peer", f"{number}={address.text}"]
    return command
