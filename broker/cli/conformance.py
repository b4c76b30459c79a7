"""Run the conformance kit from the command line."""

from __future__ import annotations

import argparse
import ssl
import sys
from functools import partial
from pathlib import Path

import trio

from broker.cli.errors import EXIT_FAILED, CommandError
from broker.conformance import Deviation, Report, judge_server
from broker.conformance.client_role import judge_client
from broker.conformance.reports import Terminal, to_html, to_json, to_junit
from broker.conformance.target import parse_url


def conformance(arguments: argparse.Namespace) -> int:
    """Judge a server or a client; return 0 if no case failed, else 1.

    Raises:
        CommandError: There is nothing to judge, or a report cannot be written.
    """
    if (arguments.url is None) == (arguments.listen is None):
        raise CommandError("give either the URL of a server, or --listen for a client")
    if arguments.listen is not None and arguments.listen.host is None:
        raise CommandError(f"--listen needs HOST:PORT for clients to come to, not {arguments.listen.text}")
    terminal = Terminal(sys.stdout, live=sys.stdout.isatty())
    try:
        if arguments.listen is None:
            report = trio.run(partial(_server, arguments, terminal))
        else:
            report = trio.run(partial(_client, arguments, terminal))
    except (OSError, Deviation, ValueError) as error:
        raise CommandError(f"nothing to judge: {error}") from error
    terminal.finish(report)
    _write(arguments, report)
    return 0 if report.passed else EXIT_FAILED


async def _server(arguments: argparse.Namespace, terminal: Terminal) -> Report:
    tls = ssl.create_default_context(cafile=arguments.cafile) if arguments.cafile else None
    return await judge_server(
        parse_url(arguments.url, tls),
        only=arguments.only,
        workers=arguments.workers,
        patience=arguments.patience,
        progress=terminal.progress,
        begun=terminal.begin,
    )


async def _client(arguments: argparse.Namespace, terminal: Terminal) -> Report:
    by_hand = arguments.client is None
    return await judge_client(
        arguments.listen.host,
        arguments.listen.port,
        command=arguments.client,
        only=arguments.only,
        workers=arguments.workers,
        progress=None if by_hand else terminal.progress,
        begun=terminal.begin,
        wait=arguments.wait,
        tell=_say,
    )


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _write(arguments: argparse.Namespace, report: Report) -> None:
    for path, build in ((arguments.json, to_json), (arguments.junit, to_junit), (arguments.html, to_html)):
        if path is None:
            continue
        content = build(report)
        try:
            Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from error
