"""Offer the commands of `python -m broker`: serve, demo, connect, harness, conformance, check-config."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from broker.cli import commands
from broker.cli.arguments import build_parser
from broker.cli.errors import CommandError

__all__ = ["main"]

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as a shell tells of a program that SIGPIPE has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 after a clean end, which a first Ctrl-C or SIGTERM brings about too; 1 when the broker could not
    start, or a conformance case failed; 2 for wrong usage or settings; 130 for a Ctrl-C where there is
    nothing to end; 141 when nobody reads the output any more.

    Args:
        argv: The arguments after the program's name; None takes those of the process.

    Raises:
        SystemExit: argparse printed the help, or what is wrong with the arguments (code 2).
    """
    arguments = build_parser().parse_args(argv)
    try:
        return _dispatch(arguments)
    except CommandError as error:
        for line in error.lines:
            sys.stderr.write(f"broker: {line}\n")
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError, BaseExceptionGroup) as error:
        return _interrupted(error)


def _interrupted(error: BaseException) -> int:
    """Return the exit code of an end from outside, which nurseries wrap in groups; raise what is none."""
    for kind, code in ((KeyboardInterrupt, EXIT_INTERRUPTED), (BrokenPipeError, EXIT_UNREAD)):
        alone = isinstance(error, BaseExceptionGroup) and error.split(kind)[1] is None
        if isinstance(error, kind) or alone:
            if kind is BrokenPipeError:
                sys.stdout = None  # or the interpreter complains when it ends
            return code
    raise error


def _dispatch(arguments: argparse.Namespace) -> int:
    if arguments.command == "check-config":
        return commands.check_config(arguments.file)
    if arguments.command == "connect":
        return commands.connect(arguments)
    if arguments.command == "harness":
        return commands.harness(arguments)
    if arguments.command == "conformance":
        from broker.cli.conformance import conformance  # needed here alone

        return conformance(arguments)
    if arguments.command == "demo":
        return commands.demo(arguments)
    return commands.serve(arguments)
